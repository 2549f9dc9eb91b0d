"""How far a score would move with other images: the percentile bootstrap over images (Efron 1979).

A resample draws as many images as there are, with replacement; it is held as *counts*, how often each image was drawn,
so that a metric of a resample is made of sums weighted by counts, and many resamples are one matrix product. The same
seed and number of images give the same resamples: scores of two systems on the same images are compared in pairs by
subtracting their replicates.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Metrics = Callable[[Numbers], Mapping[str, Numbers]]
"""Counts `(R, N)` -> name of a metric -> its value `(R,)` in each resample, NaN where it has none."""

KIND = "95 % percentile bootstrap over images"
PERCENTILES = (2.5, 97.5)
COUNTS_AT_ONCE = 2**20  # while resampling: 8 MB


def resample_counts(n: int, resamples: int, seed: int) -> Iterator[Numbers]:
    """How often each of `n` images is drawn in each of `resamples`, `(R', n)` at a time, whole numbers as float64."""
    rng = np.random.default_rng(seed)
    rows = max(1, COUNTS_AT_ONCE // n)
    for start in range(0, resamples, rows):
        here = min(rows, resamples - start)
        drawn = rng.integers(n, size=(here, n)) + n * np.arange(here)[:, None]
        yield np.bincount(drawn.ravel(), minlength=here * n).reshape(here, n).astype(np.float64)


def replicates(metrics: Metrics, n: int, resamples: int, seed: int) -> dict[str, Numbers]:
    """Name -> the metric's value `(resamples,)` in every resample; nothing where there are no resamples or images.

    A single image is drawn always: it says nothing about others, and has no replicates either.
    """
    parts = [metrics(counts) for counts in resample_counts(n, resamples, seed)] if n > 1 else []
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def interval(values: Numbers) -> list[float] | None:
    """Replicates `(R,)` -> [low, high]; those without a value (an absent class) are left out; None where all are."""
    known = values[~np.isnan(values)]
    return [float(bound) for bound in np.percentile(known, PERCENTILES)] if len(known) else None


def intervals(values: Mapping[str, Numbers]) -> dict[str, list[float]]:
    """Replicates by name -> intervals by name, without those that have none."""
    found = {name: interval(column) for name, column in values.items()}
    return {name: bounds for name, bounds in found.items() if bounds is not None}
