"""Decoded images within a budget of bytes, in memory or on disk: what does not fit is decoded anew each time."""

import errno
import shutil
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError
from diptych.files import append

Array = NDArray[Any]  # pixels (H, W, C) or class rows (H, W)


class Shelf(Protocol):
    """Where arrays are kept."""

    def reserve(self, size: int) -> None:
        """Raises `DiptychError` where it has no room for `size` bytes."""
        ...

    def put(self, array: Array) -> Callable[[], Array]:
        """Keep `array`; return what gives it back."""
        ...


class InMemory:
    def reserve(self, size: int) -> None: ...

    def put(self, array: Array) -> Callable[[], Array]:
        return lambda: array


class OnDisk:
    """One file in `folder` that has no name, so that nothing of it is left however the process ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # as long as the run
        self.end = 0

    def reserve(self, size: int) -> None:
        if shutil.disk_usage(self.folder).free < size:
            raise self._is_full()

    def put(self, array: Array) -> Callable[[], Array]:
        start, self.end = self.end, self.end + array.nbytes
        # Written, not mapped: a full disk then is an error, where writing to a mapping would end the process.
        try:
            append(self.file, array.tobytes())
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._is_full() from None
        dtype, shape = array.dtype, array.shape  # the array itself goes
        return lambda: np.memmap(self.file, dtype, "r", start, shape)

    def _is_full(self) -> DiptychError:
        return DiptychError(
            f"{self.folder}: its disk has no room for the decoded images; give a smaller --cache-gib, --cache memory, "
            "or set the environment variable DIPTYCH_CACHE to a folder on another disk"
        )


class Decoded:
    """Arrays by key, as long as they fit into `budget` bytes."""

    def __init__(self, budget: int, shelf: Shelf) -> None:
        self.budget = self.left = budget
        self.shelf = shelf
        self.kept: dict[Hashable, Callable[[], Array]] = {}

    def get(self, key: Hashable, decode: Callable[[], Array]) -> Array:
        """The array of `key`: kept, or fresh from `decode()`. Not to be written to."""
        if key in self.kept:
            return self.kept[key]()
        array = decode()
        if array.nbytes <= self.left:
            self.left -= array.nbytes
            self.kept[key] = self.shelf.put(array)
        return array
