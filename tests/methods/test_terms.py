"""Every term's value and gradient against numbers worked by hand on one-pixel images and one-number networks.

Adam hides a wrong scale of the loss, so comparing trained parameters alone would be blind to it.
"""

from math import exp, log

import pytest
import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.methods import METHODS
from diptych.methods.base import Method, Options


class Times(nn.Module):
    """x -> the sum over channels of factor * x: a generator or a judge that a person can compute."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (self.factors.view(1, -1, 1, 1) * x).sum(1, keepdim=True)


class Made:
    """G = 2a, F = 3b, D_b = 0.5x, D_a = -x; a judge of two domains weighs the first by 0.5 and the second by -1."""

    def generator(self, source: str, target: str) -> nn.Module:
        return Times({"ab": 2.0, "ba": 3.0}[source + target])

    def judge(self, *domains: str) -> nn.Module:
        if len(domains) == 2:
            return Times(0.5, -1.0)
        return Times({"a": -1.0, "b": 0.5}[domains[0]])


def image(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def batch(n_pairs: int = 0) -> Batch:
    return Batch(a=image(0.5, -1.0), b=image(-0.25, 0.5), n_pairs=n_pairs)


def method(name: str, direction: str = "a_to_b", **options: object) -> Method:
    kind = METHODS[name]
    settings = {"adversarial": kind.defaults["adversarial"], "pool_size": 0, **options}
    return kind(Made(), Options(weights=kind.default_weights(direction), direction=direction, **settings))  # type: ignore[arg-type]


def terms(method: Method, rows: Batch) -> dict[str, float]:
    images = method.translate(rows)
    found = method.generator_terms(rows, images) | method.judge_terms(rows, {k: v.detach() for k, v in images.items()})
    return {name: term.item() for name, term in found.items()}


# a = (0.5, -1), b = (-0.25, 0.5): G a = (1, -2), F b = (-0.75, 1.5), F G a = (3, -6), G F b = (-1.5, 3),
# G b = (-0.5, 1), F a = (1.5, -3).
CYCLE_A = (2.5 + 5.0) / 2
CYCLE_B = (1.25 + 2.5) / 2
IDENTITY_A = (1.0 + 2.0) / 2
IDENTITY_B = (0.25 + 0.5) / 2


def test_cyclegan() -> None:
    assert terms(method("cyclegan"), batch()) == pytest.approx(
        {
            # D_b(G a) = (0.5, -1), D_a(F b) = (0.75, -1.5)
            "adversarial_b": (0.25 + 4.0) / 2,
            "adversarial_a": (0.0625 + 6.25) / 2,
            "cycle_a": CYCLE_A,
            "cycle_b": CYCLE_B,
            "identity_a": IDENTITY_A,
            "identity_b": IDENTITY_B,
            # D_b(b) = (-0.125, 0.25), D_a(a) = (-0.5, 1)
            "judge_b": (1.265625 + 0.5625) / 2 + (0.25 + 1.0) / 2,
            "judge_a": (2.25 + 0.0) / 2 + (0.5625 + 2.25) / 2,
        }
    )


def softplus(x: float) -> float:
    return log(1 + exp(x))


SHUKLA = {
    # D_b(b) - D_b(G a) = (-0.125 - 0.5, 0.25 + 1), D_a(a) - D_a(F b) = (-0.5 - 0.75, 1 + 1.5)
    "adversarial_b": (softplus(-0.625) + softplus(1.25)) / 2,
    "adversarial_a": (softplus(-1.25) + softplus(2.5)) / 2,
    "judge_b": (softplus(0.625) + softplus(-1.25)) / 2,
    "judge_a": (softplus(1.25) + softplus(-2.5)) / 2,
    "cycle_a": CYCLE_A,
    "cycle_b": CYCLE_B,
    "identity_a": IDENTITY_A,
    "identity_b": IDENTITY_B,
}


@pytest.mark.parametrize(
    ("n_pairs", "reconstruction"),
    [
        (0, {}),
        (1, {"reconstruction_b": 1.25, "reconstruction_a": 1.25}),  # |1 + 0.25|, |-0.75 - 0.5|
        (2, {"reconstruction_b": (1.25 + 2.5) / 2, "reconstruction_a": (1.25 + 2.5) / 2}),
    ],
)
def test_shukla(n_pairs: int, reconstruction: dict[str, float]) -> None:
    assert terms(method("shukla"), batch(n_pairs)) == pytest.approx(SHUKLA | reconstruction)


def test_pix2pix_a_to_b() -> None:
    # D(a, b) = 0.5 a - b: real (0.5, -1), fake on (a, G a): (-0.75, 1.5)
    assert terms(method("pix2pix"), batch(2)) == pytest.approx(
        {
            "adversarial_b": (softplus(0.75) + softplus(-1.5)) / 2,
            "reconstruction_b": (1.25 + 2.5) / 2,
            "judge_b_given_a": (softplus(-0.5) + softplus(1.0)) / 2 + (softplus(-0.75) + softplus(1.5)) / 2,
        }
    )


def test_pix2pix_b_to_a() -> None:
    # D(b, a) = 0.5 b - a: real (-0.625, 1.25), fake on (b, F b): (0.625, -1.25)
    assert terms(method("pix2pix", "b_to_a"), batch(2)) == pytest.approx(
        {
            "adversarial_a": (softplus(-0.625) + softplus(1.25)) / 2,
            "reconstruction_a": (1.25 + 2.5) / 2,
            "judge_a_given_b": (softplus(0.625) + softplus(-1.25)) / 2 + (softplus(0.625) + softplus(-1.25)) / 2,
        }
    )


def gradients(subject: Method, rows: Batch) -> dict[str, float]:
    """d(weighted generator terms) / d(factor of each generator)."""
    total = sum(
        subject.weights[name] * term for name, term in subject.generator_terms(rows, subject.translate(rows)).items()
    )
    generators = {name: network for name, network in subject.networks.items() if "_to_" in name}
    found = torch.autograd.grad(total, [network.factors for network in generators.values()])  # type: ignore[call-overload]
    return {name: grad.item() for name, grad in zip(generators, found, strict=True)}


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_cyclegan_gradients() -> None:
    # With G = p a, F = q b at p = 2, q = 3; every |.| is taken on the side that the values above show.
    # d/dp (0.5 p a - 1)^2 = (0.5 p a - 1) a;  |q p a - a| and |p q b - b| are (pq - 1)|.|;  |p b - b| = (p - 1)|b|.
    adversarial_p = ((0.5 - 1) * 0.5 + (-1 - 1) * -1.0) / 2
    mean_a, mean_b = 0.75, 0.375
    p = adversarial_p + 10 * 3 * (mean_a + mean_b) + 5 * mean_b
    # d/dq (-q b - 1)^2 = 2 (-q b - 1) (-b)
    adversarial_q = (2 * (0.75 - 1) * 0.25 + 2 * (-1.5 - 1) * -0.5) / 2
    q = adversarial_q + 10 * 2 * (mean_a + mean_b) + 5 * mean_a
    assert gradients(method("cyclegan"), batch()) == pytest.approx({"a_to_b": p, "b_to_a": q})


def test_shukla_gradients() -> None:
    # d/dp softplus(0.5 b - 0.5 p a) = -0.5 a sigmoid(.);  |p a - b| of the pair (0.5, -0.25) has d/dp = a = 0.5.
    p = (-0.25 * sigmoid(-0.625) + 0.5 * sigmoid(1.25)) / 2 + 10 * 3 * 1.125 + 10 * 0.375 + 150 * 0.5
    # d/dq softplus(-a + q b) = b sigmoid(.);  |q b - a| of the pair has d/dq = -b = 0.25.
    q = (-0.25 * sigmoid(-1.25) + 0.5 * sigmoid(2.5)) / 2 + 10 * 2 * 1.125 + 10 * 0.75 + 150 * 0.25
    assert gradients(method("shukla"), batch(1)) == pytest.approx({"a_to_b": p, "b_to_a": q})


def test_pix2pix_gradient() -> None:
    # d/dp softplus(-(0.5 a - p a)) = a sigmoid(.);  |p a - b| has d/dp = |a| here.
    p = (0.5 * sigmoid(0.75) - 1.0 * sigmoid(-1.5)) / 2 + 100 * 0.75
    assert gradients(method("pix2pix"), batch(2)) == pytest.approx({"a_to_b": p})


def test_published_weights() -> None:
    assert METHODS["pix2pix"].default_weights("a_to_b") == {
        "adversarial_b": 1,
        "reconstruction_b": 100,
        "judge_b_given_a": 0.5,
    }
    for name, cycle, identity, judge in (("cyclegan", 10, 5, 0.5), ("shukla", 10, 10, 1)):
        weights = METHODS[name].default_weights("a_to_b")
        for side in "ab":
            assert weights[f"adversarial_{side}"] == 1
            assert weights[f"cycle_{side}"] == cycle
            assert weights[f"identity_{side}"] == identity
            assert weights[f"judge_{side}"] == judge
            assert weights.get(f"reconstruction_{side}") == (150 if name == "shukla" else None)
