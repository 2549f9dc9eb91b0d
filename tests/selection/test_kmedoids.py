import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from diptych.errors import DiptychError
from diptych.selection import kmedoids, lloyd
from diptych.selection.kmedoids import medoid, select
from diptych.selection.rows import RowsOf


def line(*positions: float) -> NDArray[np.float32]:
    return np.array(positions, np.float32)[:, None]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything above 100 rows is large, in several parts, and a cluster of above 60 rows is first seen by 20."""
    for name, number in {"SMALL": 100, "EXACT": 60, "WITNESSES": 20}.items():
        monkeypatch.setattr(kmedoids, name, number)
    monkeypatch.setattr(lloyd, "PART", 64)


def test_medoids_of_three_groups_on_a_line() -> None:
    # Mean distances within 0, 1, 3: 2, 1.5, 2.5. Within 100, 101, 102: the middle. Within 200, 204, 205, 206: 5, 2.33,
    # 2.33, 3, so the first of the two equal ones.
    features = line(200, 0, 102, 204, 1, 100, 205, 3, 101, 206)
    assert select(features, 3, rng()).tolist() == [3, 4, 8]


def test_distance_is_not_squared() -> None:
    # Sums of distances from 0, 1, 2, 9: 12, 10, 10, 24, squared ones 86, 66, 54, 194: squares would choose 2.
    assert medoid(line(0, 1, 2, 9)) == 1


def test_budget_of_one_is_the_medoid_of_all() -> None:
    features = rng(5).normal(size=(60, 7)).astype(np.float32)
    assert select(features, 1, rng()).tolist() == [int(cdist(features, features).mean(1).argmin())]


def test_medoid_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.selection.kmedoids.CHUNK_MIB", 0.01)  # of 500 x 500 numbers, about 2 MiB
    features = rng(6).normal(size=(500, 3)).astype(np.float32)
    assert medoid(features) == cdist(features, features).mean(1).argmin()


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(10))
def test_equal_rows_tie_to_the_first_whatever_the_rounding(offset: float, seed: int) -> None:
    points = rng(seed).normal(size=(12, 64)).astype(np.float32) + np.float32(offset)
    which = rng(seed).integers(0, 12, 60)
    sums = cdist(points, points) @ np.bincount(which, minlength=12)
    sums[~np.isin(np.arange(12), which)] = np.inf
    assert medoid(points[which]) == np.flatnonzero(which == sums.argmin())[0]


def test_same_seed_same_rows() -> None:
    features = rng(1).uniform(size=(60, 4)).astype(np.float32)
    assert select(features, 12, rng(3)).tolist() == select(features, 12, rng(3)).tolist()
    assert select(features, 12, rng(3), [5]).tolist() == select(features, 12, rng(3), [5]).tolist()


def test_whole_budget_is_everything() -> None:
    assert select(line(3, 1, 2), 3, rng()).tolist() == [0, 1, 2]
    assert select(line(3, 1, 2), 3, rng(), [1]).tolist() == [0, 1, 2]


def test_all_given_leaves_nothing_to_choose() -> None:
    assert select(line(3, 1, 2, 9), 2, rng(), [3, 0]).tolist() == [0, 3]


def test_duplicates_are_filled_up_from_afar_without_warnings() -> None:
    features = line(5, 5, 5, 5, 0, 0, 0, 30)  # three different points, budget 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = select(features, 5, rng())
    assert chosen.tolist() == [0, 1, 2, 4, 7]  # the first of each, then the first of what is left, all 0 away


def test_duplicates_beside_given_rows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = select(line(5, 5, 5, 0, 0, 30), 4, rng(), [2, 4])
    assert chosen.tolist() == [0, 2, 4, 5]  # 30 is new; then nothing is, and the first row is taken


@pytest.mark.parametrize("seed", range(5))
def test_new_rows_go_where_nothing_is_given(seed: int) -> None:
    corners = np.array([[0, 0], [0, 50], [50, 0], [50, 50]], np.float32)
    cross = np.array([[-1, 0], [0, 1], [0, 0], [0, -1], [1, 0]], np.float32)
    features = (corners[:, None] + cross).reshape(20, 2)  # four groups of five, the third of each in its middle
    assert select(features, 4, rng(seed), [1, 15]).tolist() == [1, 7, 12, 15]


def test_given_centres_do_not_move() -> None:
    # Around 0 stay the six 2s: halfway to the new mean, 7.37, is 3.69. The middle of the other five is 8. Were 0 to
    # move to its cluster's mean, 1.71, halfway were 4.54: it would take 4.4 and 4.45, and the middle of the rest is 9.
    features = line(0, 2, 2, 2, 2, 2, 2, 4.4, 4.45, 8, 9, 11)
    assert select(features, 2, rng(), [0]).tolist() == [0, 9]


@given(
    points=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=14),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_always_the_budget_in_different_rows_with_the_given_ones(
    points: list[tuple[int, int]], data: st.DataObject
) -> None:
    features = np.array(points, np.float32)
    budget = data.draw(st.integers(1, len(points)))
    kept = data.draw(st.lists(st.integers(0, len(points) - 1), max_size=budget, unique=True))
    chosen = select(features, budget, rng(data.draw(st.integers(0, 9))), kept)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == budget
    assert set(kept) <= set(chosen.tolist()) <= set(range(len(points)))


@pytest.mark.parametrize(
    ("budget", "kept", "words"),
    [
        (0, [], "a budget of 0 chooses nothing"),
        (5, [], "more than the 4 images"),
        (1, [0, 2], "less than the 2 given images"),
        (3, [0, 0], "different rows among 0..3"),
        (3, [4], "different rows among 0..3"),
        (3, [-1], "different rows among 0..3"),
    ],
)
def test_impossible_budgets(budget: int, kept: list[int], words: str) -> None:
    with pytest.raises(DiptychError, match=words):
        select(line(0, 1, 2, 3), budget, rng(), kept)


@pytest.mark.parametrize(
    ("kept", "normal", "grid"),
    [
        ([], [6, 13, 27, 126, 137, 181, 224, 257], [0, 1, 2, 5, 8, 9, 10, 17]),
        ([7, 100], [7, 41, 58, 91, 100, 101, 147, 250], [1, 2, 5, 7, 10, 11, 17, 100]),
    ],
)
def test_the_choice_of_a_small_set_is_for_good(kept: list[int], normal: list[int], grid: list[int]) -> None:
    # As this was before there were large sets: published choices are of such ones.
    features = rng(11).normal(size=(300, 5)).astype(np.float32)
    assert select(features, 8, rng(4), kept).tolist() == normal
    features = rng(12).integers(0, 4, size=(120, 2)).astype(np.float32)
    assert select(features, 8, rng(4), kept).tolist() == grid


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("seed", range(3))
def test_medoids_of_a_large_set_of_separate_groups(seed: int) -> None:
    group = rng(seed).integers(0, 6, 600)
    features = (100 * np.eye(6)[group] + rng(seed + 9).normal(size=(600, 6))).astype(np.float32)
    members = [np.flatnonzero(group == which) for which in range(6)]
    near = {int(row) for rows in members for row in rows[cdist(features[rows], features[rows]).mean(1).argsort()[:2]]}
    chosen = select(features, 6, rng(seed))
    assert sorted(group[chosen].tolist()) == list(range(6))
    assert set(chosen.tolist()) <= near  # the best or the next: 20 witnesses of 100 rows are few
    given = [int(members[2][0]), int(members[4][3])]  # not in the middle
    kept = select(features, 6, rng(seed), given)
    assert set(given) <= set(kept.tolist())
    assert sorted(group[kept].tolist()) == list(range(6))
    assert set(kept.tolist()) - set(given) <= near


@pytest.mark.parametrize("seed", range(3))
def test_the_medoid_of_a_large_cluster_without_all_its_distances(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmedoids, "SMALL", 100)
    monkeypatch.setattr(kmedoids, "EXACT", 100)
    monkeypatch.setattr(kmedoids, "WITNESSES", 200)
    features = rng(seed).normal(size=(3000, 8)).astype(np.float32)
    assert select(features, 1, rng()).tolist() == [cdist(features, features).mean(1).argmin()]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kept", [[], [5, 350]])
def test_a_large_set_in_a_file(kept: list[int], tmp_path: Path) -> None:
    features = rng(2).normal(size=(400, 6)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    chosen = select(mapped, 12, rng(3), kept)
    assert chosen.tolist() == select(features.astype(np.float32), 12, rng(3), kept).tolist()
    assert (features == mapped).all()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kept", [[], [0, 13]])
@pytest.mark.parametrize("budget", [12, 250])
def test_rows_of_a_file_are_chosen_from_as_a_copy_of_them(budget: int, kept: list[int], tmp_path: Path) -> None:
    features = rng(4).normal(size=(500, 6)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    rows = np.flatnonzero(rng(5).random(500) < 0.6)
    some = RowsOf(np.load(tmp_path / "features.npy", mmap_mode="r"), rows)
    assert select(some, budget, rng(3), kept).tolist() == select(features[rows], budget, rng(3), kept).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kept", [[], [7, 300]])
def test_every_choice_is_the_medoid_of_its_cluster_whatever_the_chunks(
    kept: list[int], seed: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By brute force: of the rows that are in a cluster together none has a smaller sum of distances.
    for name, number in {"SMALL": 100, "EXACT": 1000, "CHUNK_MIB": 0.01}.items():
        monkeypatch.setattr(kmedoids, name, number)
    monkeypatch.setattr(lloyd, "PART", 33)
    groups = 4 * rng(seed).normal(size=(9, 5))[rng(seed + 1).integers(0, 9, 450) ** 2 // 9]  # of unequal size
    features = (groups + rng(seed + 2).normal(size=(450, 5)) + 20).astype(dtype)
    _check_medoids(features, kept, monkeypatch, rng(seed))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [2, 8, 64])
def test_the_medoid_of_a_large_cluster_is_exact(width: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"SMALL": 100, "EXACT": 300, "WITNESSES": 100, "CHUNK_MIB": 0.2}.items():
        monkeypatch.setattr(kmedoids, name, number)
    features = rng(seed).normal(size=(1200, width)).astype(np.float32)
    features[:400] += 6
    _check_medoids(features, [], monkeypatch, rng(seed), 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_that_are_far_away_do_not_draw_the_medoid_to_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # By squared distances the likeliest of the many would be those on the side of the few.
    for name, number in {"SMALL": 100, "EXACT": 150, "WITNESSES": 100}.items():
        monkeypatch.setattr(kmedoids, name, number)
    features = rng(seed).normal(size=(1200, 2)).astype(np.float32)
    features[:300, 0] += 100
    _check_medoids(features, [], monkeypatch, rng(seed), 1)


def _check_medoids(
    features: NDArray[Any],
    kept: list[int],
    monkeypatch: pytest.MonkeyPatch,
    random: np.random.Generator,
    budget: int = 11,
) -> None:
    seen: list[NDArray[np.int64]] = []
    original = kmedoids._clusters

    def watched(*values: Any) -> NDArray[np.int64]:
        seen.append(original(*values))
        return seen[0].copy()

    monkeypatch.setattr(kmedoids, "_clusters", watched)
    chosen = select(features, budget, random, kept)
    numbers = features.astype(np.float64)
    expected = set(kept)
    for cluster in range(len(kept), budget):
        rows = np.setdiff1d(np.flatnonzero(seen[0] == cluster), kept)
        assert len(rows)
        sums = cdist(numbers[rows], numbers[rows]).sum(1)
        expected.add(int(rows[sums.argmin()]))
    assert set(chosen.tolist()) == expected
    assert len(chosen) == budget


@pytest.mark.usefixtures("large")
def test_given_rows_are_centres_of_a_large_set() -> None:
    # Two groups; a row that is given in the one leaves the budget's other choice to the other.
    features = (rng(0).normal(size=(600, 4)) + 50 * (np.arange(600) % 2)[:, None]).astype(np.float32)
    for row in (0, 1):
        (other,) = set(select(features, 2, rng(), [row]).tolist()) - {row}
        assert other % 2 != row


@pytest.mark.usefixtures("large")
def test_given_centres_of_a_large_set_do_not_move() -> None:
    # The line of the small set, each point twenty times: its comment says why 8, and what 9 would mean.
    features = np.repeat(line(0, 2, 2, 2, 2, 2, 2, 4.4, 4.45, 8, 9, 11), 20, axis=0)
    assert features[select(features, 2, rng(), [0]), 0].tolist() == [0, 8]


@pytest.mark.usefixtures("large")
def test_the_seed_of_a_large_set_counts() -> None:
    features = rng(1).normal(size=(700, 4)).astype(np.float32)
    chosen = {tuple(select(features, 9, rng(seed)).tolist()) for seed in (1, 1, 2, 3)}
    assert len(chosen) == 3


def test_sums_of_a_large_set_of_float16_do_not_stop_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    # 3000 rows around 40: in float16 their sum would be infinite, or stand still once it is 2048 times a row.
    monkeypatch.setattr(kmedoids, "SMALL", 100)
    features = (rng(2).normal(size=(3000, 3)) + 40).astype(np.float16)
    centres = lloyd.lloyd(features, features[:1].astype(np.float32), fixed=0, rounds=3).centres
    assert centres[0] == pytest.approx(features.astype(np.float64).mean(0), rel=1e-5)


@pytest.mark.usefixtures("large")
def test_a_large_set_costs_hardly_more_than_it_does_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features = (3 * rng(7).normal(size=(12, 5))[rng(8).integers(0, 12, 2000)] + rng(9).normal(size=(2000, 5))).astype(
        "f4"
    )
    costs = [cdist(features, features[select(features, 12, rng(seed))]).min(1).sum() for seed in range(5)]
    monkeypatch.setattr(kmedoids, "SMALL", 10_000)
    assert max(costs) < 1.05 * cdist(features, features[select(features, 12, rng())]).min(1).sum()


@pytest.mark.usefixtures("large")
def test_duplicates_in_a_large_set_are_filled_up() -> None:
    features = line(*[5] * 150, 0, 0, *[5] * 50, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = select(features, 4, rng())
    assert {5, 0, 30} == set(features[chosen].ravel().tolist())
    assert len(set(chosen.tolist())) == 4


@pytest.mark.parametrize("kept", [[], [3]])
def test_a_large_set_is_not_copied(kept: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"SMALL": 1000, "EXACT": 1000, "WITNESSES": 200, "CHUNK_MIB": 1}.items():
        monkeypatch.setattr(kmedoids, name, number)
    monkeypatch.setattr(lloyd, "PART", 1000)
    features = rng(1).normal(size=(30_000, 128)).astype(np.float32)
    features[:10_000] = features[0]  # the others and a fill-up
    tracemalloc.start()
    select(features, 10, rng(), kept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * features.nbytes  # the greatest cluster has a third of all rows
