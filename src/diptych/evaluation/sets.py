"""Generated images as a set against real ones: FID, KID, improved precision and recall, on any extractor's features.

Features are `(N, D)` float64, real and fake (generated) of the same D. A number that too few images leave without a
value is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError
from diptych.evaluation.bootstrap import KIND, Numbers, intervals, replicates, resample_counts
from diptych.features import Extractor, extract, load_extractor
from diptych.processes import by_first

Features = NDArray[np.float64]  # (N, D)

UNBIASED_ENOUGH = 2048  # images; FID of fewer carries a warning
FEWEST_TO_VARY = 3  # images, as the KID of two has no other resamples than the two
NEIGHBOUR = 3  # k of precision and recall
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
FID_RESAMPLES = 200  # each is a singular value decomposition, of up to some 0.1 s
FID_COMPONENTS = 512  # of the features, in resamples only
NUMBERS_AT_ONCE = 2**22  # in a table of distances or kernel values: 32 MB
ROUNDING = 1e-11  # of the squared lengths of two features: squared distances are not known more closely


def fid(real: Features, fake: Features) -> float:
    """Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6), never negative; NaN for fewer than two images.

    `|m_r - m_g|^2 + Tr(C_r + C_g - 2 (C_r C_g)^(1/2))` with means m and unbiased covariances C. Where C_r = A'A and
    C_g = B'B, the eigenvalues of C_r C_g are the squared singular values of A B', so the last trace is their sum. This
    is exact at any N, and never takes the root of a rounding error.
    """
    return _fid(real, np.ones(len(real)), fake, np.ones(len(fake)))


def _fid(real: Features, real_counts: Numbers, fake: Features, fake_counts: Numbers) -> float:
    """FID of images that occur as often as their counts `(N,)` say."""
    if len(real) < 2 or len(fake) < 2:
        return float("nan")
    real_mean, real_factor = _mean_and_factor(real, real_counts)
    fake_mean, fake_factor = _mean_and_factor(fake, fake_counts)
    root_trace = np.linalg.svd(real_factor @ fake_factor.T, compute_uv=False).sum()
    traces = (real_factor**2).sum() + (fake_factor**2).sum()
    return max(0.0, float(((real_mean - fake_mean) ** 2).sum() + traces - 2 * root_trace))


def _mean_and_factor(features: Features, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Mean `(D,)` and a factor A `(min(N, D), D)` of the unbiased covariance A'A."""
    drawn = counts > 0
    counts, features = counts[drawn], features[drawn]
    mean = counts @ features / counts.sum()
    factor = (features - mean) * np.sqrt(counts / (counts.sum() - 1))[:, None]
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")  # the same A'A in D rows
    return mean, factor


def kid(
    real: Features,
    fake: Features,
    rng: np.random.Generator,
    subsets: int = KID_SUBSETS,
    size: int = KID_SUBSET_SIZE,
) -> tuple[float, float]:
    """KID (Bińkowski et al. 2018) and its standard error: the unbiased MMD^2 with the kernel (x.y / D + 1)^3.

    Where both sets hold more than `size` images, it is the mean over `subsets` of `size` drawn without replacement from
    either. Its squared standard error has two parts: that of the draw, s^2 / subsets, where s is the standard deviation
    over subsets, and that of the N images at hand (the smaller set), s^2 size / (N - size), the delete-d jackknife,
    which errs on the safe side; it vanishes where N is far larger than `size`.

    Otherwise both sets are used whole, and the standard error is the jackknife's over images. NaN for fewer than two
    images; the standard error also for fewer than three.
    """
    smaller = min(len(real), len(fake))
    if smaller < 2:
        return float("nan"), float("nan")
    if smaller <= size:
        return _whole_kid(real, fake)
    values = []
    for _ in range(subsets):
        some_real = real[rng.choice(len(real), size, replace=False)]
        some_fake = fake[rng.choice(len(fake), size, replace=False)]
        values.append(_whole_kid(some_real, some_fake)[0])
    spread = np.std(values, ddof=1)
    return float(np.mean(values)), float(spread * np.sqrt(1 / subsets + size / (smaller - size)))


def _whole_kid(real: Features, fake: Features) -> tuple[float, float]:
    within_real = _kernel_sums(real, real)[0] - _kernel_of_itself(real)  # (Nr,), an image with itself left out
    within_fake = _kernel_sums(fake, fake)[0] - _kernel_of_itself(fake)  # (Ng,)
    across_real, across_fake = _kernel_sums(real, fake)  # (Nr,), (Ng,)
    n, m, across = len(real), len(fake), across_real.sum()
    real_part = within_real.sum() / (n * (n - 1))
    fake_part = within_fake.sum() / (m * (m - 1))
    value = float(real_part + fake_part - 2 * across / (n * m))
    if min(n, m) < 3:
        return value, float("nan")
    # The value without each of the images, up to what that image does not change.
    left_real, left_fake = within_real.sum() - 2 * within_real, within_fake.sum() - 2 * within_fake
    without_real = left_real / ((n - 1) * (n - 2)) - 2 * (across - across_real) / ((n - 1) * m)
    without_fake = left_fake / ((m - 1) * (m - 2)) - 2 * (across - across_fake) / ((m - 1) * n)
    return value, float(np.sqrt((n - 1) * without_real.var() + (m - 1) * without_fake.var()))


def _kernel(one: Features, other: Features) -> Numbers:
    base: Numbers = one @ other.T / one.shape[1] + 1  # (N, M)
    return base * base * base  # quicker than ** 3


def _kernel_of_itself(features: Features) -> Numbers:
    values: Numbers = ((features**2).sum(1) / features.shape[1] + 1) ** 3  # (N,)
    return values


def _kernel_sums(one: Features, other: Features) -> tuple[Numbers, Numbers]:
    """Sums of the kernel of all of `one` `(N, D)` with all of `other` `(M, D)`, by row `(N,)` and by column `(M,)`."""
    by_row, by_column = [], np.zeros(len(other))
    for part in _parts(len(one), len(other)):
        values = _kernel(one[part], other)
        by_row.append(values.sum(1))
        by_column += values.sum(0)
    return np.concatenate(by_row), by_column


def _kid_of_resamples(real: Features, real_counts: Numbers, fake: Features, fake_counts: Numbers) -> Numbers:
    """The unbiased MMD^2 `(R,)` of whole sets in resamples, counts `(R, N)`; pairs of an image with itself left out."""
    across = _weighted_sums(real, real_counts, fake, fake_counts) / (len(real) * len(fake))
    return _mean_of_pairs(real, real_counts) + _mean_of_pairs(fake, fake_counts) - 2 * across


def _mean_of_pairs(features: Features, counts: Numbers) -> Numbers:
    itself = counts**2  # (R, N)
    total = _weighted_sums(features, counts, features, counts) - itself @ _kernel_of_itself(features)
    pairs = len(features) ** 2 - itself.sum(1)  # none where one image was drawn over and over
    means: Numbers = np.divide(total, pairs, out=np.full(len(counts), np.nan), where=pairs > 0)
    return means


def _weighted_sums(one: Features, one_counts: Numbers, other: Features, other_counts: Numbers) -> Numbers:
    """Sums `(R,)` of the kernel of all of `one` with all of `other`, each as often as both counts `(R, N)` say."""
    total = np.zeros(len(one_counts))
    for part in _parts(len(one), len(other)):
        total += ((one_counts[:, part] @ _kernel(one[part], other)) * other_counts).sum(1)
    return total


@dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall, and which images make them; NaN and None where a manifold has no radius."""

    precision: float
    recall: float
    precise: NDArray[np.bool_] | None  # (Ng,), the generated images within the real ones' manifold
    recalled: NDArray[np.bool_] | None  # (Nr,), the real images within the generated ones'


def precision_recall(real: Features, fake: Features, k: int = NEIGHBOUR) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eqs. 1 and 2).

    A point is within a set's manifold iff *some* point of the set is no farther from it than from its own k-th nearest
    neighbour in that set, itself not counted. A set of k images or fewer has no manifold. Memory is bounded: distances
    are looked at in parts.
    """
    precise, recalled = _within(fake, real, k), _within(real, fake, k)
    return PrecisionRecall(
        float("nan") if precise is None else float(precise.mean()),
        float("nan") if recalled is None else float(recalled.mean()),
        precise,
        recalled,
    )


def _within(points: Features, manifold: Features, k: int) -> NDArray[np.bool_] | None:
    if len(manifold) <= k:
        return None
    centre = manifold.mean(0)  # differences of lengths far from zero would lose digits
    points, manifold = points - centre, manifold - centre
    reach = []  # squared radii
    for part in _parts(len(manifold), len(manifold)):
        distances = _squared_distances(manifold[part], manifold)
        distances[np.arange(len(distances)), np.arange(part.start, part.stop)] = np.inf
        reach.append(np.partition(distances, k - 1, axis=1)[:, k - 1])
    radii = np.concatenate(reach)  # (M,)
    within = []
    for part in _parts(len(points), len(manifold)):
        some = points[part]
        slack = ROUNDING * ((some**2).sum(1)[:, None] + (manifold**2).sum(1))
        within.append((_squared_distances(some, manifold) <= radii + slack).any(1))
    return np.concatenate(within)


def _squared_distances(one: Features, other: Features) -> Numbers:
    distances: Numbers = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * (one @ other.T)  # (N, M)
    return distances.clip(0, out=distances)


def _parts(rows: int, columns: int) -> list[slice]:
    """The rows of a table in parts of at most `NUMBERS_AT_ONCE` numbers."""
    step = max(1, NUMBERS_AT_ONCE // columns)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def set_scores(
    real: Sequence[Path],
    generated: Sequence[Path],
    extractor: str,
    *,
    device: str = "cpu",
    seed: int = 0,
    resamples: int = 1000,
    progress: Callable[[int, int], None] | None = None,
    resampled: dict[str, Numbers] | None = None,
) -> dict[str, Any]:
    """FID, KID, precision and recall of image files, with intervals: the value of "sets" in metrics.json.

    `extractor` is a name as for `diptych.features.load_extractor`. What too few images leave without a value is None,
    and "warnings" say what the numbers cannot bear. `resampled` is given the numbers of each resample by name: of two
    calls with the same real images, N and seed they belong together in pairs.

    Raises `DiptychError` where there are no images of either kind, or one cannot be read, or the extractor cannot be
    had.
    """
    if not real or not generated:
        raise DiptychError(
            f"there are no {'generated' if real else 'real'} images to compare as sets; give at least one"
        )
    loaded = load_extractor(extractor, device)
    features = extract(loaded, [*real, *generated], progress=progress).astype(np.float64)  # (Nr + Ng, D)
    ours, theirs = features[: len(real)], features[len(real) :]
    record, columns = by_first(lambda: _record(extractor, loaded, ours, theirs, resamples, seed))
    if resampled is not None:
        resampled |= columns
    return record


def _record(
    extractor: str, loaded: Extractor, ours: Features, theirs: Features, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Numbers]]:
    """The value of "sets" in metrics.json, and the numbers of each resample."""
    kid_value, kid_error = kid(ours, theirs, np.random.default_rng(seed))
    found = precision_recall(ours, theirs)
    values = {"fid": fid(ours, theirs), "kid": kid_value, "precision": found.precision, "recall": found.recall}
    columns, kind = _resampled(ours, theirs, values, found, resamples, seed)
    bounds = intervals(columns)
    if "fid" in bounds:
        bounds["fid"][0] = max(0.0, bounds["fid"][0])
    record = {
        "extractor": extractor,
        "identity": loaded.identity,
        "filter": loaded.filter,
        "n_real": len(ours),
        "n_generated": len(theirs),
        "fid": _number(values["fid"]),
        "kid": _number(kid_value),
        "kid_se": _number(kid_error),
        "precision": _number(found.precision),
        "recall": _number(found.recall),
        "k": NEIGHBOUR,
        "intervals": bounds,
        "interval_kind": kind,
        "warnings": _warnings(len(ours), len(theirs), ours.shape[1]),
    }
    return record, columns


def _resampled(
    real: Features,
    fake: Features,
    values: dict[str, float],
    found: PrecisionRecall,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Numbers], str]:
    """The numbers of each resample by name, and what their percentiles are in words."""
    if not resamples or min(len(real), len(fake)) < 2:
        return {}, "none"
    few = min(resamples, FID_RESAMPLES)
    real_counts = np.concatenate(list(resample_counts(len(real), resamples, seed + 1)))  # (R, Nr), other draws
    fake_counts = np.concatenate(list(resample_counts(len(fake), resamples, seed)))  # (R, Ng)
    short_real, short_fake = _leading_components(real, fake)
    columns = {"fid": np.array([_fid(short_real, real_counts[i], short_fake, fake_counts[i]) for i in range(few)])}
    if min(len(real), len(fake)) >= FEWEST_TO_VARY:
        columns["kid"] = _kid_of_resamples(real, real_counts, fake, fake_counts)
    for name, column in columns.items():
        known = column[~np.isnan(column)]  # a resample may be one image again and again
        columns[name] = values[name] + column - (known.mean() if len(known) else np.nan)
    for name, hits in (("precision", found.precise), ("recall", found.recalled)):
        if hits is not None:
            columns[name] = _shares(hits, resamples, seed)
    shortened = f" on the {FID_COMPONENTS} leading components of the features" if short_real is not real else ""
    return columns, (
        f"{KIND}, real and generated ones drawn apart. FID and KID: the estimate plus the percentiles about the "
        "resamples' mean, because images that are drawn twice raise FID; KID leaves out pairs of an image with itself. "
        f"FID from {few} resamples{shortened}, the others from {resamples}. Precision and recall: the images are drawn "
        "that are tested, the manifold is held"
    )


def _shares(hits: NDArray[np.bool_], resamples: int, seed: int) -> Numbers:
    return replicates(lambda counts: {"share": counts @ hits / len(hits)}, len(hits), resamples, seed)["share"]


def _leading_components(real: Features, fake: Features) -> tuple[Features, Features]:
    """Both in the `FID_COMPONENTS` directions of largest variance, or as they are where a resample is cheap anyway.

    The rest of the variance is small, and what it adds to FID varies little between resamples.
    """
    if min(real.shape[1], max(len(real), len(fake))) <= FID_COMPONENTS:
        return real, fake
    both = np.concatenate([real, fake])
    both -= both.mean(0)
    directions = np.linalg.eigh(both.T @ both)[1][:, -FID_COMPONENTS:]  # (D, 512)
    return both[: len(real)] @ directions, both[len(real) :] @ directions


def _warnings(n_real: int, n_generated: int, dimension: int) -> list[str]:
    fewer = min(n_real, n_generated)
    told = []
    if fewer < 2:
        told.append("FID and KID have no value: a set of one image has no covariance")
    if 2 <= fewer < UNBIASED_ENOUGH:
        told.append(
            f"FID of {fewer:,} images is biased upwards (fewer than {UNBIASED_ENOUGH:,}): read KID beside it, and "
            "compare it only with FID of as many images"
        )
    if 2 <= fewer <= dimension:
        told.append(f"FID's covariance is rank-deficient: {fewer:,} images for {dimension:,} features")
    for what, which, count in (("precision", "real", n_real), ("recall", "generated", n_generated)):
        if count <= NEIGHBOUR:
            told.append(f"{what} has no value: it needs more than k = {NEIGHBOUR} {which} images, not {count}")
    return told


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
