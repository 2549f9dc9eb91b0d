"""k-means by faiss (Douze et al. 2024) for large sets: quick in float32, on a sample that is kept in memory."""

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError

ROUNDS = 25
LEAST_GAIN = 0.0005  # a round that lowers the cost by less than this share is the last
SAMPLE_MIB = 512  # of float32 features


def check_installed() -> None:
    """Raises `DiptychError` where there is no faiss."""
    if find_spec("faiss") is None:
        raise DiptychError("--kmeans faiss: faiss is not installed; pip install 'diptych[large]', or take --kmeans own")


def centres(sample: NDArray[Any], still: NDArray[Any], count: int, seed: int) -> NDArray[np.float32]:
    """The centres `(count, D)` of the rows of `sample` `(n, D)`; the first of them stay at the points `still`.

    The sample is written on.
    """
    import faiss

    middle = sample.mean(0, dtype=np.float64).astype(np.float32)  # float32 loses less near the origin
    sample -= middle
    means = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=ROUNDS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),  # it would draw a sample of its own
        frozen_centroids=len(still) > 0,
        init_method=faiss.ClusteringInitMethod_AFK_MC2,  # nearly k-means++, as quick as its own random rows
        early_stop_threshold=LEAST_GAIN,
    )
    means.train(sample, init_centroids=still - middle if len(still) else None)
    found: NDArray[np.float32] = means.centroids + middle
    found[: len(still)] = still
    return found
