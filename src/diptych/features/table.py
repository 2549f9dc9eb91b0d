"""The features of many images while they come, row by row: in memory, or in a file where they would take too much."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from diptych.cache import explained

IN_MEMORY = 2**30
"""Bytes. 100,000 images of 2048 numbers are still kept in memory, at 0.8 GB; a choice among a million should leave half
of 2 GiB to the rest of its work."""


class Table:
    """float32 `(N, D)`, written row by row, then read as an array.

    A large one lies in a file without a name in `folder`, which the system deletes as soon as nobody holds it, after a
    kill, too. It is written by plain writes: a full disk is then an error, and not the end of the process.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.length = folder, rows
        self.width = 0  # until the first row says more
        self.values: NDArray[np.float32] | IO[bytes]

    def put(self, rows: Sequence[int], numbers: NDArray[np.float32]) -> None:
        """Write the numbers `(D,)` into each of the rows."""
        if not self.width:
            self._begin(len(numbers))
        if isinstance(self.values, np.ndarray):
            self.values[rows] = numbers
            return
        with explained(self.folder):
            for row in rows:
                self.values.seek(row * 4 * self.width)
                self.values.write(numbers.astype(np.float32, copy=False).tobytes())

    def array(self) -> NDArray[np.float32]:
        """All rows, once each has its numbers; those of a file are mapped, to be read only."""
        if isinstance(self.values, np.ndarray):
            return self.values
        with explained(self.folder), self.values as file:
            file.flush()
            return np.memmap(file, np.float32, "r", shape=(self.length, self.width))  # it holds the file by itself

    def _begin(self, width: int) -> None:
        self.width = width
        if 4 * self.length * width <= IN_MEMORY:
            self.values = np.empty((self.length, width), np.float32)
        else:
            with explained(self.folder):
                self.values = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - it lives as long as the table
