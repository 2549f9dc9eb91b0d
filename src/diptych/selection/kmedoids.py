"""The representative images of Shukla et al. 2019, section 3.2: one medoid for each cluster of k-means.

Rows that are given take part as centres that do not move, so the new ones settle where nothing is covered yet. That
part is ours; the paper chooses all at once.

Above `SMALL` rows k-means starts from its own answer, or faiss's, for a random sample and goes on over all rows, part
by part: near-linear in the number of rows, and without a copy of them. Features may then be a float16 or float32
`np.memmap`.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diptych.selection import faiss_means
from diptych.selection.budget import check_budget
from diptych.selection.lloyd import Clusters, at_least_float32, lloyd, squared_distances
from diptych.selection.rows import Features, Rows

KMeans = Literal["own", "faiss"]

SMALL = 10_000  # rows: up to here k-means sees all of them at once, from its first centre to its last
SAMPLED = 20  # rows for each cluster, at least, in the sample that finds the first centres of a larger set
RESTARTS, RESTARTS_SAMPLED = 10, 2
MAX_ROUNDS, MAX_ROUNDS_LARGE = 300, 50  # of Lloyd's iteration
LEAST_GAIN = 0.0005  # a round that lowers a larger set's cost by less than this share is the last
EXACT = 10_000  # rows: of a larger cluster of a larger set, all distances are worked out for `EXACT` of them at most
WITNESSES = 1_000  # rows: the mean distance to them says which those are
SURE = 6  # standard errors of that mean
CHUNK_MIB = 32  # of a distance matrix that is in memory at once
RESOLUTION = 1e-6  # of a cluster's radius: mean distances that differ by less are equal, and the first row wins


def select(
    features: Features, budget: int, rng: np.random.Generator, given: Sequence[int] = (), kmeans: KMeans = "own"
) -> Rows:
    """The given rows and the medoids of `budget - len(given)` clusters of the others; see `Selector`.

    `kmeans` says what finds the clusters of more than `SMALL` rows.

    Where there are fewer different features than `budget`, the row that is farthest from all chosen ones follows until
    the budget is used up (the first of equals).
    """
    fixed = check_budget(len(features), budget, given)
    if budget == len(fixed):
        return fixed
    if budget == len(features):
        return np.arange(budget, dtype=np.int64)
    clusters = _clusters(features, fixed, budget, rng, kmeans)
    clusters[fixed] = -1  # rounding could have put one into a new cluster
    members = [np.flatnonzero(clusters == cluster) for cluster in range(len(fixed), budget)]
    medoids = [_medoid_of(features, rows, rng) for rows in members if len(rows)]
    return np.sort(_fill_up(features, np.concatenate([fixed, np.array(medoids, np.int64)]), budget))


def medoid(features: NDArray[Any]) -> int:
    """The row of `(n, D)` with the least mean Euclidean distance to the others; the first of equals."""
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.utils.extmath import row_norms

    around = features - features.mean(0, dtype=np.float64)  # (n, D): less is lost to rounding near the origin
    sums = np.concatenate(
        list(pairwise_distances_chunked(around, reduce_func=lambda block, _: block.sum(1), working_memory=CHUNK_MIB))
    )
    return _least(sums / max(len(features) - 1, 1), row_norms(around).max())


def _least(means: NDArray[np.float64], radius: float) -> int:
    return int(np.flatnonzero(means <= means.min() + RESOLUTION * radius)[0])


def _medoid_of(features: Features, rows: Rows, rng: np.random.Generator) -> int:
    """The medoid of some rows, sorted, and one of them.

    All distances within n rows are n² of them. Above `EXACT` rows the mean distance to a thousand random witnesses
    among them is known first. The candidates are those whose mean may be the least, by `SURE` standard errors, or the
    `EXACT` likeliest of these where they are more, as in a crowd of equals; the mean distance of each to all rows is
    exact.
    """
    if len(rows) <= EXACT or len(features) <= SMALL:
        return int(rows[medoid(at_least_float32(features[rows]))])
    witnesses = at_least_float32(features[np.sort(rng.choice(rows, WITNESSES, replace=False))])
    middle = witnesses.mean(0, dtype=np.float64)
    tables = _distances(features, rows, middle, witnesses - middle)
    guesses, errors = np.concatenate([[table.mean(1), table.std(1)] for table in tables], axis=1)  # (n,) each
    errors *= SURE / np.sqrt(WITNESSES)
    likely = np.flatnonzero(guesses - errors <= (guesses + errors).min())
    likely = likely[np.argsort(guesses[likely], kind="stable")[:EXACT]]
    candidates = np.sort(rows[likely])
    around = at_least_float32(features[candidates]) - middle
    sums = np.zeros(len(candidates))
    for table in _distances(features, rows, middle, around):
        sums += table.sum(0)
    return int(candidates[_least(sums / (len(rows) - 1), np.linalg.norm(around, axis=1).max())])


def _distances(
    features: Features, rows: Rows, middle: NDArray[np.float64], others: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Of the rows, some at a time, to the others `(m, D)`, whose origin is in the middle `(D,)`: tables `(n, m)`."""
    from sklearn.metrics.pairwise import euclidean_distances

    size = max(1, int(CHUNK_MIB * 2**20) // (8 * max(others.shape)))  # float64 rows
    for start in range(0, len(rows), size):
        yield euclidean_distances(features[rows[start : start + size]] - middle, others)


def _clusters(features: Features, fixed: Rows, count: int, rng: np.random.Generator, kmeans: KMeans = "own") -> Rows:
    """k-means whose first centres stay at the rows `fixed`: the cluster of each row, `(N,)` in 0 .. count - 1."""
    still = at_least_float32(features[fixed])  # (len(fixed), D)
    size = min(max(SMALL, SAMPLED * count), len(features))
    by_faiss = kmeans == "faiss" and len(features) > SMALL
    if by_faiss:
        size = min(max(size, int(faiss_means.SAMPLE_MIB * 2**20) // (4 * features.shape[1])), len(features))
    elif size == len(features):
        return _k_means(at_least_float32(features), still, count, rng, RESTARTS).labels
    sample = at_least_float32(features[np.sort(rng.choice(len(features), size, replace=False))])  # (size, D), a copy
    if by_faiss:
        centres: NDArray[Any] = faiss_means.centres(sample, still, count, int(rng.integers(2**31)))
    else:
        centres = _k_means(sample, still, count, rng, RESTARTS_SAMPLED, copy=False).centres
    del sample
    return lloyd(features, centres, fixed=len(fixed), rounds=MAX_ROUNDS_LARGE, least_gain=LEAST_GAIN).labels


def _k_means(
    features: NDArray[Any], still: NDArray[Any], count: int, rng: np.random.Generator, restarts: int, copy: bool = True
) -> Clusters:
    """The best of several k-means of rows that are all in memory; the first centres stay at the points `still`.

    Without `copy` rounding may change the features.
    """
    if not len(still):
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters: select fills up
            means = KMeans(count, n_init=restarts, random_state=int(rng.integers(2**32)), copy_x=copy).fit(features)
        return Clusters(means.labels_.astype(np.int64), means.cluster_centers_, means.inertia_)
    nearest = np.min([squared_distances(features, point) for point in still], axis=0)  # (N,)
    tries = []
    for _ in range(restarts):
        centres = np.concatenate([still, features[_seeds(features, nearest, count - len(still), rng)]])  # (count, D)
        tries.append(lloyd(features, centres, fixed=len(still), rounds=MAX_ROUNDS))
    return min(tries, key=lambda clusters: clusters.cost)


def _seeds(features: NDArray[Any], nearest: NDArray[Any], count: int, rng: np.random.Generator) -> list[int]:
    """k-means++: rows drawn one by one in proportion to the squared distance `(N,)` to the nearest centre so far."""
    rows: list[int] = []
    for _ in range(count):
        shares = nearest.astype(np.float64) if nearest.any() else np.ones(len(features))
        rows.append(int(rng.choice(len(features), p=shares / shares.sum())))
        nearest = np.minimum(nearest, squared_distances(features, features[rows[-1]]))
    return rows


def _fill_up(features: Features, chosen: Rows, budget: int) -> Rows:
    if len(chosen) == budget:
        return chosen
    nearest = np.full(len(features), np.inf)
    for row in chosen:
        nearest = np.minimum(nearest, squared_distances(features, at_least_float32(features[row])))
    while len(chosen) < budget:
        nearest[chosen] = -1
        chosen = np.append(chosen, nearest.argmax())
        nearest = np.minimum(nearest, squared_distances(features, at_least_float32(features[chosen[-1]])))
    return chosen
