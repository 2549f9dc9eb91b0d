from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from diptych.selection import lloyd as room
from diptych.selection.lloyd import lloyd, squared_distances


def line(*positions: float) -> NDArray[np.float32]:
    return np.array(positions, np.float32)[:, None]


def cloud(rows: int = 200, width: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def test_two_rounds_by_hand() -> None:
    # From 0 and 3, halfway 1.5: {0, 1} and {2, 9}, costs 0 + 1 + 1 + 36. The means are 0.5 and 5.5, halfway 3.
    once = lloyd(line(0, 1, 2, 9), line(0, 3), fixed=0, rounds=1)
    assert (once.labels.tolist(), once.centres.ravel().tolist(), once.cost) == ([0, 0, 1, 1], [0.5, 5.5], 38)
    # Now {0, 1, 2} and {9}, costs 0.25 + 0.25 + 2.25 + 12.25. The means are 1 and 9.
    twice = lloyd(line(0, 1, 2, 9), line(0, 3), fixed=0, rounds=2)
    assert (twice.labels.tolist(), twice.centres.ravel().tolist(), twice.cost) == ([0, 0, 0, 1], [1, 9], 15)


def test_a_fixed_centre_stays_and_so_does_an_empty_one() -> None:
    found = lloyd(line(0, 1, 2, 9), line(0, 8, 100), fixed=1, rounds=10)
    assert found.centres.ravel().tolist() == [0, 9, 100]


def test_the_first_of_equally_near_centres() -> None:
    assert lloyd(line(0, 5, 10), line(0, 10), fixed=2, rounds=3).labels.tolist() == [0, 0, 1]
    assert lloyd(line(0, 5, 10), line(10, 0), fixed=2, rounds=3).labels.tolist() == [1, 0, 0]


def test_the_centres_that_were_given_are_not_written_on() -> None:
    centres = line(0, 3)
    lloyd(line(0, 1, 2, 9), centres, fixed=0, rounds=5)
    assert centres.ravel().tolist() == [0, 3]


@pytest.mark.parametrize("part", [1, 7, 10_000])
def test_labels_are_of_the_nearest_and_centres_are_means(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART", part)
    features = cloud() + np.float32(100)
    found = lloyd(features, features[:6], fixed=2, rounds=500)
    distances = cdist(features, found.centres)  # settled: the last move was none
    assert found.labels.tolist() == distances.argmin(1).tolist()
    assert found.cost == pytest.approx((distances.min(1) ** 2).sum(), rel=1e-4)
    assert found.centres[:2].tolist() == features[:2].tolist()
    for cluster in range(2, 6):
        assert found.centres[cluster] == pytest.approx(features[found.labels == cluster].mean(0), abs=1e-4)


@pytest.mark.parametrize("fixed", [0, 3])
def test_cost_never_rises(fixed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART", 64)
    features = cloud(seed=fixed)
    costs = [lloyd(features, features[:8], fixed=fixed, rounds=rounds).cost for rounds in range(1, 15)]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(costs))
    assert costs[-1] < 0.95 * costs[0]


def test_it_ends_with_the_first_round_that_gains_too_little() -> None:
    features = cloud(1000, seed=3)
    costs = [lloyd(features, features[:8], fixed=0, rounds=rounds).cost for rounds in range(1, 40)]
    gains = [1 - after / before for before, after in pairwise(costs)]
    first = next(place for place, gain in enumerate(gains) if gain < 0.01)
    assert 0 < first < 20
    assert lloyd(features, features[:8], fixed=0, rounds=40, least_gain=0.01).cost == costs[first + 1]


@pytest.mark.parametrize("kept", ["float16", "float32"])
def test_a_file_of_features_is_read_as_the_array_it_holds(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PART", 50)
    features = cloud().astype(kept)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    centres = features[:5].astype(np.float32)
    by_file = lloyd(mapped, centres, fixed=0, rounds=9)
    by_array = lloyd(features.astype(np.float32), centres, fixed=0, rounds=9)
    assert by_file.labels.tolist() == by_array.labels.tolist()
    assert by_file.centres.dtype == np.float32
    assert by_file.centres.tolist() == by_array.centres.tolist()


@pytest.mark.parametrize("features", [cloud(600), cloud(600).astype(np.float16)])
def test_squared_distances_to_a_point(features: NDArray[Any]) -> None:
    squares = squared_distances(features, features[599].astype(np.float32))
    assert squares.dtype == np.float32
    assert squares[599] == 0
    assert squares == pytest.approx(cdist(features, features[599:])[:, 0] ** 2, rel=1e-5, abs=1e-6)
