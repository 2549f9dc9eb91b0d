import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from prdc import compute_prdc
from torchmetrics.image.kid import poly_mmd

from conftest import Folders
from diptych.errors import DiptychError
from diptych.evaluation import sets
from diptych.evaluation.sets import fid, kid, precision_recall, set_scores

Features = NDArray[np.float64]


def draw(seed: int, count: int, dimension: int, *, shift: float = 0.0, scale: float = 1.0) -> Features:
    """Correlated features with a spectrum that falls, as networks give them."""
    rng = np.random.default_rng([seed, dimension])
    mix = np.random.default_rng(dimension).normal(size=(dimension, dimension)) / np.arange(1, dimension + 1)
    return rng.normal(size=(count, dimension)) @ mix.T * scale + shift


def clouds(seed: int, count: int, dimension: int = 3, shift: float = 0.6) -> tuple[Features, Features]:
    """Two round clouds apart."""
    rng = np.random.default_rng([seed, count])
    return rng.normal(0, 0.4, (count, dimension)), rng.normal(shift, 0.4, (count, dimension))


def rotation(dimension: int) -> Features:
    return np.linalg.qr(np.random.default_rng(7).normal(size=(dimension, dimension)))[0]


# FID


def test_fid_of_points_on_a_line_by_hand() -> None:
    # Means 1 and 5, unbiased variances 2 and 8: 16 + 2 + 8 - 2 * sqrt(2 * 8) = 18.
    assert fid(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])) == pytest.approx(18, abs=1e-12)


def test_fid_of_crossed_spreads_by_hand() -> None:
    # Variance 2 along x against variance 8 along y: C_r C_g = 0, so nothing is taken off the traces.
    real, fake = np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, -2.0], [0.0, 2.0]])
    assert fid(real, fake) == pytest.approx(2 + 8, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("n", "m", "dimension"), [(200, 150, 12), (30, 200, 24), (9, 11, 24), (24, 25, 24), (2, 3, 5)])
def test_fid_agrees_with_scipys_matrix_root(n: int, m: int, dimension: int) -> None:
    real, fake = draw(0, n, dimension), draw(1, m, dimension, shift=0.3, scale=1.4)
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = scipy.linalg.sqrtm(scipy.linalg.sqrtm(first).real @ second @ scipy.linalg.sqrtm(first).real).real
    if min(n, m) > dimension:
        np.testing.assert_allclose(scipy.linalg.sqrtm(first @ second).real.trace(), root.trace(), rtol=1e-8)
    wanted = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert fid(real, fake) == pytest.approx(wanted, rel=1e-5)
    assert wanted > 0.1


def test_fid_of_a_set_with_itself_is_zero() -> None:
    for count in (10, 300):
        real = draw(0, count, 64)
        assert 0 <= fid(real, real[::-1]) < 1e-9 * np.trace(np.cov(real, rowvar=False))


def test_fid_of_constant_features_is_the_distance_of_the_means() -> None:
    assert fid(np.full((9, 4), 0.1), np.full((3, 4), 0.1)) == pytest.approx(0, abs=1e-20)
    assert fid(np.full((9, 4), 0.1), np.full((3, 4), 2.1)) == pytest.approx(4 * 2**2)


def test_fid_of_one_image_has_no_value() -> None:
    assert math.isnan(fid(np.zeros((1, 4)), np.ones((9, 4))))
    assert math.isnan(fid(np.zeros((9, 4)), np.ones((1, 4))))


@given(n=st.integers(2, 30), m=st.integers(2, 30), dimension=st.integers(1, 12), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_fid_is_a_symmetric_distance_of_unordered_sets(n: int, m: int, dimension: int, seed: int) -> None:
    real, fake = draw(seed, n, dimension), draw(seed + 1, m, dimension, shift=0.2)
    value = fid(real, fake)
    close = pytest.approx(value, rel=1e-8, abs=1e-9)
    assert value >= 0
    assert fid(fake, real) == close
    turn, away = rotation(dimension), np.full(dimension, 3.0)
    assert fid(real @ turn + away, fake @ turn + away) == close
    assert fid(np.random.default_rng(seed).permutation(real), fake) == close
    assert fid(3 * real, 3 * fake) == pytest.approx(9 * value, rel=1e-8, abs=1e-9)


@given(seed=st.integers(0, 999), n=st.integers(2, 12), dimension=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_fid_of_a_resample_is_that_of_its_repeated_images(seed: int, n: int, dimension: int) -> None:
    rng = np.random.default_rng(seed)
    real, fake = draw(seed, n, dimension), draw(seed + 1, n + 3, dimension)
    drawn = rng.integers(n, size=n), rng.integers(n + 3, size=n + 3)
    counts = np.bincount(drawn[0], minlength=n).astype(float), np.bincount(drawn[1], minlength=n + 3).astype(float)
    found = sets._fid(real, counts[0], fake, counts[1])
    assert found == pytest.approx(fid(real[drawn[0]], fake[drawn[1]]), rel=1e-8, abs=1e-9)


# KID


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def slow_kid(real: Features, fake: Features) -> float:
    def kernel(x: Features, y: Features) -> float:
        return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)

    def within(points: Features) -> float:
        pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if i != j]
        return sum(kernel(points[i], points[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(x, y) for x in real for y in fake) / (len(real) * len(fake))
    return within(real) + within(fake) - 2 * across


def test_kid_of_points_on_a_line_by_hand() -> None:
    # Kernels (x y + 1)^3: within 0, 1: 1; within 1, 2: 27; across 0-1, 0-2, 1-1, 1-2: 1, 1, 8, 27, mean 37 / 4.
    value, error = kid(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), rng())
    assert value == pytest.approx(1 + 27 - 2 * 37 / 4)
    assert math.isnan(error)  # without one of two images no pair is left


@pytest.mark.parametrize(("n", "m"), [(7, 7), (5, 9)])
def test_kid_and_its_error_agree_with_slow_loops(n: int, m: int) -> None:
    real, fake = draw(0, n, 6), draw(1, m, 6, shift=0.3)
    value, error = kid(real, fake, rng())
    assert value == pytest.approx(slow_kid(real, fake), rel=1e-10)
    without_real = [slow_kid(np.delete(real, i, 0), fake) for i in range(n)]
    without_fake = [slow_kid(real, np.delete(fake, i, 0)) for i in range(m)]
    jackknife = (n - 1) * np.var(without_real) + (m - 1) * np.var(without_fake)
    assert error == pytest.approx(jackknife**0.5, rel=1e-10)


@pytest.mark.parametrize("dimension", [3, 200])
def test_kid_agrees_with_torchmetrics(dimension: int) -> None:
    real, fake = draw(0, 60, dimension), draw(1, 60, dimension, shift=0.2)
    wanted = float(poly_mmd(torch.from_numpy(real), torch.from_numpy(fake)))
    assert kid(real, fake, rng())[0] == pytest.approx(wanted, rel=1e-8)


def test_kid_over_subsets_draws_without_replacement_from_both() -> None:
    real, fake = draw(0, 40, 5), draw(1, 60, 5, shift=0.3)
    value, error = kid(real, fake, rng(), subsets=30, size=20)
    again = np.random.default_rng(0)
    values = [
        slow_kid(real[again.choice(40, 20, replace=False)], fake[again.choice(60, 20, replace=False)])
        for _ in range(30)
    ]
    assert value == pytest.approx(np.mean(values), rel=1e-9)
    assert error == pytest.approx(np.std(values, ddof=1) * (1 / 30 + 20 / (40 - 20)) ** 0.5, rel=1e-9)


@pytest.mark.parametrize(("n", "size"), [(50, 20), (50, 50), (100, 20)])
def test_kids_standard_error_is_its_spread_over_fresh_images(n: int, size: int) -> None:
    found = np.array([kid(*clouds(i, n), np.random.default_rng(i), subsets=25, size=size) for i in range(250)])
    values, errors = found.T
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.25)


def test_kid_of_a_distribution_with_itself_averages_to_zero() -> None:
    values = [kid(draw(2 * i, 20, 3), draw(2 * i + 1, 20, 3), rng())[0] for i in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
    assert min(values) < 0  # unbiased: never clipped


def test_kid_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = draw(0, 17, 4), draw(1, 23, 4)
    whole = kid(real, fake, rng())
    monkeypatch.setattr(sets, "NUMBERS_AT_ONCE", 50)
    assert kid(real, fake, rng()) == pytest.approx(whole, rel=1e-12)


def test_kid_of_degenerate_sets() -> None:
    assert kid(np.full((5, 3), 0.7), np.full((4, 3), 0.7), rng()) == pytest.approx((0, 0), abs=1e-12)
    assert all(math.isnan(number) for number in kid(np.ones((1, 3)), np.ones((9, 3)), rng()))


def test_kid_of_resamples_leaves_out_pairs_of_an_image_with_itself() -> None:
    real, fake = draw(0, 4, 3), draw(1, 5, 3, shift=0.5)
    drawn = [0, 0, 2, 3], [1, 4, 4, 4, 2]

    def kernel(x: Features, y: Features) -> float:
        return float((x @ y / 3 + 1) ** 3)

    def within(points: Features, rows: list[int]) -> float:
        pairs = [(i, j) for i in rows for j in rows if i != j]
        return sum(kernel(points[i], points[j]) for i, j in pairs) / len(pairs)

    across = np.mean([kernel(real[i], fake[j]) for i in drawn[0] for j in drawn[1]])
    counts = np.bincount(drawn[0], minlength=4)[None].astype(float), np.bincount(drawn[1])[None].astype(float)
    found = sets._kid_of_resamples(real, counts[0], fake, counts[1])
    assert found == pytest.approx(within(real, drawn[0]) + within(fake, drawn[1]) - 2 * across, rel=1e-10)
    once = np.array([[4.0, 0, 0, 0]])
    assert np.isnan(sets._kid_of_resamples(real, once, fake, counts[1])).all()


# Precision and recall


def test_precision_and_recall_by_hand() -> None:
    # Real radii for k = 1: 1, 1, 3, so that they reach from -1 to 2 and from 1 to 7. Fake radii: 2, 2, 34.
    real, fake = np.array([[0.0], [1.0], [4.0]]), np.array([[6.0], [8.0], [42.0]])
    found = precision_recall(real, fake, k=1)
    assert found.precise is not None
    assert found.precise.tolist() == [True, False, False]
    assert found.precision == pytest.approx(1 / 3)
    assert found.recalled is not None
    assert found.recalled.tolist() == [False, False, True]  # 4 lies 2 from 6, exactly its reach; 42 reaches to 8
    assert found.recall == pytest.approx(1 / 3)


def test_one_near_point_is_enough() -> None:
    """With "for all" in place of "there is", no point far from any of the real ones would count."""
    real = np.array([[0.0], [1], [2], [3], [100], [101], [102], [103]])
    found = precision_recall(real, np.array([[1.5], [101.5], [50.0], [1.2]]))
    assert found.precise is not None
    assert found.precise.tolist() == [True, True, False, True]


@pytest.mark.parametrize(("n", "m", "dimension"), [(60, 50, 4), (20, 70, 300)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_agree_with_prdc(n: int, m: int, dimension: int, k: int) -> None:
    real, fake = draw(0, n, dimension), draw(1, m, dimension, shift=0.3, scale=0.8)
    wanted = compute_prdc(real, fake, nearest_k=k)
    found = precision_recall(real, fake, k)
    assert found.precision == pytest.approx(wanted["precision"], abs=1e-12)
    assert found.recall == pytest.approx(wanted["recall"], abs=1e-12)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


@given(n=st.integers(4, 12), m=st.integers(4, 12), far=st.sampled_from([0.0, 1e3, 1e6]), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_points_exactly_at_reach_count_far_from_zero_too(n: int, m: int, far: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    real, fake = (generator.integers(0, 4, (count, 3)).astype(float) for count in (n, m))  # many ties and doubles
    found = precision_recall(real + far + 0.3, fake + far + 0.3)

    def reach(points: Features) -> list[float]:
        return [sorted(((points - point) ** 2).sum(1))[3] for point in points]  # the first is itself

    precise = [any(((f - r) ** 2).sum() <= d for r, d in zip(real, reach(real), strict=True)) for f in fake]
    recalled = [any(((r - f) ** 2).sum() <= d for f, d in zip(fake, reach(fake), strict=True)) for r in real]
    assert found.precise is not None
    assert found.recalled is not None
    assert found.precise.tolist() == precise
    assert found.recalled.tolist() == recalled


def test_precision_and_recall_of_a_set_with_itself_are_one() -> None:
    for real in (draw(0, 40, 100), np.full((5, 7), 0.1), 1e5 + draw(0, 40, 3)):
        found = precision_recall(real, real[::-1])
        assert (found.precision, found.recall) == (1, 1)


def test_constant_sets_apart_have_no_precision() -> None:
    found = precision_recall(np.full((5, 7), 0.1), np.full((5, 7), 0.10001))
    assert (found.precision, found.recall) == (0, 0)


def test_distances_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = draw(0, 31, 4), draw(1, 27, 4)
    whole = precision_recall(real, fake)
    monkeypatch.setattr(sets, "NUMBERS_AT_ONCE", 70)
    parts = precision_recall(real, fake)
    assert whole.precise is not None
    assert whole.recalled is not None
    np.testing.assert_array_equal(parts.precise, whole.precise)
    np.testing.assert_array_equal(parts.recalled, whole.recalled)
    assert 0 < whole.precision < 1


def test_a_set_of_k_images_has_no_manifold() -> None:
    found = precision_recall(draw(0, 3, 2), draw(1, 4, 2))
    assert math.isnan(found.precision)
    assert found.precise is None
    assert found.recalled is not None
    assert len(found.recalled) == 3
    assert found.recall == found.recalled.mean()


# Intervals


def resampled(real: Features, fake: Features, resamples: int = 300) -> tuple[dict[str, list[float]], str]:
    found = precision_recall(real, fake)
    values = {"fid": fid(real, fake), "kid": kid(real, fake, rng())[0]}
    columns, kind = sets._resampled(real, fake, values, found, resamples, 0)
    return sets.intervals(columns), kind


def test_intervals_are_as_wide_as_the_spread_over_fresh_images() -> None:
    sample = [clouds(i, 80) for i in range(250)]
    bounds = [resampled(*one, resamples=100)[0] for one in sample[:30]]
    for name, measure in (("fid", fid), ("kid", lambda real, fake: kid(real, fake, rng())[0])):
        spread = np.std([measure(real, fake) for real, fake in sample])
        width = np.mean([high - low for low, high in (row[name] for row in bounds)])
        assert width == pytest.approx(2 * 1.96 * spread, rel=0.2)


def test_fids_interval_lies_about_the_estimate_though_repeated_images_raise_it() -> None:
    real, fake = clouds(0, 30, 60, shift=0)
    value = fid(real, fake)
    counts = np.random.default_rng(0).multinomial(30, [1 / 30] * 30, size=(40, 2)).astype(float)
    uncentred = [sets._fid(real, one, fake, other) for one, other in counts]
    assert min(uncentred) > value  # plain percentiles would leave the estimate out
    (low, high), kind = resampled(real, fake)[0]["fid"], resampled(real, fake)[1]
    assert low < value < high
    assert "FID from 200 resamples, the others from 300" in kind
    assert "about the resamples' mean" in kind


def test_real_and_generated_images_are_drawn_apart() -> None:
    real = draw(0, 30, 3)
    low, high = resampled(real, real)[0]["fid"]  # drawn together they would be equal in every resample
    assert high - low > 0.01 * np.trace(np.cov(real, rowvar=False))


def test_precisions_interval_is_that_of_a_share() -> None:
    real, fake = draw(0, 400, 3), draw(1, 400, 3, shift=1.5)
    share = precision_recall(real, fake).precision
    assert 0.2 < share < 0.8
    low, high = resampled(real, fake, 2000)[0]["precision"]
    assert (low + high) / 2 == pytest.approx(share, abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * (share * (1 - share) / 400) ** 0.5, rel=0.1)


def test_leading_components_keep_fids_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = draw(0, 100, 40), draw(1, 100, 40, shift=0.1)
    whole, kind = resampled(real, fake)
    assert "components" not in kind
    monkeypatch.setattr(sets, "FID_COMPONENTS", 20)
    shortened, kind = resampled(real, fake)
    assert "on the 20 leading components" in kind
    width, short = (bounds["fid"][1] - bounds["fid"][0] for bounds in (whole, shortened))
    assert short == pytest.approx(width, rel=0.1)
    assert short != width


def test_two_images_a_side_have_what_intervals_they_can() -> None:
    for few in ((2, 2), (2, 5), (5, 2)):
        bounds, _ = resampled(draw(0, few[0], 3), draw(1, few[1], 3), resamples=50)
        assert "fid" in bounds
        assert "kid" not in bounds  # that of two images is the same in all resamples that have one
    assert "kid" in resampled(draw(0, 3, 3), draw(1, 3, 3), resamples=50)[0]
    assert resampled(draw(0, 1, 3), draw(1, 5, 3))[0] == {}


# Files


def test_set_scores_say_what_they_are(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = sorted(folders.photos.iterdir()), sorted(folders.val_photos.iterdir())
    told: list[tuple[int, int]] = []
    found = set_scores(real, fake, "descriptor", seed=3, resamples=50, progress=lambda *now: told.append(now))
    assert json.loads(json.dumps(found)) == found
    assert (found["extractor"], found["identity"]) == ("descriptor", "descriptor-1")
    assert found["filter"] == "bicubic (antialiased) to 64x64"
    assert (found["n_real"], found["n_generated"], found["k"]) == (12, 4, 3)
    assert set(found["intervals"]) == {"fid", "kid", "precision", "recall"}
    for name in ("fid", "kid"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert found["fid"] > 0
    assert found["kid_se"] > 0
    assert told in ([], [(16, 16)])
    biased, deficient = found["warnings"]
    assert "4 images" in biased
    assert "2,048" in biased
    assert "KID" in biased
    assert "rank-deficient: 4 images for 384 features" in deficient

    again = set_scores(real, fake, "descriptor", seed=3, resamples=50)
    assert again == found
    assert set_scores(real, fake, "descriptor", seed=4, resamples=50)["intervals"] != found["intervals"]


def test_resamples_are_handed_out_for_comparisons_in_pairs(folders: Folders) -> None:
    real, fake = sorted(folders.photos.iterdir()), sorted(folders.val_photos.iterdir())
    columns: dict[str, NDArray[np.float64]] = {}
    found = set_scores(real, fake, "descriptor", resamples=250, resampled=columns)
    assert {name: len(column) for name, column in columns.items()} == {
        "fid": 200,
        "kid": 250,
        "precision": 250,
        "recall": 250,
    }
    for name, column in columns.items():
        known = column[~np.isnan(column)]
        assert found["intervals"][name] == pytest.approx(np.percentile(known, [2.5, 97.5]), abs=1e-12)


def test_a_folder_against_itself(folders: Folders) -> None:
    files = sorted(folders.photos.iterdir())
    found = set_scores(files, files, "descriptor", resamples=0)
    assert found["fid"] == pytest.approx(0, abs=1e-9)
    assert (found["precision"], found["recall"]) == (1, 1)
    assert found["kid"] < 0  # unbiased: the pairs of an image with itself stand in "across" alone
    assert (found["intervals"], found["interval_kind"]) == ({}, "none")


def test_one_image_has_null_where_there_is_no_value(folders: Folders) -> None:
    files = sorted(folders.photos.iterdir())
    found = set_scores(files, files[:1], "descriptor")
    assert [found[name] for name in ("fid", "kid", "kid_se", "recall")] == [None] * 4
    assert found["precision"] == 1
    assert found["intervals"] == {}
    no_value, no_recall = found["warnings"]
    assert no_value.startswith("FID and KID have no value")
    assert no_recall == "recall has no value: it needs more than k = 3 generated images, not 1"


def test_enough_images_carry_no_warning(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sets, "extract", lambda _, files, progress: np.random.default_rng(0).normal(size=(len(files), 2)).astype("f4")
    )
    file = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(file)
    monkeypatch.setattr(sets, "kid", lambda *_: (0.0, 0.0))  # which takes its time
    assert set_scores([file] * 2048, [file] * 2048, "descriptor", resamples=0)["warnings"] == []
    (biased,) = set_scores([file] * 2048, [file] * 2047, "descriptor", resamples=0)["warnings"]
    assert "2,047 images" in biased


def test_no_images_are_refused(folders: Folders) -> None:
    files = sorted(folders.photos.iterdir())
    with pytest.raises(DiptychError, match="no generated images"):
        set_scores(files, [], "descriptor")
    with pytest.raises(DiptychError, match="no real images"):
        set_scores([], files, "descriptor")
