"""Lloyd's iteration over features of any number, part by part: what is in memory at once does not grow with N.

Features may be a `np.memmap`, and float16: each part becomes float32 when its turn comes, the whole never does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.selection.rows import Features, Rows

PART = 10_000  # rows; a set that fits into one part is summed in the order of its rows, as `mean` sums it


@dataclass(frozen=True)
class Clusters:
    labels: Rows  # (N,) in 0 .. k - 1: the nearest of the centres that were there before their last move
    centres: NDArray[Any]  # (k, D), after that move
    cost: float  # the sum of squared distances to the nearest centres


def lloyd(
    features: Features, centres: NDArray[Any], *, fixed: int, rounds: int, least_gain: float | None = None
) -> Clusters:
    """Move each of the centres `(k, D)` to the mean of the rows nearest to it, again and again, in a copy.

    The first `fixed` centres stay where they are, and so does one that no row is nearest to. Of equally near centres a
    row takes the first. It ends when no row changes its centre, after `rounds` rounds (at least 1) in any case, and, if
    `least_gain` is given, as soon as a round lowers the cost by less than this share of it (0.001: a thousandth).
    """
    labels, cost = np.full(len(features), -1, np.int64), np.inf
    for _ in range(rounds):
        labels_before, cost_before = labels, cost
        labels, cost, sums, sizes = _round(features, centres)
        centres = centres.copy()
        moving = np.flatnonzero(sizes[fixed:]) + fixed
        centres[moving] = sums[moving] / sizes[moving, None]
        settled = least_gain is not None and cost > (1 - least_gain) * cost_before
        if settled or np.array_equal(labels, labels_before):
            break
    return Clusters(labels, centres, cost)


def _round(features: Features, centres: NDArray[Any]) -> tuple[Rows, float, NDArray[np.float64], Rows]:
    """The nearest centre of each row, the cost, and for each centre the sum `(k, D)` and the number of its rows."""
    from sklearn.metrics import pairwise_distances_argmin_min

    labels, cost = np.empty(len(features), np.int64), 0.0
    sums, sizes = np.zeros(centres.shape), np.zeros(len(centres), np.int64)
    for part, rows in parts(features, PART):
        nearest, distances = pairwise_distances_argmin_min(rows, centres)  # float64 inside, and no table of them all
        cost += float((distances**2).sum())
        for centre in np.unique(nearest):
            sums[centre] += rows[nearest == centre].sum(0)  # float32 within a part, float64 from part to part
        sizes += np.bincount(nearest, minlength=len(centres))
        labels[part] = nearest
    return labels, cost, sums, sizes


def parts(features: Features, size: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Where each part of at most `size` rows lies, and its rows: as they are, float16 as float32."""
    for start in range(0, len(features), size):
        part = slice(start, min(start + size, len(features)))
        yield part, at_least_float32(features[part])


def at_least_float32(features: Features) -> NDArray[Any]:
    """An array in memory: float16 as float32, anything else without a copy."""
    return np.asarray(features, np.result_type(features.dtype, np.float32))


def squared_distances(features: Features, point: NDArray[Any]) -> NDArray[Any]:
    """Of every row to a point `(D,)`: `(N,)`; exactly 0 for equal ones."""
    squares = np.empty(len(features), np.result_type(features.dtype, np.float32))
    for part, rows in parts(features, 256):  # so few that their differences stay in the processor's cache
        apart = rows - point
        np.einsum("nd,nd->n", apart, apart, out=squares[part])
    return squares
