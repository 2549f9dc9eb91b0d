"""The order of images in shards: a permutation that works through few shards at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diptych.shards.order import WINDOW, shard_order


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(0, 2**32 - 1))
def test_every_image_once_and_few_shards_at_a_time(shards: list[int], seed: int) -> None:
    of = np.array(shards)
    order = shard_order(of, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(of)))
    left = set(shards)
    drawn = of[order].tolist()
    while drawn:
        window = set()
        while drawn and (drawn[0] in window or len(window) < WINDOW):
            window.add(drawn.pop(0))
        assert len(window) == min(WINDOW, len(left))
        assert window <= left  # none of an earlier window
        left -= window
    assert not left


def test_it_is_a_function_of_the_generator_alone_and_shuffles() -> None:
    shards = np.repeat(np.arange(12), 50)
    one, same, other = (shard_order(shards, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    first = shards[one[: 50 * WINDOW]]
    assert set(first.tolist()) != set(range(WINDOW))  # shards come in random order,
    assert np.abs(np.diff(first)).astype(bool).mean() > 0.5  # and their images are mixed
