"""What the descriptors of pictures tell: near-duplicates, grey pictures, and swapped sides.

Two pictures are near-duplicates where their descriptors are less than `NEAR` apart. Measured on road scenes, aerial
photos and maps: a copy saved as JPEG of quality 20 lies at most 0.08 away, one of half the size 0.015, one cropped by
2 % on each side 0.09, one 5 % brighter about 0.05 (a drawing .15); the nearest two different pictures of two splits
0.16 and more, neighbouring frames of a video between the two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.checking.survey import Survey

Array = NDArray[np.float32]

LAYOUT = 96  # numbers of a descriptor, its first: means and spreads of three colours in 4 x 4 cells, times 0.25
NEAR = 0.1
AT_ONCE = 2048  # pictures of either folder whose distances are in memory together: 32 MB
FAINTEST_COLOUR = 0.004  # of a cell's mean or spread, of a range of 2: JPEG leaves less of it in a grey picture
APART = 0.98  # the share of pictures that must be on their own side before one is said to be on the wrong one


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of each picture of one folder the nearest one of another, or the nearest other one of the same."""

    rows: NDArray[np.int64]  # (N,), in the other folder
    distances: Array  # (N,), infinite where there is no other


def nearest(of: Survey, among: Survey) -> Nearest:
    """By the distance of their descriptors, exactly; memory does not grow with either folder.

    Time grows with the product of their numbers of pictures. Within one folder no picture is its own neighbour.
    """
    rows, distances = [], []
    first = 0
    for mine in of.traits.parts(AT_ONCE):  # (n, D)
        best = np.full(len(mine), np.inf, np.float32)
        where = np.zeros(len(mine), np.int64)
        before = 0
        for theirs in among.traits.parts(AT_ONCE):  # (m, D)
            squared = (mine**2).sum(1)[:, None] - 2 * (mine @ theirs.T) + (theirs**2).sum(1)  # (n, m)
            if of is among and before == first:
                np.fill_diagonal(squared, np.inf)
            column = squared.argmin(1)
            value = squared[np.arange(len(mine)), column]
            closer = value < best
            best[closer], where[closer] = value[closer], before + column[closer]
            before += len(theirs)
        first += len(mine)
        rows.append(where)
        distances.append(np.sqrt(best.clip(0)))
    return Nearest(np.concatenate(rows), np.concatenate(distances))


def grey(survey: Survey) -> NDArray[np.bool_]:
    """Which pictures of a folder hold no colour, whatever mode they are stored in, `(N,)`."""
    parts = []
    for features in survey.traits.parts(AT_ONCE):
        cells = features[:, :LAYOUT].reshape(len(features), -1, 6) * 4  # (n, 16, 6)
        # The means of red - green and yellow - blue, and their spreads.
        parts.append((np.abs(cells[:, :, [1, 2, 4, 5]]) < FAINTEST_COLOUR).all((1, 2)))
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Sides:
    """How the pictures of side a differ from those of side b: on which side of a plane a descriptor lies."""

    direction: NDArray[np.float64]  # (D,) from a to b
    middle: float

    def like_b(self, survey: Survey) -> NDArray[np.bool_]:
        """Which pictures of a folder look like those of side b, `(N,)`."""
        return np.concatenate([part @ self.direction > self.middle for part in survey.traits.parts(AT_ONCE)])


def sides_of(a: Survey, b: Survey) -> Sides | None:
    """A picture looks like the side whose mean descriptor is nearer. None where fewer than `APART` look like their own:
    such sides are too much alike to say that one is taken for the other."""
    centre_a, centre_b = (
        np.sum([part.sum(0, dtype=np.float64) for part in side.traits.parts(AT_ONCE)], axis=0) / side.traits.count
        for side in (a, b)
    )
    sides = Sides(centre_b - centre_a, float((centre_a + centre_b) @ (centre_b - centre_a) / 2))
    own = np.concatenate([~sides.like_b(a), sides.like_b(b)])
    return sides if own.mean() >= APART else None
