"""Features of any number, and some rows of them that are not worth a copy, or too many for one."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class RowsOf:
    """Features `(n, D)`: these rows, sorted, of others `(N, D)`. What is asked for is read when it is asked for."""

    def __init__(self, features: "Features", rows: "Rows") -> None:
        self.features, self.rows = features, rows
        self.dtype: np.dtype[Any] = features.dtype
        self.shape: tuple[int, ...] = (len(rows), *features.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> NDArray[Any]:
        """As of an array: a row `(D,)` by its number, else a copy of those that a slice or an array chooses."""
        chosen: NDArray[Any] = self.features[self.rows[which]]
        return chosen

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


Features = NDArray[Any] | RowsOf  # (N, D), float16 or float32, finite
Rows = NDArray[np.int64]
