"""Where shards lie: a folder of this machine, or an address that fsspec reads. Both may hold anything."""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from diptych.errors import DiptychError, first_line, reason
from diptych.images import SHARDS
from diptych.reading import is_address, is_file, open_file
from diptych.saved import PackedShard

T = TypeVar("T")
TRIES = 5
WAIT_S = 1.0  # before the second try, twice as long before each further one
PIECE = 2**20  # bytes
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Place(Protocol):
    def named(self, name: str) -> str:
        """The file `name` there, in a message."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of the small file `name`; raises `DiptychError` where it cannot be had."""
        ...


def is_packed(where: str) -> bool:
    """Whether `where` is a folder of shards, or an address, which nothing else is read from."""
    return is_address(where) or is_file(Path(where) / SHARDS)


def place_of(where: str) -> "Folder | Address":
    """The folder or address; raises `DiptychError` where nothing here reads from such an address."""
    return Address(where) if is_address(where) else Folder(Path(where))


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._checked: set[str] = set()

    def named(self, name: str) -> str:
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        try:
            with open_file(self.path / name) as file:
                return file.read()
        except OSError as problem:
            raise DiptychError(
                f"{self.named(name)}: missing or damaged ({reason(problem)}); bring it back, or pack again"
            ) from None

    def open(self, shard: PackedShard) -> BinaryIO:
        """The shard, read once from end to end to see that it is whole."""
        try:
            file = open_file(self.path / shard.name)
            why = None if shard.name in self._checked else wrong_with(file, shard)
        except OSError as problem:
            why = f"cannot be read ({reason(problem)})"
        if why is not None:
            raise DiptychError(f"{self.named(shard.name)}: {why}; bring it back from a copy, or pack again")
        self._checked.add(shard.name)
        return file

    def mark(self, file: BinaryIO) -> None:
        """Nothing is written down: the folder is somebody's own."""


class Address:
    """An address of fsspec, such as s3://bucket/folder."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        scheme = url.partition(":")[0]
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise DiptychError(f"{url}: is read by fsspec, which is not there; pip install 'diptych[shards]'") from None
        try:
            self._files: Any
            self._files, self._root = url_to_fs(self.url)
        except ImportError as problem:
            raise DiptychError(
                f"{url}: fsspec lacks what reads {scheme}:// ({first_line(problem)}); pip install 'diptych[shards]' "
                f"brings http, 'fsspec[{scheme}]' the others"
            ) from None
        except ValueError as problem:
            raise DiptychError(f"{url}: fsspec cannot read from it ({first_line(problem)}); mend the address") from None

    def named(self, name: str) -> str:
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes:
        return self._patiently(name, lambda: bytes(self._files.cat_file(self._at(name))))

    def fetch(self, shard: PackedShard, to: Path) -> None:
        """Write the shard to the file `to`, whole; raises `OSError` where the disk is full, else `DiptychError`."""

        def try_once() -> None:
            self._files.get_file(self._at(shard.name), str(to))
            with open_file(to) as file:
                why = wrong_with(file, shard)
            if why is not None:
                raise _OtherBytesError(why)

        self._patiently(shard.name, try_once)

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _patiently(self, name: str, do: Callable[[], T]) -> T:
        """`do()`, tried again where that may help."""
        tries = 0
        while True:
            tries += 1
            try:
                return do()
            except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as problem:
                why = "no such file" if isinstance(problem, FileNotFoundError) else first_line(problem)
                raise DiptychError(
                    f"{self.named(name)}: {why}; look whether it is the right address, or copy it there again"
                ) from None
            except Exception as problem:  # each of fsspec's file systems raises its own
                if isinstance(problem, OSError) and problem.errno in NO_ROOM:
                    raise
                if tries == TRIES:
                    what = f"{first_line(problem) or type(problem).__name__} ({TRIES} tries)"
                    mend = "copy it there again" if isinstance(problem, _OtherBytesError) else "try again later"
                    raise DiptychError(f"{self.named(name)}: {what}; {mend}") from None
            time.sleep(WAIT_S * 2 ** (tries - 1))


class _OtherBytesError(Exception):
    """What arrived is not the shard that the index names."""


def wrong_with(file: BinaryIO, shard: PackedShard) -> str | None:
    """What is wrong with the file of a shard, which is read whole; None where it is as it was packed."""
    size = file.seek(0, os.SEEK_END)
    if size != shard.bytes:
        return f"has {size:,} bytes, where {shard.bytes:,} were packed"
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    file.seek(0)
    if digest.hexdigest() != shard.sha256:
        return f"is damaged: its SHA-256 is not the one that {SHARDS} names"
    return None
