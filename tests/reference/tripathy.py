"""Tripathy et al. 2018 from its equations: a cycle whose judges of pairs learn from true pairs and from made-up ones.

G1: A -> B and G2: B -> A; D1 judges images of B, D2 of A; D3 judges an A image given its B, D4 a B image given its A.
A pair is written (judged, condition) here; the judges are fed concat(condition, judged).

    rows of true pairs (a, b)      D3: real (a, b)        fake (G2 b, b)
                                   D4: real (b, a)        fake (G1 a, a)
    unrelated rows a, b            D3: real (a, sg G1 a)  fake (G2 G1 a, G1 a)
                                   D4: real (b, sg G2 b)  fake (G1 G2 b, G2 b)

    judge               (D(real) - 1)^2 + D(sg fake)^2            D1, D2: the fake from a history of 50
    adversarial         (D(fake) - 1)^2                           through both halves of a made-up pair
    cycle_a, cycle_b            |G2 G1 a - a|_1, |G1 G2 b - b|_1
    identity_a, identity_b      |G2 a - a|_1, |G1 b - b|_1
    perceptual_a, perceptual_b  mean over layers of |phi(G2 b) - phi(a)|_1, of |phi(G1 a) - phi(b)|_1; true pairs

    G1, G2 minimise the four adversarial terms + 10 cycle + 5 identity (+ 10 perceptual);
    each judge minimises its term / 2;  D3 and D4 learn at half the rate.  Networks and images are float64.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

WEIGHTS = {"adversarial_a": 1.0, "adversarial_b": 1.0, "adversarial_a_given_b": 1.0, "adversarial_b_given_a": 1.0}
WEIGHTS |= {"cycle_a": 10.0, "cycle_b": 10.0, "identity_a": 5.0, "identity_b": 5.0}
WEIGHTS |= {"judge_a": 0.5, "judge_b": 0.5, "judge_a_given_b": 0.5, "judge_b_given_a": 0.5}
WEIGHTS |= {"perceptual_a": 10.0, "perceptual_b": 10.0}


def judge_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    losses: dict[str, Callable[[], Tensor]] = {
        "vanilla": lambda: -logsigmoid(real).mean() - logsigmoid(-fake).mean(),
        "lsgan": lambda: (real - 1).pow(2).mean() + fake.pow(2).mean(),
        "hinge": lambda: torch.relu(1 - real).mean() + torch.relu(1 + fake).mean(),
        "rsgan": lambda: -logsigmoid(real - fake).mean(),
        "ralsgan": lambda: 0.5 * (real - fake.mean() - 1).pow(2).mean() + 0.5 * (fake - real.mean() + 1).pow(2).mean(),
    }
    return losses[kind]()


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    losses: dict[str, Callable[[], Tensor]] = {
        "vanilla": lambda: -logsigmoid(fake).mean(),
        "lsgan": lambda: (fake - 1).pow(2).mean(),
        "hinge": lambda: -fake.mean(),
        "rsgan": lambda: -logsigmoid(fake - real).mean(),
        "ralsgan": lambda: 0.5 * (fake - real.mean() - 1).pow(2).mean() + 0.5 * (real - fake.mean() + 1).pow(2).mean(),
    }
    return losses[kind]()


def from_history(kept: list[Tensor], size: int, fakes: Tensor, rng: np.random.Generator | None) -> Tensor:
    shown = []
    for fake in fakes:
        if size == 0:
            shown.append(fake)
            continue
        assert rng is not None, "a history of fakes needs its random generator"
        if len(kept) < size:
            kept.append(fake)
            shown.append(fake)
        elif rng.random() < 0.5:
            index = int(rng.integers(size))
            shown.append(kept[index])
            kept[index] = fake
        else:
            shown.append(fake)
    return torch.stack(shown)


def train(
    networks: dict[str, torch.nn.Module],
    batches: list[tuple[Tensor, Tensor, int]],
    *,
    lr: float = 2e-4,
    lrs: list[float] | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
    order: tuple[str, str] = ("generators", "judges"),
    weights: dict[str, float] | None = None,
    adversarial: str = "lsgan",
    cycle_l2: float = 0.0,
    pool_size: int = 50,
    rngs: dict[str, np.random.Generator] | None = None,
    perceptual: Callable[[Tensor], list[Tensor]] | None = None,
) -> list[dict[str, float]]:
    """Trains the six networks in place, one step a batch; returns each step's unweighted terms."""
    assert set(weights or {}) <= set(WEIGHTS), "a weight of no term"
    weight = WEIGHTS | (weights or {})
    rngs = rngs or {}
    g1, g2, d1, d2 = networks["a_to_b"], networks["b_to_a"], networks["judge_b"], networks["judge_a"]
    d3, d4 = networks["judge_a_given_b"], networks["judge_b_given_a"]
    optimizer_g = torch.optim.Adam([*g1.parameters(), *g2.parameters()], lr=lr, betas=betas)
    optimizer_12 = torch.optim.Adam([*d1.parameters(), *d2.parameters()], lr=lr, betas=betas)
    optimizer_34 = torch.optim.Adam([*d3.parameters(), *d4.parameters()], lr=lr / 2, betas=betas)
    kept_a: list[Tensor] = []
    kept_b: list[Tensor] = []

    def cycle_distance(x: Tensor, y: Tensor) -> Tensor:
        return (1 - cycle_l2) * (x - y).abs().mean() + cycle_l2 * (x - y).pow(2).mean()

    history = []
    for step, (a, b, n) in enumerate(batches):
        rate = lr if lrs is None else lrs[step]
        optimizer_g.param_groups[0]["lr"] = optimizer_12.param_groups[0]["lr"] = rate
        optimizer_34.param_groups[0]["lr"] = rate / 2
        values: dict[str, float] = {}

        fake_b, fake_a = g1(a), g2(b)  # (B, C, H, W)
        cycled_a, cycled_b = g2(fake_b), g1(fake_a)
        # The first n rows are true pairs; the others are judged with the generators' own images as the condition.
        condition_b = torch.cat([b[:n], fake_b[n:]])
        condition_a = torch.cat([a[:n], fake_a[n:]])
        real_a_given_b = torch.cat([condition_b.detach(), a], dim=1)  # (B, 2C, H, W)
        real_b_given_a = torch.cat([condition_a.detach(), b], dim=1)
        fake_a_given_b = torch.cat([condition_b, torch.cat([fake_a[:n], cycled_a[n:]])], dim=1)
        fake_b_given_a = torch.cat([condition_a, torch.cat([fake_b[:n], cycled_b[n:]])], dim=1)

        for player in order:
            terms: dict[str, Tensor] = {}
            if player == "generators":
                if weight["adversarial_b"]:
                    terms["adversarial_b"] = generator_loss(adversarial, d1(b).detach(), d1(fake_b))
                if weight["adversarial_a"]:
                    terms["adversarial_a"] = generator_loss(adversarial, d2(a).detach(), d2(fake_a))
                if weight["adversarial_a_given_b"]:
                    real, fake = d3(real_a_given_b).detach(), d3(fake_a_given_b)
                    terms["adversarial_a_given_b"] = generator_loss(adversarial, real, fake)
                if weight["adversarial_b_given_a"]:
                    real, fake = d4(real_b_given_a).detach(), d4(fake_b_given_a)
                    terms["adversarial_b_given_a"] = generator_loss(adversarial, real, fake)
                if weight["cycle_a"]:
                    terms["cycle_a"] = cycle_distance(cycled_a, a)
                if weight["cycle_b"]:
                    terms["cycle_b"] = cycle_distance(cycled_b, b)
                if weight["identity_a"]:
                    terms["identity_a"] = (g2(a) - a).abs().mean()
                if weight["identity_b"]:
                    terms["identity_b"] = (g1(b) - b).abs().mean()
                if perceptual is not None and n > 0 and weight["perceptual_a"]:
                    layers = zip(perceptual(fake_a[:n]), perceptual(a[:n]), strict=True)
                    terms["perceptual_a"] = torch.stack([(x - y.detach()).abs().mean() for x, y in layers]).mean()
                if perceptual is not None and n > 0 and weight["perceptual_b"]:
                    layers = zip(perceptual(fake_b[:n]), perceptual(b[:n]), strict=True)
                    terms["perceptual_b"] = torch.stack([(x - y.detach()).abs().mean() for x, y in layers]).mean()
                optimizers = [optimizer_g]
            else:
                if weight["judge_b"]:
                    shown_b = from_history(kept_b, pool_size, fake_b.detach(), rngs.get("b"))
                    terms["judge_b"] = judge_loss(adversarial, d1(b), d1(shown_b))
                if weight["judge_a"]:
                    shown_a = from_history(kept_a, pool_size, fake_a.detach(), rngs.get("a"))
                    terms["judge_a"] = judge_loss(adversarial, d2(a), d2(shown_a))
                if weight["judge_a_given_b"]:
                    real, fake = d3(real_a_given_b), d3(fake_a_given_b.detach())
                    terms["judge_a_given_b"] = judge_loss(adversarial, real, fake)
                if weight["judge_b_given_a"]:
                    real, fake = d4(real_b_given_a), d4(fake_b_given_a.detach())
                    terms["judge_b_given_a"] = judge_loss(adversarial, real, fake)
                optimizers = [optimizer_12, optimizer_34]
            if terms:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                torch.stack([weight[name] * term for name, term in terms.items()]).sum().backward()
                for optimizer in optimizers:
                    optimizer.step()
            values |= {name: term.item() for name, term in terms.items()}
        history.append(values)
    return history
