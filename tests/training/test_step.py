"""One step, with a method made for the purpose: who is updated, when, by what, and what stops it."""

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from diptych.batches import Batch
from diptych.methods.base import Images, Phase, Terms
from diptych.training.step import NotFiniteError, learning_rate, make_optimisers, prepare, take_step


class Number(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.value


class Spy:
    """a -> g a; the generator's term is d g a, the judge's -d g a, both wanted as low as can be."""

    defaults: ClassVar[dict[str, Any]] = {}
    rhythms = ("unpaired",)
    lr_scale: ClassVar[dict[str, float]] = {}

    def __init__(self, order: tuple[Phase, ...]) -> None:
        self.update_order = order
        self.networks = {"a_to_b": Number(1.0), "judge_b": Number(1.0)}
        self.weights = {"adversarial_b": 1.0, "judge_b": 0.5}
        self.seen: list[tuple[str, float, bool, bool]] = []
        self.spoil: float | None = None

    def translate(self, batch: Batch) -> Images:
        return {"fake_b": self.networks["a_to_b"](batch.a)}

    def _note(self, phase: str, images: Images) -> None:
        judge = self.networks["judge_b"].value
        self.seen.append((phase, judge.item(), judge.requires_grad, images["fake_b"].requires_grad))

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        self._note("generators", images)
        term = self.networks["judge_b"](images["fake_b"]).mean()
        return {"adversarial_b": term if self.spoil is None else term * self.spoil}

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        self._note("judges", images)
        return {"judge_b": -self.networks["judge_b"](images["fake_b"]).mean()}


def one() -> Batch:
    row = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return Batch(row, row, 0)


def test_judges_are_frozen_for_generators_and_images_are_detached_for_judges() -> None:
    spy = Spy(("generators", "judges"))
    take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert spy.seen == [("generators", 1.0, False, True), ("judges", 1.0, True, False)]


@pytest.mark.parametrize("order", [("generators", "judges"), ("judges", "generators")])
def test_each_side_moves_by_its_own_terms_in_the_methods_order(order: tuple[Phase, ...]) -> None:
    spy = Spy(order)
    optimisers = make_optimisers(spy, (0.5, 0.999))
    terms = take_step(spy, optimisers, one(), lr=0.1)
    # Adam's first step is lr against the sign of the gradient, whatever its size.
    assert spy.networks["a_to_b"].value.item() == pytest.approx(0.9)
    assert spy.networks["judge_b"].value.item() == pytest.approx(1.1)
    assert [name for name, *_ in spy.seen] == list(order)
    judge_seen_by_generator = {name: value for name, value, *_ in spy.seen}["generators"]
    assert judge_seen_by_generator == pytest.approx(1.0 if order[0] == "generators" else 1.1)
    assert terms == pytest.approx({"adversarial_b": judge_seen_by_generator, "judge_b": -1.0})  # unweighted
    assert spy.networks["judge_b"].value.requires_grad


def test_a_network_may_learn_at_a_share_of_the_rate() -> None:
    spy = Spy(("generators", "judges"))
    spy.networks["judge_c"] = Number(1.0)
    spy.lr_scale = {"judge_c": 0.5}  # type: ignore[misc]
    spy.judge_terms = lambda batch, images: {  # type: ignore[method-assign]
        "judge_b": -sum(spy.networks[name](images["fake_b"]).mean() for name in ("judge_b", "judge_c"))
    }
    take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert spy.networks["judge_b"].value.item() == pytest.approx(1.1)
    assert spy.networks["judge_c"].value.item() == pytest.approx(1.05)


def test_the_weight_of_a_term_scales_its_gradient() -> None:
    spy = Spy(("generators", "judges"))
    optimisers = make_optimisers(spy, (0.5, 0.999))
    take_step(spy, optimisers, one(), lr=0.1)
    state = optimisers["judges"].state[spy.networks["judge_b"].value]
    assert state["exp_avg"].item() == pytest.approx(0.5 * -0.5)  # (1 - beta1) x weight x d(-d g a)/dd


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_is_named_and_changes_nothing(bad: float) -> None:
    spy = Spy(("generators", "judges"))
    spy.spoil = bad
    with pytest.raises(NotFiniteError, match=r"adversarial_b became (nan|inf)"):
        take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert spy.networks["a_to_b"].value.item() == 1.0
    assert spy.networks["judge_b"].value.item() == 1.0


class SteepAtZero(Spy):
    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        return {"adversarial_b": ((images["fake_b"] - 1).abs() + 0.0).sqrt().mean()}


def test_a_gradient_that_is_not_finite_is_caught_too() -> None:
    spy = SteepAtZero(("generators",))
    with pytest.raises(NotFiniteError, match=r"gradient of the generators.*adversarial_b"):
        take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert spy.networks["a_to_b"].value.item() == 1.0


def test_learning_rate_is_constant_for_half_and_falls_to_zero() -> None:
    assert [learning_rate(step, 8, 2.0) for step in range(9)] == [2, 2, 2, 2, 2, 1.5, 1.0, 0.5, 0]


def test_bf16_networks_answer_in_float32() -> None:
    network = nn.Conv2d(3, 3, 1)
    prepare([network], torch.device("cpu"), "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(1, 3, 4, 4)).dtype == torch.float32
