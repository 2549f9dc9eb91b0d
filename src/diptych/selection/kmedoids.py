"""The representative images of Shukla et al. 2019, section 3.2: one medoid for each cluster of k-means.

Rows that are given take part as centres that do not move, so the new ones settle where nothing is covered yet. That
part is ours; the paper chooses all at once.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.selection.budget import check_budget

Features = NDArray[np.float32]  # (N, D)
Rows = NDArray[np.int64]

RESTARTS = 10
MAX_ROUNDS = 300  # of Lloyd's iteration
CHUNK_MIB = 256  # of a distance matrix that is in memory at once
RESOLUTION = 1e-6  # of a cluster's radius: mean distances that differ by less are equal, and the first row wins


def select(features: Features, budget: int, rng: np.random.Generator, given: Sequence[int] = ()) -> Rows:
    """The given rows and the medoids of `budget - len(given)` clusters of the others; see `Selector`.

    Where there are fewer different features than `budget`, the row that is farthest from all chosen ones follows until
    the budget is used up (the first of equals).
    """
    fixed = check_budget(len(features), budget, given)
    if budget == len(fixed):
        return fixed
    if budget == len(features):
        return np.arange(budget, dtype=np.int64)
    clusters = _clusters_around(features, fixed, budget, rng) if len(fixed) else _clusters(features, budget, rng)
    clusters[fixed] = -1  # rounding could have put one into a new cluster
    members = [np.flatnonzero(clusters == cluster) for cluster in range(len(fixed), budget)]
    medoids = [rows[medoid(features[rows])] for rows in members if len(rows)]
    return np.sort(_fill_up(features, np.concatenate([fixed, np.array(medoids, np.int64)]), budget))


def medoid(features: Features) -> int:
    """The row of `(n, D)` with the least mean Euclidean distance to the others; the first of equals."""
    from sklearn.metrics import pairwise_distances_chunked

    around = features - features.mean(0, dtype=np.float64)  # (n, D): less is lost to rounding near the origin
    sums = np.concatenate(
        list(pairwise_distances_chunked(around, reduce_func=lambda block, _: block.sum(1), working_memory=CHUNK_MIB))
    )
    means = sums / max(len(features) - 1, 1)
    radius = np.linalg.norm(around, axis=1).max()
    return int(np.flatnonzero(means <= means.min() + RESOLUTION * radius)[0])


def _clusters(features: Features, count: int, rng: np.random.Generator) -> Rows:
    """k-means: the cluster of each row, `(N,)` in 0 .. count - 1."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different points than clusters: select fills up
        means = KMeans(count, n_init=RESTARTS, random_state=int(rng.integers(2**32))).fit(features)
    labels: NDArray[np.int32] = means.labels_
    return labels.astype(np.int64)


def _clusters_around(features: Features, fixed: Rows, count: int, rng: np.random.Generator) -> Rows:
    """k-means whose first centres stay at the rows `fixed`: the cluster of each row, `(N,)` in 0 .. count - 1."""
    from sklearn.metrics import pairwise_distances_argmin_min

    from_fixed = np.min([_squared_distances(features, row) for row in fixed], axis=0)  # (N,)
    best, least = np.zeros(len(features), np.int64), np.inf
    for _ in range(RESTARTS):
        centres = features[[*fixed, *_seeds(features, from_fixed, count - len(fixed), rng)]]  # (count, D)
        for _ in range(MAX_ROUNDS):
            clusters, distances = pairwise_distances_argmin_min(features, centres)
            before = centres.copy()
            for cluster in range(len(fixed), count):
                if (clusters == cluster).any():
                    centres[cluster] = features[clusters == cluster].mean(0)
            if np.array_equal(before, centres):
                break
        if (cost := float((distances**2).sum())) < least:
            best, least = clusters.astype(np.int64), cost
    return best


def _seeds(features: Features, nearest: Features, count: int, rng: np.random.Generator) -> list[int]:
    """k-means++: rows drawn one by one in proportion to the squared distance `(N,)` to the nearest centre so far."""
    rows: list[int] = []
    for _ in range(count):
        shares = nearest.astype(np.float64) if nearest.any() else np.ones(len(features))
        rows.append(int(rng.choice(len(features), p=shares / shares.sum())))
        nearest = np.minimum(nearest, _squared_distances(features, rows[-1]))
    return rows


def _fill_up(features: Features, chosen: Rows, budget: int) -> Rows:
    if len(chosen) == budget:
        return chosen
    nearest = np.min([_squared_distances(features, row) for row in chosen], axis=0)  # (N,)
    while len(chosen) < budget:
        nearest[chosen] = -1
        chosen = np.append(chosen, nearest.argmax())
        nearest = np.minimum(nearest, _squared_distances(features, chosen[-1]))
    return chosen


def _squared_distances(features: Features, row: int) -> Features:
    """Of every row to one of them, `(N,)`; exactly 0 for equal ones."""
    apart = features - features[row]
    squares: Features = np.einsum("nd,nd->n", apart, apart)
    return squares
