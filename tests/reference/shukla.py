"""Shukla et al. 2019 from its equations: few pairs, many unpaired images, unconditional relativistic judges.

    judge_b           -E log sigma(D_B(b) - D_B(sg G a))              patch by patch, the fake from a history of 50
    adversarial_b     -E log sigma(D_B(G a) - sg D_B(b))
    cycle_a           |F G a - a|_1
    identity_b        |G b - b|_1
    reconstruction_b  |G a - b|_1                                     rows of true pairs only

and the same with the letters (and G, F) exchanged; cycle and reconstruction may be (1 - s) L1 + s L2. Where G ends in
the logits z of K classes with the colours c_k, its image is sum_k p_k c_k, p = softmax(z), and

    reconstruction_b  -1/N sum_i log p_i(t_i)                         N pixels of true pairs that are not void

    D_A, D_B minimise  judge_a + judge_b;  then
    G, F minimise  adversarial + 10 cycle + 10 identity + 150 reconstruction   (each the sum of its two directions).

As released: the true pairs have their own, smaller history, and the generators' term compares with real images that
come from histories as well. Networks and images are float64.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

WEIGHTS = {"adversarial": 1.0, "cycle": 10.0, "identity": 10.0, "reconstruction": 150.0, "judge": 1.0}


def judge_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    if kind == "rsgan":
        return torch.mean(-logsigmoid(real - fake))
    if kind == "ralsgan":
        above, below = real - fake.mean(), fake - real.mean()
        return 0.5 * (torch.mean((above - 1) ** 2) + torch.mean((below + 1) ** 2))
    if kind == "vanilla":
        return torch.mean(-logsigmoid(real)) + torch.mean(-logsigmoid(-fake))
    if kind == "lsgan":
        return torch.mean((real - 1) ** 2) + torch.mean(fake**2)
    if kind == "hinge":
        return torch.mean(torch.relu(1 - real)) + torch.mean(torch.relu(1 + fake))
    raise ValueError(kind)


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    if kind == "rsgan":
        return torch.mean(-logsigmoid(fake - real))
    if kind == "ralsgan":
        above, below = fake - real.mean(), real - fake.mean()
        return 0.5 * (torch.mean((above - 1) ** 2) + torch.mean((below + 1) ** 2))
    if kind == "vanilla":
        return torch.mean(-logsigmoid(fake))
    if kind == "lsgan":
        return torch.mean((fake - 1) ** 2)
    if kind == "hinge":
        return -torch.mean(fake)
    raise ValueError(kind)


def train(
    networks: dict[str, torch.nn.Module],
    batches: list[tuple[Tensor, Tensor, int]],
    *,
    lr: float = 2e-4,
    lrs: list[float] | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
    order: tuple[str, str] = ("judges", "generators"),
    weights: dict[str, float] | None = None,
    adversarial: str = "rsgan",
    cycle_l2: float = 0.0,
    reconstruction_l2: float = 0.0,
    pool_size: int = 50,
    paired_pool_size: int | None = None,
    pool_reals: bool = False,
    rngs: dict[str, np.random.Generator] | None = None,
    colours: Tensor | None = None,
    classes_b: Tensor | None = None,
) -> list[dict[str, float]]:
    """Trains the four networks in place, one step a batch; returns each step's unweighted terms.

    With `colours` (K, 3) G gives logits, and `classes_b` (steps, B, H, W) are b's classes, -100 where void.

    `rngs` by history: `a`, `b` of fakes, `real_a`, `real_b` of reals; the pairs' own `paired_a`, `real_paired_a`, ...
    """
    weight = {f"{term}_{domain}": value for term, value in WEIGHTS.items() for domain in "ab"}
    assert set(weights or {}) <= set(weight), "a weight of no term"
    weight |= weights or {}
    logits_of, f, d_a, d_b = networks["a_to_b"], networks["b_to_a"], networks["judge_a"], networks["judge_b"]
    generators = torch.optim.Adam([*logits_of.parameters(), *f.parameters()], lr=lr, betas=betas)
    judges = torch.optim.Adam([*d_a.parameters(), *d_b.parameters()], lr=lr, betas=betas)
    kept: dict[str, list[Tensor]] = {}

    def query(name: str, size: int, images: Tensor) -> list[Tensor]:
        if size == 0:
            return list(images)
        assert rngs is not None, "a history needs its random generator"
        pool, rng, shown = kept.setdefault(name, []), rngs[name], []
        for image in images:
            if len(pool) < size:
                pool.append(image)
                shown.append(image)
            elif rng.random() < 0.5:
                index = int(rng.integers(size))
                shown.append(pool[index])
                pool[index] = image
            else:
                shown.append(image)
        return shown

    def shown(prefix: str, domain: str, images: Tensor, n_pairs: int) -> Tensor:
        if paired_pool_size is None:
            return torch.stack(query(f"{prefix}{domain}", pool_size, images))
        paired = query(f"{prefix}paired_{domain}", paired_pool_size, images[:n_pairs])
        return torch.stack([*paired, *query(f"{prefix}{domain}", pool_size, images[n_pairs:])])

    def painted(z: Tensor) -> Tensor:
        if colours is None:
            return z
        odds = torch.exp(z)
        total = odds.sum(1)
        image = torch.zeros(len(z), 3, *z.shape[2:], dtype=z.dtype)
        for k, colour in enumerate(colours):
            image = image + (odds[:, k] / total)[:, None] * colour.view(1, 3, 1, 1)
        return image

    def g(x: Tensor) -> Tensor:
        return painted(logits_of(x))

    def surprise(z: Tensor, target: Tensor) -> Tensor:
        found = [torch.log(torch.exp(z).sum(1)) - z[:, k] for k in range(z.shape[1])]  # K of (n, H, W)
        return torch.stack([found[k][target == k].sum() for k in range(len(found))]).sum() / (target != -100).sum()

    def distance(x: Tensor, y: Tensor, l2: float) -> Tensor:
        return (1 - l2) * torch.mean(torch.abs(x - y)) + l2 * torch.mean((x - y) ** 2)

    history = []
    for step, (a, b, n_pairs) in enumerate(batches):
        generators.param_groups[0]["lr"] = judges.param_groups[0]["lr"] = lr if lrs is None else lrs[step]
        values: dict[str, float] = {}
        z_b, fake_a = logits_of(a), f(b)  # (B, K or C, H, W), (B, C, H, W)
        fake_b = painted(z_b)
        rival_a = shown("real_", "a", a, n_pairs) if pool_reals else a
        rival_b = shown("real_", "b", b, n_pairs) if pool_reals else b

        for player in order:
            terms: dict[str, Tensor] = {}
            if player == "judges":
                if weight["judge_a"] != 0:
                    terms["judge_a"] = judge_loss(adversarial, d_a(a), d_a(shown("", "a", fake_a.detach(), n_pairs)))
                if weight["judge_b"] != 0:
                    terms["judge_b"] = judge_loss(adversarial, d_b(b), d_b(shown("", "b", fake_b.detach(), n_pairs)))
            else:
                if weight["adversarial_a"] != 0:
                    terms["adversarial_a"] = generator_loss(adversarial, d_a(rival_a).detach(), d_a(fake_a))
                if weight["adversarial_b"] != 0:
                    terms["adversarial_b"] = generator_loss(adversarial, d_b(rival_b).detach(), d_b(fake_b))
                if weight["cycle_a"] != 0:
                    terms["cycle_a"] = distance(f(fake_b), a, cycle_l2)
                if weight["cycle_b"] != 0:
                    terms["cycle_b"] = distance(g(fake_a), b, cycle_l2)
                if weight["identity_a"] != 0:
                    terms["identity_a"] = torch.mean(torch.abs(f(a) - a))
                if weight["identity_b"] != 0:
                    terms["identity_b"] = torch.mean(torch.abs(g(b) - b))
                if weight["reconstruction_a"] != 0 and n_pairs > 0:
                    terms["reconstruction_a"] = distance(fake_a[:n_pairs], a[:n_pairs], reconstruction_l2)
                if weight["reconstruction_b"] != 0 and n_pairs > 0 and classes_b is not None:
                    terms["reconstruction_b"] = surprise(z_b[:n_pairs], classes_b[step, :n_pairs])
                elif weight["reconstruction_b"] != 0 and n_pairs > 0:
                    terms["reconstruction_b"] = distance(fake_b[:n_pairs], b[:n_pairs], reconstruction_l2)
            if terms:
                loss = torch.zeros((), dtype=torch.float64)
                for name, term in terms.items():
                    loss = loss + weight[name] * term
                optimizer = judges if player == "judges" else generators
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            values |= {name: term.item() for name, term in terms.items()}
        history.append(values)
    return history
