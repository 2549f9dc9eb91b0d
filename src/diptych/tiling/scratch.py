"""A file that holds one feature map, written and read window by window."""

import errno
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BYTES = 4  # of a float32


class ScratchFile:
    """float32 `(H, W, C)` in a file without a name, which the system deletes as soon as nobody holds it.

    Plain reads and writes rather than a memory map: what is read counts as this process's memory only while it is
    used, and a full disk is an OSError.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.channels, _, self.width = shape
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # it lives as long as the map

    def write(self, rows: range, columns: range, window: Tensor) -> None:
        """Keep the window `(1, C, rows, columns)`."""
        values = window[0].permute(1, 2, 0).contiguous().cpu().numpy()  # (rows, columns, C)
        for row, line in zip(rows, values, strict=True):
            self._seek(row, columns.start)
            rest = memoryview(line).cast("B")
            while rest:
                rest = rest[self.file.write(rest) :]

    def read(self, rows: range, columns: range) -> Tensor:
        """The window `(1, C, rows, columns)`, channels last in memory."""
        values: NDArray[np.float32] = np.empty((len(rows), len(columns), self.channels), np.float32)
        for row, line in zip(rows, values, strict=True):
            self._seek(row, columns.start)
            rest = memoryview(line).cast("B")
            while rest:
                count = self.file.readinto(rest)  # unbuffered, it is a FileIO
                if not count:
                    raise OSError(errno.EIO, "a scratch file ends too early")
                rest = rest[count:]
        return torch.from_numpy(values).permute(2, 0, 1)[None]

    def _seek(self, row: int, column: int) -> None:
        self.file.seek((row * self.width + column) * self.channels * BYTES)
