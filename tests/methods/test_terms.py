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
    settings = {"adversarial": kind.defaults.get("adversarial", ""), "pool_size": 0, **options}
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


CYCLEGAN = {
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


@pytest.mark.parametrize("n_pairs", [0, 1, 2])
def test_cyclegan_takes_no_notice_of_pairs(n_pairs: int) -> None:
    assert terms(method("cyclegan"), batch(n_pairs)) == pytest.approx(CYCLEGAN)


def test_distances_may_be_square_or_mixed() -> None:
    # F G a - a = (2.5, -5), G F b - b = (-1.25, 2.5): mean squares 15.625 and 3.90625.
    found = terms(method("cyclegan", cycle_l2=1.0), batch())
    assert found == pytest.approx(CYCLEGAN | {"cycle_a": 15.625, "cycle_b": 3.90625})
    found = terms(method("shukla", cycle_l2=0.5, reconstruction_l2=0.25), batch(1))
    mixed = {"cycle_a": (CYCLE_A + 15.625) / 2, "cycle_b": (CYCLE_B + 3.90625) / 2}
    reconstruction = 0.75 * 1.25 + 0.25 * 1.5625  # |1 + 0.25|, |-0.75 - 0.5|
    pairs = {"reconstruction_a": reconstruction, "reconstruction_b": reconstruction}
    assert found == pytest.approx(SHUKLA | mixed | pairs)
    found = terms(method("pix2pix", reconstruction_l2=1.0), batch(2))
    assert found["reconstruction_b"] == pytest.approx(3.90625)
    found = terms(method("tripathy", cycle_l2=1.0), batch())
    assert found["cycle_a"] == pytest.approx(15.625)


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


def test_shukla_of_class_logits() -> None:
    # Two classes of the colours -1 and 3: G gives a's value as logit of the first and its double as that of the second,
    # so that the second has the share s = sigma(a), and the image is -1 + 4 s. Of the pairs the second row is void.
    class Logits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, 2 * x], 1)

    subject = method("shukla", loss="cross_entropy", palettes={"b": torch.tensor([[-1.0], [3.0]], dtype=torch.float64)})
    subject.networks["a_to_b"] = Logits()  # type: ignore[index]
    classes = torch.tensor([1, -100]).view(2, 1, 1)
    rows = Batch(a=image(0.5, -1.0), b=image(-0.25, 0.5), n_pairs=2, b_classes=classes)
    images = subject.translate(rows)
    found = {name: term.item() for name, term in subject.generator_terms(rows, images).items()}

    def share(x: float) -> float:
        return 1 / (1 + exp(-x))

    fake = [-1 + 4 * share(0.5), -1 + 4 * share(-1.0)]
    assert images["fake_b"].flatten().tolist() == pytest.approx(fake)
    assert found["reconstruction_b"] == pytest.approx(-log(share(0.5)))
    assert found["cycle_a"] == pytest.approx((abs(3 * fake[0] - 0.5) + abs(3 * fake[1] + 1)) / 2)
    # F b = (-0.75, 1.5), and G b from b's own values.
    there = [-1 + 4 * share(-0.75), -1 + 4 * share(1.5)]
    assert found["cycle_b"] == pytest.approx((abs(there[0] + 0.25) + abs(there[1] - 0.5)) / 2)
    itself = [-1 + 4 * share(-0.25), -1 + 4 * share(0.5)]
    assert found["identity_b"] == pytest.approx((abs(itself[0] + 0.25) + abs(itself[1] - 0.5)) / 2)
    # D_b halves: the real images' (-0.125, 0.25) against the fakes'.
    judged = [softplus(-(0.5 * fake[0] + 0.125)), softplus(-(0.5 * fake[1] - 0.25))]
    assert found["adversarial_b"] == pytest.approx(sum(judged) / 2)
    # The other direction goes on as before: F b = (-0.75, 1.5) against a = (0.5, -1).
    assert found["reconstruction_a"] == pytest.approx((1.25 + 2.5) / 2)


def test_shukla_compares_with_pooled_reals_in_the_generators_term_alone() -> None:
    subject = method("shukla", pool_reals=True, pool_size=1)
    rows = batch()
    images = subject.translate(rows)
    images["pooled_b"] = image(2.0, -3.0)  # D_b: (1, -1.5); D_b(G a) = (0.5, -1)
    found = subject.generator_terms(rows, images)
    assert found["adversarial_b"].item() == pytest.approx((softplus(0.5) + softplus(-0.5)) / 2)
    # The judge sees the batch's own: D_b(b) = (-0.125, 0.25). A pool of 1 shows the first fake, then one of the two.
    judged = subject.judge_terms(rows, images)["judge_b"].item()
    second = [softplus(-1 - 0.25), softplus(0.5 - 0.25)]
    assert any(judged == pytest.approx((softplus(0.625) + other) / 2) for other in second)


# Rows that are pairs are judged behind their true partner, the others behind the fake that their cycle passes through.
# D_b|a(a, .) = 0.5 a - .: true (0.5, -1), G a (-0.75, 1.5);  on (F b, .): b (-0.125, 0.25), G F b (1.125, -2.25).
# D_a|b(b, .) = 0.5 b - .: true (-0.625, 1.25), F b (0.625, -1.25);  on (G a, .): a (0, 0), F G a (-2.5, 5).
TRIPATHY = {
    0: {
        "adversarial_b_given_a": (0.015625 + 10.5625) / 2,
        "adversarial_a_given_b": (12.25 + 16.0) / 2,
        "judge_b_given_a": (1.265625 + 0.5625) / 2 + (1.265625 + 5.0625) / 2,
        "judge_a_given_b": (1.0 + 1.0) / 2 + (6.25 + 25.0) / 2,
    },
    1: {
        "adversarial_b_given_a": (3.0625 + 10.5625) / 2,
        "adversarial_a_given_b": (0.140625 + 16.0) / 2,
        "judge_b_given_a": (0.25 + 0.5625) / 2 + (0.5625 + 5.0625) / 2,
        "judge_a_given_b": (2.640625 + 1.0) / 2 + (0.390625 + 25.0) / 2,
    },
    2: {
        "adversarial_b_given_a": (3.0625 + 0.25) / 2,
        "adversarial_a_given_b": (0.140625 + 5.0625) / 2,
        "judge_b_given_a": (0.25 + 4.0) / 2 + (0.5625 + 2.25) / 2,
        "judge_a_given_b": (2.640625 + 0.0625) / 2 + (0.390625 + 1.5625) / 2,
    },
}


@pytest.mark.parametrize("n_pairs", [0, 1, 2])
def test_tripathy(n_pairs: int) -> None:
    assert terms(method("tripathy"), batch(n_pairs)) == pytest.approx(CYCLEGAN | TRIPATHY[n_pairs])


@pytest.mark.parametrize(("n_pairs", "value"), [(0, None), (1, 2 * 1.25), (2, 2 * (1.25 + 2.5) / 2)])
def test_tripathy_with_a_backbone(n_pairs: int, value: float | None) -> None:
    # Two layers, x and 3 x: the mean of |x - y| and 3 |x - y| is 2 |x - y|, over the pairs.
    found = terms(method("tripathy", perceptual=lambda x: [x, 3 * x]), batch(n_pairs))
    assert found.get("perceptual_b") == (None if value is None else pytest.approx(value))
    assert found.get("perceptual_a") == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.875), (1.0, 3.90625), (0.5, 2.890625), (0.25, 2.3828125)])
def test_supervised_by_pixels(share: float, value: float) -> None:
    # G a - b = (1.25, -2.5): L1 is 1.875, L2 (1.5625 + 6.25) / 2.
    assert terms(method("supervised", reconstruction_l2=share), batch(2)) == {"supervised_b": pytest.approx(value)}


def test_supervised_b_to_a() -> None:
    assert terms(method("supervised", "b_to_a"), batch(2)) == {"supervised_a": pytest.approx((1.25 + 2.5) / 2)}


class TwoLogits(nn.Module):
    """x -> (factor x, 0)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.factors * x, 0 * x], dim=1)


class MadeOfLogits(Made):
    def generator(self, source: str, target: str) -> nn.Module:
        return TwoLogits(2.0)


# Logits of a = (0.5, -1): (1, 0) and (-2, 0). -log softmax of the first is softplus(-1), of the second softplus(-2).
@pytest.mark.parametrize(
    ("targets", "value", "gradient"),
    [
        # d/dp softplus(-p a) = -a sigmoid(-p a);  d/dp softplus(p a) = a sigmoid(p a)
        ((0, 1), (log(1 + exp(-1)) + log(1 + exp(-2))) / 2, (-0.5 / (1 + exp(1)) - 1 / (1 + exp(2))) / 2),
        ((0, -100), log(1 + exp(-1)), -0.5 / (1 + exp(1))),  # void counts neither above nor below the line
        ((-100, -100), 0.0, 0.0),
    ],
)
def test_supervised_by_cross_entropy(targets: tuple[int, int], value: float, gradient: float) -> None:
    options = Options(weights={"supervised_b": 1.0}, loss="cross_entropy")
    subject = METHODS["supervised"](MadeOfLogits(), options)
    classes = torch.tensor(targets).view(2, 1, 1)
    rows = Batch(image(0.5, -1.0), image(7.0, 7.0), n_pairs=2, b_classes=classes)
    assert terms(subject, rows) == {"supervised_b": pytest.approx(value)}
    assert gradients(subject, rows) == {"a_to_b": pytest.approx(gradient)}


def test_pix2pix_a_to_b() -> None:
    # D(a, b) = 0.5 a - b: real (0.5, -1), fake on (a, G a): (-0.75, 1.5)
    assert terms(method("pix2pix"), batch(2)) == pytest.approx(
        {
            "adversarial_b_given_a": (softplus(0.75) + softplus(-1.5)) / 2,
            "reconstruction_b": (1.25 + 2.5) / 2,
            "judge_b_given_a": (softplus(-0.5) + softplus(1.0)) / 2 + (softplus(-0.75) + softplus(1.5)) / 2,
        }
    )


def test_pix2pix_b_to_a() -> None:
    # D(b, a) = 0.5 b - a: real (-0.625, 1.25), fake on (b, F b): (0.625, -1.25)
    assert terms(method("pix2pix", "b_to_a"), batch(2)) == pytest.approx(
        {
            "adversarial_a_given_b": (softplus(-0.625) + softplus(1.25)) / 2,
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


# With G = p a, F = q b at p = 2, q = 3; every |.| is taken on the side that the values above show.
MEAN_A, MEAN_B = 0.75, 0.375  # of |a| and |b|
# |q p a - a| and |p q b - b| are (pq - 1)|.|, so d/dp = q|.| and d/dq = p|.|.
CYCLE_P, CYCLE_Q = 3 * (MEAN_A + MEAN_B), 2 * (MEAN_A + MEAN_B)
# d/dp (0.5 p a - 1)^2 = (0.5 p a - 1) a, d/dq (-q b - 1)^2 = 2 (-q b - 1) (-b);  |p b - b| = (p - 1)|b|.
CYCLEGAN_P = ((0.5 - 1) * 0.5 + (-1 - 1) * -1.0) / 2 + 10 * CYCLE_P + 5 * MEAN_B
CYCLEGAN_Q = (2 * (0.75 - 1) * 0.25 + 2 * (-1.5 - 1) * -0.5) / 2 + 10 * CYCLE_Q + 5 * MEAN_A


def test_cyclegan_gradients() -> None:
    assert gradients(method("cyclegan"), batch()) == pytest.approx({"a_to_b": CYCLEGAN_P, "b_to_a": CYCLEGAN_Q})


@pytest.mark.parametrize(
    ("n_pairs", "pairs_p", "pairs_q"),
    # |p a - b| has d/dp = |a| in both rows, |q b - a| has d/dq = |b|.
    [(0, 0.0, 0.0), (1, 0.5, 0.25), (2, (0.5 + 1.0) / 2, (0.25 + 0.5) / 2)],
)
def test_shukla_gradients(n_pairs: int, pairs_p: float, pairs_q: float) -> None:
    # d/dp softplus(0.5 b - 0.5 p a) = -0.5 a sigmoid(.), d/dq softplus(-a + q b) = b sigmoid(.)
    p = (-0.25 * sigmoid(-0.625) + 0.5 * sigmoid(1.25)) / 2 + 10 * CYCLE_P + 10 * MEAN_B + 150 * pairs_p
    q = (-0.25 * sigmoid(-1.25) + 0.5 * sigmoid(2.5)) / 2 + 10 * CYCLE_Q + 10 * MEAN_A + 150 * pairs_q
    assert gradients(method("shukla"), batch(n_pairs)) == pytest.approx({"a_to_b": p, "b_to_a": q})


# Paired rows: v = 0.5 a - p a has dv/dp = -a, v = 0.5 b - q b has dv/dq = -b. Other rows: on (F b, G F b)
# v = 0.5 q b - p q b has dv/dp = -3 b and dv/dq = -1.5 b; on (G a, F G a) v = 0.5 p a - q p a has dv/dp = -2.5 a and
# dv/dq = -2 a: the gradient flows through the condition too. Each row adds 2 (v - 1) dv, halved by the mean.
B_GIVEN_A_PAIRED_P = (2 * (-0.75 - 1) * -0.5, 2 * (1.5 - 1) * 1.0)
A_GIVEN_B_PAIRED_Q = (2 * (0.625 - 1) * 0.25, 2 * (-1.25 - 1) * -0.5)
B_GIVEN_A_P, B_GIVEN_A_Q = (2 * 0.125 * 0.75, 2 * -3.25 * -1.5), (2 * 0.125 * 0.375, 2 * -3.25 * -0.75)
A_GIVEN_B_P, A_GIVEN_B_Q = (2 * -3.5 * -1.25, 2 * 4 * 2.5), (2 * -3.5 * -1.0, 2 * 4 * 2.0)


@pytest.mark.parametrize("n_pairs", [0, 1, 2])
def test_tripathy_gradients(n_pairs: int) -> None:
    p = sum(B_GIVEN_A_PAIRED_P[:n_pairs]) + sum(B_GIVEN_A_P[n_pairs:]) + sum(A_GIVEN_B_P[n_pairs:])
    q = sum(A_GIVEN_B_PAIRED_Q[:n_pairs]) + sum(A_GIVEN_B_Q[n_pairs:]) + sum(B_GIVEN_A_Q[n_pairs:])
    expected = {"a_to_b": CYCLEGAN_P + p / 2, "b_to_a": CYCLEGAN_Q + q / 2}
    assert gradients(method("tripathy"), batch(n_pairs)) == pytest.approx(expected)


def test_the_condition_of_a_real_image_carries_no_gradient() -> None:
    # Relativistic, unpaired: softplus(real - v) with v as above; the real side is held fixed, though it holds F b.
    subject = method("tripathy", adversarial="rsgan")
    rows = batch(0)
    term = subject.generator_terms(rows, subject.translate(rows))["adversarial_b_given_a"]
    found = torch.autograd.grad(term, [subject.networks[name].factors for name in ("a_to_b", "b_to_a")])  # type: ignore[misc]
    # real (-0.125, 0.25), v (1.125, -2.25), dv/dp = (0.75, -1.5), dv/dq = (0.375, -0.75)
    slopes = sigmoid(-0.125 - 1.125), sigmoid(0.25 + 2.25)
    assert found[0].item() == pytest.approx(-(slopes[0] * 0.75 - slopes[1] * 1.5) / 2)
    assert found[1].item() == pytest.approx(-(slopes[0] * 0.375 - slopes[1] * 0.75) / 2)


def test_supervised_gradient() -> None:
    assert gradients(method("supervised"), batch(2)) == pytest.approx({"a_to_b": 0.75})  # |p a - b|, as above
    # d/dp (p a - b)^2 = 2 (p a - b) a
    squares = gradients(method("supervised", reconstruction_l2=1.0), batch(2))
    assert squares == pytest.approx({"a_to_b": (2 * 1.25 * 0.5 + 2 * -2.5 * -1.0) / 2})


def judge_gradients(subject: Method, rows: Batch) -> dict[str, list[float]]:
    """d(weighted judge terms) / d(factors of each judge)."""
    images = {name: value.detach() for name, value in subject.translate(rows).items()}
    total = sum(subject.weights[name] * term for name, term in subject.judge_terms(rows, images).items())
    judges = {name: network for name, network in subject.networks.items() if name.startswith("judge")}
    found = torch.autograd.grad(total, [network.factors for network in judges.values()])  # type: ignore[call-overload]
    return {name: grad.tolist() for name, grad in zip(judges, found, strict=True)}


# d/dd [(d r - 1)^2 + (d f)^2] = 2 (d r - 1) r + 2 d f^2, halved by the judge's weight.
CYCLEGAN_JUDGES = {
    "judge_b": [((-1.125 * -0.25 + -0.75 * 0.5) + 0.5 * (1.0 + 4.0)) / 2],
    "judge_a": [((-1.5 * 0.5 + 0.0 * -1.0) + -1.0 * (0.5625 + 2.25)) / 2],
}


def approximately(expected: dict[str, list[float]]) -> dict[str, object]:
    return {name: pytest.approx(values) for name, values in expected.items()}


def test_judge_gradients() -> None:
    assert judge_gradients(method("cyclegan"), batch()) == approximately(CYCLEGAN_JUDGES)
    # softplus(d (f - r)) has d/dd = (f - r) sigmoid(d (f - r)): f - r is (1.25, -2.5) on b and (-1.25, 2.5) on a.
    relativistic = {
        "judge_b": [(1.25 * sigmoid(0.625) - 2.5 * sigmoid(-1.25)) / 2],
        "judge_a": [(-1.25 * sigmoid(1.25) + 2.5 * sigmoid(-2.5)) / 2],
    }
    assert judge_gradients(method("shukla"), batch(1)) == approximately(relativistic)
    # Two factors (c, d): softplus(-(c a + d r)) + softplus(c a + d f), halved by the judge's weight.
    shares = [sigmoid(-0.5), sigmoid(1.0)], [sigmoid(-0.75), sigmoid(1.5)]
    of_condition = 0.5 * (-shares[0][0] + shares[1][0]) - 1.0 * (-shares[0][1] + shares[1][1])
    of_judged = (0.25 * shares[0][0] - 0.5 * shares[0][1]) + (1.0 * shares[1][0] - 2.0 * shares[1][1])
    expected = {"judge_b_given_a": [of_condition / 4, of_judged / 4]}
    assert judge_gradients(method("pix2pix"), batch(2)) == approximately(expected)


@pytest.mark.parametrize("n_pairs", [0, 1, 2])
def test_tripathy_judge_gradients(n_pairs: int) -> None:
    # (condition, real, fake, logit of real, logit of fake) of each row, as a pair and as an unpaired row.
    paired = {
        "judge_b_given_a": [(0.5, -0.25, 1.0, 0.5, -0.75), (-1.0, 0.5, -2.0, -1.0, 1.5)],
        "judge_a_given_b": [(-0.25, 0.5, -0.75, -0.625, 0.625), (0.5, -1.0, 1.5, 1.25, -1.25)],
    }
    unpaired = {
        "judge_b_given_a": [(-0.75, -0.25, -1.5, -0.125, 1.125), (1.5, 0.5, 3.0, 0.25, -2.25)],
        "judge_a_given_b": [(1.0, 0.5, 3.0, 0.0, -2.5), (-2.0, -1.0, -6.0, 0.0, 5.0)],
    }
    expected = dict(CYCLEGAN_JUDGES)
    for name, rows in paired.items():
        seen = rows[:n_pairs] + unpaired[name][n_pairs:]
        # 2 (logit - 1) x + 2 logit x, each x being what the factor multiplies; the mean of 2 rows, half of it.
        of_condition = sum(2 * (real - 1) * c + 2 * fake * c for c, _, _, real, fake in seen) / 4
        of_judged = sum(2 * (real - 1) * r + 2 * fake * f for _, r, f, real, fake in seen) / 4
        expected[name] = [of_condition, of_judged]
    assert judge_gradients(method("tripathy"), batch(n_pairs)) == approximately(expected)


def test_pix2pix_gradient() -> None:
    # d/dp softplus(-(0.5 a - p a)) = a sigmoid(.);  |p a - b| has d/dp = |a| here.
    p = (0.5 * sigmoid(0.75) - 1.0 * sigmoid(-1.5)) / 2 + 100 * 0.75
    assert gradients(method("pix2pix"), batch(2)) == pytest.approx({"a_to_b": p})


def test_published_weights() -> None:
    assert METHODS["pix2pix"].default_weights("a_to_b") == {
        "adversarial_b_given_a": 1,
        "reconstruction_b": 100,
        "judge_b_given_a": 0.5,
    }
    assert METHODS["supervised"].default_weights("b_to_a") == {"supervised_a": 1}
    for given, judged in ("ab", "ba"):
        weights = METHODS["tripathy"].default_weights("a_to_b")
        assert weights[f"adversarial_{judged}_given_{given}"] == 1
        assert weights[f"judge_{judged}_given_{given}"] == 0.5
        assert weights[f"perceptual_{judged}"] == 10
    for name, cycle, identity, judge in (("cyclegan", 10, 5, 0.5), ("shukla", 10, 10, 1), ("tripathy", 10, 5, 0.5)):
        weights = METHODS[name].default_weights("a_to_b")
        for side in "ab":
            assert weights[f"adversarial_{side}"] == 1
            assert weights[f"cycle_{side}"] == cycle
            assert weights[f"identity_{side}"] == identity
            assert weights[f"judge_{side}"] == judge
            assert weights.get(f"reconstruction_{side}") == (150 if name == "shukla" else None)
