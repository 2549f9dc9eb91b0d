"""Which images are worth pairing: features to row numbers, one selector per file."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.selection import kmedoids, random
from diptych.selection.rows import Features


class Selector(Protocol):
    def __call__(
        self,
        features: Features,
        budget: int,
        rng: np.random.Generator,
        given: Sequence[int] = (),
    ) -> NDArray[np.int64]:
        """Features `(N, D)`, finite -> `(budget,)` different rows, sorted, with all rows of `given` among them.

        Features may be a `np.memmap`, or `RowsOf` one; they are neither changed nor, beyond some thousands, copied as a
        whole. The given rows count towards the
        budget. The same features and state of `rng` give the same rows.
        Raises `DiptychError` for a budget below 1, above N or below the number of given rows.
        """
        ...


SELECTORS: dict[str, Selector] = {"kmedoids": kmedoids.select, "random": random.select}
