"""CycleGAN from its equations (Zhu et al. 2017): G: A -> B, F: B -> A, a judge D_A, D_B on each domain.

    judge_b        (D_B(b) - 1)^2 + D_B(sg G a)^2                     the fake from a history of 50
    adversarial_b  (D_B(G a) - 1)^2
    cycle_a        (1 - s) |F G a - a|_1 + s |F G a - a|_2^2
    identity_b     |G b - b|_1

and the same with the letters (and G, F) exchanged. All are means over images, pixels and channels.

    G, F minimise  adversarial_a + adversarial_b + 10 (cycle_a + cycle_b) + 5 (identity_a + identity_b);
    D_A, D_B minimise  (judge_a + judge_b) / 2;   G, F first.

No pair is used: every row counts as unpaired. Networks and images are float64.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

WEIGHTS = {"adversarial_a": 1.0, "adversarial_b": 1.0, "cycle_a": 10.0, "cycle_b": 10.0}
WEIGHTS |= {"identity_a": 5.0, "identity_b": 5.0, "judge_a": 0.5, "judge_b": 0.5}


def judge_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    match kind:
        case "vanilla":
            return -(logsigmoid(real).mean() + logsigmoid(-fake).mean())
        case "lsgan":
            return (real - 1).square().mean() + fake.square().mean()
        case "hinge":
            return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
        case "rsgan":
            return -logsigmoid(real - fake).mean()
        case "ralsgan":
            return ((real - fake.mean() - 1).square().mean() + (fake - real.mean() + 1).square().mean()) / 2
    raise ValueError(kind)


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    match kind:
        case "vanilla":
            return -logsigmoid(fake).mean()
        case "lsgan":
            return (fake - 1).square().mean()
        case "hinge":
            return -fake.mean()
        case "rsgan":
            return -logsigmoid(fake - real).mean()
        case "ralsgan":
            return ((fake - real.mean() - 1).square().mean() + (real - fake.mean() + 1).square().mean()) / 2
    raise ValueError(kind)


def from_history(kept: list[Tensor], size: int, fakes: Tensor, rng: np.random.Generator | None) -> Tensor:
    """Half of the fakes shown are old ones, once `size` of them have been kept."""
    if size == 0:
        return fakes
    assert rng is not None, "a history of fakes needs its random generator"
    shown = []
    for fake in fakes:
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
) -> list[dict[str, float]]:
    """Trains the four networks in place, one step a batch; returns each step's unweighted terms."""
    assert set(weights or {}) <= set(WEIGHTS), "a weight of no term"
    weight = WEIGHTS | (weights or {})
    rngs = rngs or {}
    g, f, d_a, d_b = networks["a_to_b"], networks["b_to_a"], networks["judge_a"], networks["judge_b"]
    optimizer_g = torch.optim.Adam([*g.parameters(), *f.parameters()], lr=lr, betas=betas)
    optimizer_d = torch.optim.Adam([*d_a.parameters(), *d_b.parameters()], lr=lr, betas=betas)
    kept_a: list[Tensor] = []
    kept_b: list[Tensor] = []

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return (1 - cycle_l2) * (x - y).abs().mean() + cycle_l2 * (x - y).square().mean()

    history = []
    for step, (a, b, _) in enumerate(batches):
        optimizer_g.param_groups[0]["lr"] = optimizer_d.param_groups[0]["lr"] = lrs[step] if lrs else lr
        values: dict[str, float] = {}
        fake_b, fake_a = g(a), f(b)  # (B, C, H, W)

        for player in order:
            terms: dict[str, Tensor] = {}
            if player == "generators":
                if weight["adversarial_b"]:
                    terms["adversarial_b"] = generator_loss(adversarial, d_b(b).detach(), d_b(fake_b))
                if weight["adversarial_a"]:
                    terms["adversarial_a"] = generator_loss(adversarial, d_a(a).detach(), d_a(fake_a))
                if weight["cycle_a"]:
                    terms["cycle_a"] = distance(f(fake_b), a)
                if weight["cycle_b"]:
                    terms["cycle_b"] = distance(g(fake_a), b)
                if weight["identity_a"]:
                    terms["identity_a"] = (f(a) - a).abs().mean()
                if weight["identity_b"]:
                    terms["identity_b"] = (g(b) - b).abs().mean()
            else:
                if weight["judge_a"]:
                    shown_a = from_history(kept_a, pool_size, fake_a.detach(), rngs.get("a"))
                    terms["judge_a"] = judge_loss(adversarial, d_a(a), d_a(shown_a))
                if weight["judge_b"]:
                    shown_b = from_history(kept_b, pool_size, fake_b.detach(), rngs.get("b"))
                    terms["judge_b"] = judge_loss(adversarial, d_b(b), d_b(shown_b))
            if terms:
                optimizer = optimizer_g if player == "generators" else optimizer_d
                optimizer.zero_grad()
                torch.stack([weight[name] * term for name, term in terms.items()]).sum().backward()
                optimizer.step()
            values |= {name: term.item() for name, term in terms.items()}
        history.append(values)
    return history
