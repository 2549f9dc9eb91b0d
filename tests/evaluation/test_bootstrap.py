"""The bootstrap against resamples that are counted out by hand, and against what an interval promises."""

import itertools
from collections import Counter

import numpy as np
import pytest

from diptych.evaluation.bootstrap import COUNTS_AT_ONCE, Numbers, interval, intervals, replicates, resample_counts
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.pictures import image_means
from diptych.images import Classes

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8)
CLASSES = Classes((0, 1, 2), ("red", "green", "void"), COLOURS, 2)


def test_every_resample_of_three_images_is_drawn_as_often_as_any_other() -> None:
    counts = np.concatenate(list(resample_counts(3, 27_000, seed=0)))
    assert counts.shape == (27_000, 3)
    expected = Counter(tuple(np.bincount(draw, minlength=3)) for draw in itertools.product(range(3), repeat=3))
    drawn = Counter(tuple(row) for row in counts.astype(int).tolist())
    assert drawn.keys() == expected.keys()
    for row, times in expected.items():  # of 27; the standard deviation is below 80
        assert drawn[row] == pytest.approx(1000 * times, abs=400)


def test_the_interval_of_two_images_by_hand() -> None:
    # The four resamples of the values 1 and 3 have the means 1, 2, 2, 3: both ends have a probability of 1/4.
    found = replicates(lambda counts: image_means({"x": [1.0, 3.0]}, counts), 2, 1000, seed=0)["x"]
    assert set(found) == {1, 2, 3}
    assert (found == 2).mean() == pytest.approx(0.5, abs=0.06)
    assert interval(found) == [1, 3]


def test_the_iou_of_a_resample_is_that_of_its_confusion_matrix() -> None:
    scores = ClassScores(CLASSES)
    images = [([0, 0, 1], [0, 1, 1]), ([1, 1, 1], [0, 0, 1]), ([0, 0, 0], [0, 0, 2])]
    for predicted, truth in images:
        scores.add_map(np.array([predicted], np.uint8), np.array([truth], np.uint8))

    def mean_iou(draw: tuple[int, ...]) -> float:
        pixels = [pixel for image in draw for pixel in zip(*images[image], strict=True) if pixel[1] != 2]
        ious = []
        for row in (0, 1):
            union = sum(row in pixel for pixel in pixels)
            if union:
                ious.append(sum(pixel == (row, row) for pixel in pixels) / union)
        return sum(ious) / len(ious)

    draws = list(itertools.product(range(3), repeat=3))
    counts = np.array([np.bincount(draw, minlength=3) for draw in draws], np.float64)
    by_hand = np.array([mean_iou(draw) for draw in draws])
    assert scores.metrics(counts)["mean_iou"] == pytest.approx(by_hand)
    # Each of the 27 resamples has 3.7 %, more than the 2.5 % beyond either end: these are the least and the greatest.
    found = replicates(scores.metrics, 3, 20_000, seed=1)["mean_iou"]
    assert found.mean() == pytest.approx(by_hand.mean(), abs=0.005)
    assert interval(found) == pytest.approx([by_hand.min(), by_hand.max()])


def test_classes_absent_from_a_resample_are_left_out_of_its_numbers() -> None:
    scores = ClassScores(CLASSES)
    for row in (0, 1):
        scores.add_map(np.array([[row]], np.uint8), np.array([[row]], np.uint8))
    found = replicates(scores.metrics, 2, 200, seed=0)
    assert np.isnan(found["iou green"]).any()
    assert intervals(found)["iou green"] == [1, 1]
    never = ClassScores(CLASSES)
    for _ in range(2):
        never.add_map(np.array([[0]], np.uint8), np.array([[0]], np.uint8))
    assert "iou green" not in intervals(replicates(never.metrics, 2, 10, seed=0))


def test_all_void_and_single_images_have_no_interval() -> None:
    void, one = ClassScores(CLASSES), ClassScores(CLASSES)
    for _ in range(3):
        void.add_map(np.array([[0]], np.uint8), np.array([[2]], np.uint8))
    one.add_map(np.array([[0, 1]], np.uint8), np.array([[0, 0]], np.uint8))
    assert intervals(replicates(void.metrics, 3, 50, seed=0)) == {}
    assert replicates(one.metrics, 1, 50, seed=0) == {}
    assert replicates(one.metrics, 3, 0, seed=0) == {}


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    share, n, sets = 0.7, 60, 400

    def covers() -> bool:
        images = (rng.random(n) < share).astype(np.float64)
        found = replicates(lambda counts: image_means({"x": images}, counts), n, 400, seed=int(rng.integers(2**32)))
        bounds = interval(found["x"])
        assert bounds is not None
        return bounds[0] <= share <= bounds[1]

    # 95 %, a little less at n = 60; the standard error of 400 sets is 1.1 %.
    assert 0.89 <= np.mean([covers() for _ in range(sets)]) <= 0.985


def test_pairs_of_runs_are_resampled_together() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 1, 50)  # how hard an image is moves both runs alike

    def of(values: Numbers, seed: int = 3) -> Numbers:
        return replicates(lambda counts: image_means({"x": values}, counts), 50, 500, seed)["x"]

    one, other = of(hard), of(hard + 0.1)
    assert interval(one - one) == [0, 0]
    assert interval(other - one) == pytest.approx([0.1, 0.1])
    low, high = interval(other) or []
    assert high - low > 0.3
    assert (of(hard) == one).all()
    assert (of(hard, seed=4) != one).any()


def test_many_images_are_resampled_in_parts() -> None:
    parts = list(resample_counts(300_000, 8, seed=0))
    assert len(parts) > 1
    assert all(part.size <= COUNTS_AT_ONCE for part in parts)
    counts = np.concatenate(parts)
    assert counts.shape == (8, 300_000)
    assert (counts.sum(1) == 300_000).all()
    assert (counts[0] != counts[-1]).any()
