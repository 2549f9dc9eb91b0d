"""Adversarial terms against numbers worked by hand; logits are `(1, 1, 1, 2)` patch maps."""

from math import exp, log

import pytest
import torch
from torch import Tensor

from diptych.losses import ADVERSARIAL, cross_entropy, distance, l1

REAL, FAKE = (1.0, -2.0), (0.5, 3.0)


def logits(values: tuple[float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, 2)


def log_sigmoid(x: float) -> float:
    return -log(1 + exp(-x))


EXPECTED = {
    "vanilla": (
        -(log_sigmoid(1) + log_sigmoid(-2)) / 2 - (log(1 - 1 / (1 + exp(-0.5))) + log(1 - 1 / (1 + exp(-3)))) / 2,
        -(log_sigmoid(0.5) + log_sigmoid(3)) / 2,
    ),
    "lsgan": ((0 + 9) / 2 + (0.25 + 9) / 2, (0.25 + 4) / 2),
    "hinge": ((0 + 3) / 2 + (1.5 + 4) / 2, -(0.5 + 3) / 2),
    # E D(real) = -0.5, E D(fake) = 1.75
    "ralsgan": (
        ((1 - 1.75 - 1) ** 2 + (-2 - 1.75 - 1) ** 2 + (0.5 + 0.5 + 1) ** 2 + (3 + 0.5 + 1) ** 2) / 4,
        ((0.5 + 0.5 - 1) ** 2 + (3 + 0.5 - 1) ** 2 + (1 - 1.75 + 1) ** 2 + (-2 - 1.75 + 1) ** 2) / 4,
    ),
    "rsgan": (-(log_sigmoid(0.5) + log_sigmoid(-5)) / 2, -(log_sigmoid(-0.5) + log_sigmoid(5)) / 2),
}


@pytest.mark.parametrize("name", list(ADVERSARIAL))
def test_values(name: str) -> None:
    judge, generator = EXPECTED[name]
    objective = ADVERSARIAL[name]
    assert objective.judge(logits(REAL), logits(FAKE)).item() == pytest.approx(judge)
    found = objective.generator_term(lambda x: x, logits(FAKE), logits(REAL))
    assert found.item() == pytest.approx(generator)


@pytest.mark.parametrize("name", list(ADVERSARIAL))
def test_large_logits_stay_finite(name: str) -> None:
    huge = torch.full((1, 1, 1, 2), 1e4)
    assert torch.isfinite(ADVERSARIAL[name].judge(-huge, huge))


@pytest.mark.parametrize("name", ["rsgan", "ralsgan"])
def test_the_real_side_of_a_relativistic_generator_carries_no_gradient(name: str) -> None:
    real = logits(REAL).requires_grad_()
    fake = logits(FAKE).requires_grad_()
    ADVERSARIAL[name].generator_term(lambda x: 2 * x, fake, real).backward()
    assert real.grad is None
    assert fake.grad is not None


def test_l1_is_a_mean_over_pixels_and_channels() -> None:
    image = torch.tensor([0.0, 1.0, -1.0, 0.5]).view(1, 2, 1, 2)
    target = torch.tensor([0.5, 1.0, 1.0, 0.0]).view(1, 2, 1, 2)
    assert l1(image, target).item() == pytest.approx(3.0 / 4)


@pytest.mark.parametrize(("share", "value"), [(0.0, 0.75), (1.0, 1.125), (0.5, 0.9375), (0.1, 0.7875)])
def test_the_distance_mixes_l1_and_mean_square(share: float, value: float) -> None:
    image = torch.tensor([0.0, 1.0, -1.0, 0.5]).view(1, 2, 1, 2)
    target = torch.tensor([0.5, 1.0, 1.0, 0.0]).view(1, 2, 1, 2)
    assert distance(image, target, share).item() == pytest.approx(value)


def test_cross_entropy_is_a_mean_over_the_pixels_that_are_not_void() -> None:
    logits_of_two = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]]).view(1, 2, 1, 3)  # three pixels
    targets = torch.tensor([[[1, 0, -100]]])
    assert cross_entropy(logits_of_two, targets).item() == pytest.approx((log(2) + log(1 + exp(-3))) / 2)
    assert cross_entropy(logits_of_two, torch.full((1, 1, 3), -100)).item() == 0
