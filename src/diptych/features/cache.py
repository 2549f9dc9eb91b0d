"""Features that were computed before, in one SQLite file: found by what is in the image, not by what it is called.

The key is the SHA-256 of the image file together with the identity of the extractor, so a renamed image is known, an
edited one is new, and a change of weights never meets the old numbers. Several processes may share the file.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.cache import explained, in_parts, marks, open_database

TABLE = """CREATE TABLE IF NOT EXISTS features (
    image BLOB, extractor TEXT, numbers BLOB, PRIMARY KEY (image, extractor)
) WITHOUT ROWID"""


class FeatureCache:
    """The features of one extractor, float32 or what its numbers are kept in; made by `open_cache`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, extractor: str, kept: str) -> None:
        self._connection, self._path, self._extractor, self._kept = connection, path, extractor, np.dtype(kept)

    def find(self, images: Iterable[bytes]) -> dict[bytes, NDArray[Any]]:
        """Those of the image keys that are known, each with its features `(D,)`."""
        found = {}
        with explained(self._path):
            for part in in_parts(images):
                query = f"SELECT image, numbers FROM features WHERE extractor = ? AND image IN ({marks(part)})"
                for image, numbers in self._connection.execute(query, (self._extractor, *part)):
                    found[image] = np.frombuffer(numbers, self._kept).astype(self._kept.newbyteorder("="))
        return found

    def add(self, features: Mapping[bytes, NDArray[Any]]) -> None:
        """Write features `(D,)` by image key to the disk, at once."""
        rows = [(image, self._extractor, numbers.astype(self._kept).tobytes()) for image, numbers in features.items()]
        with explained(self._path), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)


@contextmanager
def open_cache(folder: Path, extractor: str, kept: str = "<f4") -> Iterator[FeatureCache]:
    """The cache in `folder` (made where missing) for the extractor with this identity, closed afterwards.

    Its numbers are on disk as numpy's type `kept`.

    Raises `DiptychError` where the folder cannot be written or the file is damaged.
    """
    path = folder / "features.sqlite"
    with open_database(path, TABLE) as connection:
        yield FeatureCache(connection, path, extractor, kept)
