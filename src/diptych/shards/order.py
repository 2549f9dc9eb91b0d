"""The order in which images that lie in shards are drawn, so that one works through few shards at a time."""

import numpy as np
from numpy.typing import NDArray

WINDOW = 4  # shards at a time


def shard_order(shards: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of things, whose shards `(N,)` are given: so many shards as the window holds, drawn at random and
    their things shuffled together; then as many others, until all have come."""
    _, group = np.unique(shards, return_inverse=True)
    turn = rng.permutation(group.max() + 1) // WINDOW  # of each shard
    return np.lexsort((rng.permutation(len(shards)), turn[group]))
