"""Chance: what every other selector has to beat."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.selection.budget import check_budget
from diptych.selection.rows import Features


def select(
    features: Features,
    budget: int,
    rng: np.random.Generator,
    given: Sequence[int] = (),
) -> NDArray[np.int64]:
    """The given rows and a uniform draw from the others; see `Selector`."""
    fixed = check_budget(len(features), budget, given)
    others = np.setdiff1d(np.arange(len(features)), fixed)
    return np.sort(np.concatenate([fixed, rng.choice(others, budget - len(fixed), replace=False)]))
