import numpy as np
import pytest

from diptych.errors import DiptychError
from diptych.selection import SELECTORS
from diptych.selection.random import select

FEATURES = np.zeros((10, 3), np.float32)


def test_every_other_row_is_equally_likely() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(10, int)
    for _ in range(2000):
        rows = select(FEATURES, 4, rng, [2])
        assert len(set(rows.tolist())) == 4
        counts[rows] += 1
    assert counts[2] == 2000
    # Of three draws among nine, each is expected 2000 / 3 times, give or take a standard deviation of 21.
    assert np.abs(np.delete(counts, 2) - 2000 / 3).max() < 90


def test_seeds_repeat_and_differ() -> None:
    draws = [tuple(select(np.zeros((100, 1), np.float32), 10, np.random.default_rng(seed))) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_nothing_beside_the_given_rows() -> None:
    assert select(FEATURES, 2, np.random.default_rng(0), [7, 1]).tolist() == [1, 7]
    assert select(FEATURES, 10, np.random.default_rng(0)).tolist() == list(range(10))


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_every_selector_refuses_an_impossible_budget(name: str) -> None:
    with pytest.raises(DiptychError, match="more than the 10 images"):
        SELECTORS[name](FEATURES, 11, np.random.default_rng(0))
