"""The cache folder: SQLite files of what was computed from images before. Several processes may share them.

An image is known by the SHA-256 of its file, so a renamed one is known and an edited one is new.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from diptych.errors import DiptychError, reason
from diptych.images import real_path
from diptych.reading import open_file

T = TypeVar("T")
PATIENCE_S = 60  # how long to wait for another process that is writing


def default_folder() -> Path:
    """`$DIPTYCH_CACHE`, else `$XDG_CACHE_HOME/diptych`, else `~/.cache/diptych`."""
    if chosen := os.environ.get("DIPTYCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych"


def image_key(file: Path) -> bytes:
    """SHA-256 of the file's bytes, and of which half of it is meant. Raises `DiptychError` where it cannot be read."""
    file, half = real_path(file)
    try:
        with open_file(file) as opened:
            digest = hashlib.file_digest(opened, "sha256")
    except OSError as problem:
        raise DiptychError(f"{file}: cannot be read ({reason(problem)}); repair it or take it out") from None
    digest.update((half or "").encode())
    return digest.digest()


@contextmanager
def open_database(path: Path, table: str) -> Iterator[sqlite3.Connection]:
    """The SQLite file at `path`, made where missing, with `table` (SQL) in it; closed afterwards.

    Raises `DiptychError` where it cannot be written or is damaged.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=PATIENCE_S)
    with closing(connection):
        with explained(path), connection:
            connection.execute(table)
        yield connection


def in_parts(keys: Iterable[T]) -> Iterator[list[T]]:
    """The keys, as many at a time as any SQLite takes in one query."""
    rest = iter(keys)
    while part := list(islice(rest, 500)):
        yield part


def marks(part: Sequence[object]) -> str:
    """What stands for the keys in that query: `?, ?, ?`."""
    return ", ".join("?" * len(part))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite says about the file at `path` into a `DiptychError`."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as problem:
        raise DiptychError(
            f"{path}: the cache cannot be used ({problem}); set the environment variable DIPTYCH_CACHE to a folder "
            "that can be written"
        ) from None
    except sqlite3.DatabaseError as problem:
        raise DiptychError(f"{path}: the cache is damaged ({problem}); delete this file") from None
