"""Planted collapses are told once, a healthy training is left alone."""

from collections.abc import Callable

import pytest
import torch

from diptych.batches import Batch
from diptych.training.health import JUDGE_AT_ZERO, LOOK_EVERY, NEARLY_THE_SAME, PATIENCE, Health
from diptych.training.step import Taken


def noise(step: int, scale: float = 0.5) -> torch.Tensor:
    """`(1, 3, 16, 16)` in about [-1, 1], others at every step."""
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * scale


def told(
    steps: int,
    judge: Callable[[int], float | None] = lambda step: 0.3,
    image: Callable[[int], torch.Tensor] = lambda step: noise(step + 7_000_000),
    inputs: Callable[[int], torch.Tensor] = noise,
    reopened_at: int | None = None,
) -> list[tuple[int, str]]:
    """What is told in so many steps, with the step; a judge that says None has no term at that step."""
    health, found = Health(), []
    for step in range(1, steps + 1):
        value = judge(step)
        terms = {"cycle_a": 0.0} | ({} if value is None else {"judge_b": value})
        taken = Taken(terms, () if value is None else ("judge_b",), {"fake_b": image(step)})
        found += [(step, note) for note in health.look(step, Batch(inputs(step), inputs(step + 500_000), 0), taken)]
        if step == reopened_at:
            state, health = health.state_dict(), Health()
            health.load_state_dict(state, torch.device("cpu"))
    return found


def test_health_is_left_alone() -> None:
    # A term of a generator may be 0 for ever, and so may a weak judge's be near it now and then.
    assert told(3 * PATIENCE) == []
    assert told(3 * PATIENCE, judge=lambda step: 0.0 if step % PATIENCE else 0.3) == []


@pytest.mark.parametrize("reopened_at", [None, PATIENCE // 2, PATIENCE + 10])
def test_a_judge_at_zero_is_told_once(reopened_at: int | None) -> None:
    (found,) = told(3 * PATIENCE, judge=lambda step: JUDGE_AT_ZERO / 2, reopened_at=reopened_at)
    assert found[0] == PATIENCE
    assert found[1].startswith("judge_b has stayed below 0.001 for 500 steps")


def test_only_the_steps_that_have_the_term_count() -> None:
    (found,) = told(3 * PATIENCE, judge=lambda step: 0.0 if step % 2 == 0 else None)
    assert found[0] == 2 * PATIENCE
    assert told(2 * PATIENCE, judge=lambda step: JUDGE_AT_ZERO * 1.01) == []


@pytest.mark.parametrize("reopened_at", [None, PATIENCE // 2, PATIENCE + 10])
def test_one_colour_is_told_once(reopened_at: int | None) -> None:
    flat = torch.linspace(-1, 1, 3)[None, :, None, None].expand(1, 3, 16, 16)  # a colour, not a grey
    (found,) = told(3 * PATIENCE, image=lambda step: flat + noise(step, NEARLY_THE_SAME / 2), reopened_at=reopened_at)
    assert found[0] == PATIENCE
    assert found[1].startswith("fake_b has been nearly of one colour")
    assert told(2 * PATIENCE, image=lambda step: flat + noise(step, NEARLY_THE_SAME * 2) * (step % 70 == 0)) != []
    assert told(PATIENCE + LOOK_EVERY, image=lambda step: flat + noise(step) * (step == 2 * LOOK_EVERY)) == []


@pytest.mark.parametrize("reopened_at", [None, PATIENCE // 2 + 1])
def test_the_same_picture_whatever_the_input_is_told_once(reopened_at: int | None) -> None:
    picture = noise(1)
    (found,) = told(
        3 * PATIENCE, image=lambda step: picture + noise(step, NEARLY_THE_SAME / 2), reopened_at=reopened_at
    )
    assert found[0] == PATIENCE + LOOK_EVERY  # the first look at one image has nothing to compare it with
    assert "nearly the same whatever the input" in found[1]
    rows = picture.expand(2, 3, 16, 16)
    (within,) = told(PATIENCE, image=lambda step: rows, inputs=lambda step: torch.cat([noise(step), noise(-step)]))
    assert within[0] == PATIENCE  # two rows of a batch can be compared at once


def test_the_same_answer_to_the_same_input_is_no_collapse() -> None:
    picture = noise(1)
    assert told(2 * PATIENCE, image=lambda step: picture, inputs=lambda step: picture) == []
