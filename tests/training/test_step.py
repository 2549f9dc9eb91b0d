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
    terms = take_step(spy, optimisers, one(), lr=0.1).terms
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
    """One term whose gradient is infinite where it starts, beside one that is well."""

    def __init__(self, order: tuple[Phase, ...]) -> None:
        super().__init__(order)
        self.weights = {"steep_b": 1.0, "adversarial_b": 1.0, "judge_b": 0.5}

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        return {"steep_b": ((images["fake_b"] - 1).abs() + 0.0).sqrt().mean(), **super().generator_terms(batch, images)}


def test_a_gradient_that_is_not_finite_is_caught_and_its_term_named() -> None:
    spy = SteepAtZero(("generators", "judges"))
    with pytest.raises(
        NotFiniteError, match=r"gradient of the generators became infinite or NaN, by the term steep_b$"
    ):
        take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert spy.networks["a_to_b"].value.item() == 1.0
    assert spy.networks["judge_b"].value.item() == 1.0


class SteepJudge(Spy):
    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        fine = super().judge_terms(batch, images)
        return {**fine, "steep": (self.networks["judge_b"].value - 1).abs().sqrt()}


def test_a_judges_gradient_is_named_too() -> None:
    spy = SteepJudge(("judges", "generators"))
    spy.weights = {"adversarial_b": 1.0, "judge_b": 0.5, "steep": 1.0}
    with pytest.raises(NotFiniteError, match=r"gradient of the judges became infinite or NaN, by the term steep$"):
        take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert spy.networks["judge_b"].value.item() == 1.0


class TooMuchTogether(Spy):
    """Two gradients of 1.5e308 each: finite, but not their sum."""

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        return {name: images["fake_b"].mean() * 1e-8 for name in ("one", "two")}


def test_gradients_that_are_too_much_together_are_named_together() -> None:
    spy = TooMuchTogether(("generators",))
    spy.weights = {"one": 1.5e308, "two": 1.5e308}
    ones = torch.full((1, 1, 1, 1), 1e8, dtype=torch.float64)
    with pytest.raises(NotFiniteError, match=r"by one, two together$"):
        take_step(spy, make_optimisers(spy, (0.5, 0.999)), Batch(ones, ones, 0), lr=0.1)


@pytest.mark.parametrize(
    ("a", "b", "bad"), [(float("nan"), 1.0, "a"), (1.0, float("inf"), ""), (float("inf"), 1.0, "a")]
)
def test_an_input_that_is_not_finite_is_named(a: float, b: float, bad: str) -> None:
    spy = Spy(("generators", "judges"))
    row = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    optimisers = make_optimisers(spy, (0.5, 0.999))
    if not bad:  # it enters no term
        take_step(spy, optimisers, Batch(row * a, row * b, 0), lr=0.1)
        return
    with pytest.raises(
        NotFiniteError, match=rf"adversarial_b became .*the images of {bad} in this batch are not finite"
    ):
        take_step(spy, optimisers, Batch(row * a, row * b, 0), lr=0.1)
    assert [spy.networks[name].value.item() for name in spy.networks] == [1.0, 1.0]


def gradient_after(clip: float | None) -> dict[str, float]:
    """The gradients with which Adam was called: its mean after one step is half of them."""
    spy = Spy(("generators", "judges"))
    spy.networks["b_to_a"] = Number(1.0)
    spy.generator_terms = lambda batch, images: {  # type: ignore[method-assign]
        "adversarial_b": 3 * images["fake_b"].mean() + 4 * spy.networks["b_to_a"](batch.a).mean()
    }
    optimisers = make_optimisers(spy, (0.5, 0.999))
    take_step(spy, optimisers, one(), lr=0.1, clip=clip)
    moments = {id(p): state["exp_avg"] for o in optimisers.values() for p, state in o.state.items()}
    return {name: 2 * moments[id(network.value)].item() for name, network in spy.networks.items()}


def test_the_norm_over_a_side_is_clipped() -> None:
    # Generators: (3, 4), of norm 5. The judge: -0.5, and its norm is another side's.
    assert gradient_after(None) == pytest.approx({"a_to_b": 3.0, "b_to_a": 4.0, "judge_b": -0.5})
    assert gradient_after(2.5) == pytest.approx({"a_to_b": 1.5, "b_to_a": 2.0, "judge_b": -0.5}, rel=1e-5)
    assert gradient_after(0.25) == pytest.approx({"a_to_b": 0.15, "b_to_a": 0.2, "judge_b": -0.25}, rel=1e-5)
    assert gradient_after(5.01) == pytest.approx({"a_to_b": 3.0, "b_to_a": 4.0, "judge_b": -0.5})


def test_a_step_says_which_terms_are_the_judges_and_gives_its_images_detached() -> None:
    spy = Spy(("generators", "judges"))
    taken = take_step(spy, make_optimisers(spy, (0.5, 0.999)), one(), lr=0.1)
    assert taken.judge_terms == ("judge_b",)
    assert taken.images["fake_b"].item() == 1.0
    assert not taken.images["fake_b"].requires_grad


def test_learning_rate_is_constant_for_half_and_falls_to_zero() -> None:
    assert [learning_rate(step, 8, 2.0) for step in range(9)] == [2, 2, 2, 2, 2, 1.5, 1.0, 0.5, 0]


def test_bf16_networks_answer_in_float32() -> None:
    network = nn.Conv2d(3, 3, 1)
    prepare([network], torch.device("cpu"), "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(1, 3, 4, 4)).dtype == torch.float32
