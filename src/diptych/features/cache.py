"""Features that were computed before, in one SQLite file: found by what is in the image, not by what it is called.

The key is the SHA-256 of the image file together with the identity of the extractor, so a renamed image is known, an
edited one is new, and a change of weights never meets the old numbers. Several processes may share the file.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError

PATIENCE_S = 60  # how long to wait for another process that is writing
TABLE = """CREATE TABLE IF NOT EXISTS features (
    image BLOB, extractor TEXT, numbers BLOB, PRIMARY KEY (image, extractor)
) WITHOUT ROWID"""


def default_folder() -> Path:
    """`$DIPTYCH_CACHE`, else `$XDG_CACHE_HOME/diptych`, else `~/.cache/diptych`."""
    if chosen := os.environ.get("DIPTYCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych"


def image_key(file: Path) -> bytes:
    """SHA-256 of the file's bytes. Raises `DiptychError` naming a file that cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as problem:
        raise DiptychError(f"{file}: cannot be read ({problem.strerror}); repair it or take it out") from None


class FeatureCache:
    """The features of one extractor; made by `open_cache`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, extractor: str) -> None:
        self._connection, self._path, self._extractor = connection, path, extractor

    def find(self, images: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Those of the image keys that are known, each with its features `(D,)`."""
        query = "SELECT numbers FROM features WHERE image = ? AND extractor = ?"
        found = {}
        with _explained(self._path):
            for image in images:
                row = self._connection.execute(query, (image, self._extractor)).fetchone()
                if row is not None:
                    found[image] = np.frombuffer(row[0], "<f4").astype(np.float32)
        return found

    def add(self, features: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Write features `(D,)` by image key to the disk, at once."""
        rows = [(image, self._extractor, numbers.astype("<f4").tobytes()) for image, numbers in features.items()]
        with _explained(self._path), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)


@contextmanager
def open_cache(folder: Path, extractor: str) -> Iterator[FeatureCache]:
    """The cache in `folder` (made where missing) for the extractor with this identity, closed afterwards.

    Raises `DiptychError` where the folder cannot be written or the file is damaged.
    """
    path = folder / "features.sqlite"
    with _explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=PATIENCE_S)
    with closing(connection):
        with _explained(path), connection:
            connection.execute(TABLE)
        yield FeatureCache(connection, path, extractor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.OperationalError) as problem:
        raise DiptychError(
            f"{path}: the cache of features cannot be used ({problem}); "
            "set the environment variable DIPTYCH_CACHE to a folder that can be written"
        ) from None
    except sqlite3.DatabaseError as problem:
        raise DiptychError(f"{path}: the cache of features is damaged ({problem}); delete this file") from None
