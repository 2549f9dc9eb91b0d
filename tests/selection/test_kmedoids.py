import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from diptych.errors import DiptychError
from diptych.selection.kmedoids import medoid, select


def line(*positions: float) -> NDArray[np.float32]:
    return np.array(positions, np.float32)[:, None]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


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
