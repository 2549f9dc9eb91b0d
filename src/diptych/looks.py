"""What was seen in image files: size, bands, content, and what is wrong. Remembered, so that the second time is quick.

A file is known by its path, size, time of change and inode; one that has changed is looked at again, and so is one that
had a problem. What was seen in a class map also depends on its classes.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from PIL import Image

from diptych.bands import Bands, Header
from diptych.cache import default_folder, explained, image_key, in_parts, marks, open_database
from diptych.errors import DiptychError
from diptych.images import (
    Classes,
    ClassMap,
    check_samples,
    class_map_of,
    header_of,
    open_image,
    read_header,
    real_path,
    spoken,
)

VERSION = 1  # raise it whenever something else is seen in the same file
AT_ONCE = 1024  # files; what was seen survives an interruption in steps of this
TABLE = """CREATE TABLE IF NOT EXISTS looks (
    path TEXT, reading TEXT, stamp TEXT,
    channels INTEGER, bits INTEGER, alpha INTEGER, width INTEGER, height INTEGER, mode TEXT, content BLOB,
    PRIMARY KEY (path, reading)
) WITHOUT ROWID"""


@dataclass(frozen=True)
class Look:
    """What is in a file."""

    header: Header
    mode: str = ""  # Pillow's name, such as L, P or CMYK, where it has one; not from a head alone
    content: bytes = b""  # `image_key` of the file; not from a head alone


Seen = Look | DiptychError  # what is in the file, or what is wrong with it


@dataclass(frozen=True)
class Reading:
    """How files are looked at: the whole of them, as images or as maps of `classes`, or their heads alone."""

    classes: Classes | None = None
    heads: bool = False

    @property
    def identity(self) -> str:
        """Changes with everything that changes what is seen."""
        if self.heads:
            return f"{VERSION} head"
        if self.classes is None:
            return f"{VERSION} image"
        table = repr((self.classes.ids, self.classes.colours.tolist()))
        return f"{VERSION} classes {hashlib.sha256(table.encode()).hexdigest()[:16]}"


class Memory:
    """What was seen before; made by `open_memory`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def find(self, files: Iterable[tuple[str, str]], reading: Reading) -> dict[str, Look]:
        """Path -> what was seen, of those of the files (path, stamp) that have not changed since."""
        stamps, found = dict(files), {}
        with explained(self._path):
            for part in in_parts(stamps):
                query = f"SELECT * FROM looks WHERE reading = ? AND path IN ({marks(part)})"
                for path, _, stamp, *numbers, mode, content in self._connection.execute(
                    query, (reading.identity, *part)
                ):
                    if stamp == stamps[path]:
                        channels, bits, alpha, width, height = numbers
                        found[path] = Look(Header((width, height), channels, bits, bool(alpha)), mode, content)
        return found

    def add(self, looks: Iterable[tuple[str, str, Look]], reading: Reading) -> None:
        """Write down what was seen in files (path, stamp, look), at once; one without a stamp cannot be known again."""
        rows = [
            (path, reading.identity, stamp, *astuple(look.header)[1:], *look.header.size, look.mode, look.content)
            for path, stamp, look in looks
            if stamp
        ]
        with explained(self._path), self._connection:
            self._connection.executemany(f"INSERT OR REPLACE INTO looks VALUES ({', '.join('?' * 10)})", rows)


@contextmanager
def open_memory(note: Callable[[str], None] | None = None) -> Iterator[Memory]:
    """The memory in the cache folder, closed afterwards; if it cannot be used, `note` hears it and nothing lasts."""
    path = default_folder() / "looks.sqlite"
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(open_database(path, TABLE))
        except DiptychError as problem:
            if note is not None:
                note(f"what is seen in the images is not remembered: {problem}")
            connection = stack.enter_context(open_database(Path(":memory:"), TABLE))
        yield Memory(connection, path)


def stamps_of(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> what the memory calls that file of `folder`, and what changes with it; empty where it is not there."""
    on_disk, half = real_path(folder)
    root = os.path.realpath(on_disk)
    stamps = {}
    for name in names:
        path = os.path.join(root, name)  # noqa: PTH118  # a Path for each of 100,000 files takes a second
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            stamp = ""
        else:
            stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        key = path.encode(errors="backslashreplace").decode()  # folders' names may be no UTF-8
        stamps[name] = (f"{key}::{half}" if half else key, stamp)
    return stamps


def look_through(
    folder: Path, names: Sequence[str], reading: Reading, note: Callable[[str], None] | None = None
) -> Iterator[Seen]:
    """What is in each of the images of `folder`, in their order; `note` hears where it cannot be remembered."""
    with open_memory(note) as memory, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(names), AT_ONCE):
            stamps = stamps_of(folder, names[start : start + AT_ONCE])
            known = memory.find(stamps.values(), Reading(reading.classes))
            if reading.heads:  # who has seen the whole of a file has seen its head, too
                known |= memory.find([file for file in stamps.values() if file[0] not in known], reading)
            missing = [name for name, (key, _) in stamps.items() if key not in known]
            fresh = dict(zip(missing, threads.map(lambda name: look_at(folder / name, reading), missing), strict=True))
            memory.add([(*stamps[name], look) for name, look in fresh.items() if isinstance(look, Look)], reading)
            for name, (key, _) in stamps.items():
                yield fresh[name] if name in fresh else known[key]


def look_at(path: Path, reading: Reading) -> Seen:
    """What is in one image."""
    try:
        return Look(read_header(path)) if reading.heads else read_whole(path, reading.classes)[0]
    except DiptychError as problem:
        return problem


def read_whole(path: Path, classes: Classes | None) -> tuple[Look, Image.Image | Bands, ClassMap | None]:
    """What is in an image, the image, and its class rows if it is a map of `classes`; raises `DiptychError`."""
    image = open_image(path)
    rows = None if classes is None else class_map_of(image, classes, spoken(path))
    if rows is None:
        check_samples(image, spoken(path))
    mode = "" if isinstance(image, Bands) else image.mode
    return Look(header_of(image), mode, image_key(path)), image, rows
