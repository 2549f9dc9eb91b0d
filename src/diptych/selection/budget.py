"""What every selector is asked, checked once for all of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError


def check_budget(rows: int, budget: int, given: Sequence[int]) -> NDArray[np.int64]:
    """The given rows, sorted, once it is sure that `budget` rows that hold them can be chosen among `rows`.

    Raises `DiptychError` for a budget below 1, above `rows` or below the number of given rows, and for given rows that
    do not exist or stand there twice.
    """
    if budget < 1:
        raise DiptychError(f"a budget of {budget} chooses nothing; give at least 1")
    if budget > rows:
        raise DiptychError(f"a budget of {budget} is more than the {rows} images there are; give at most {rows}")
    if budget < len(given):
        raise DiptychError(
            f"a budget of {budget} is less than the {len(given)} given images, which count towards it; "
            f"give at least {len(given)}"
        )
    fixed = np.unique(np.asarray(given, np.int64))
    if len(fixed) < len(given) or (len(fixed) and not 0 <= fixed[0] <= fixed[-1] < rows):
        raise DiptychError(f"the given images must be different rows among 0..{rows - 1}; they are {sorted(given)}")
    return fixed
