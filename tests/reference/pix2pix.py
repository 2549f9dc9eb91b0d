"""pix2pix from its equations (Isola et al. 2017), for the direction G: A -> B; the other direction swaps the letters.

    min_G max_D  E log sigma(D(a, b)) + E log(1 - sigma(D(a, G a)))  +  lambda |G a - b|_1

    judge_b_given_a        J   = -E log sigma(D(a, b)) - E log(1 - sigma(D(a, sg G a)))
    adversarial_b_given_a  Adv = -E log sigma(D(a, G a))
    reconstruction_b       Rec = (1 - s) |G a - b|_1 + s |G a - b|_2^2            both means over pixels and channels

    D minimises J / 2,  G minimises Adv + 100 Rec;  D first.

Only true pairs take part. D sees concat(condition, judged image). Networks and images are float64.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

WEIGHTS = {"judge": 0.5, "adversarial": 1.0, "reconstruction": 100.0}


def judge_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    if kind == "vanilla":
        return -logsigmoid(real).mean() - logsigmoid(-fake).mean()
    if kind == "lsgan":
        return ((real - 1) ** 2).mean() + (fake**2).mean()
    if kind == "hinge":
        return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    if kind == "rsgan":
        return -logsigmoid(real - fake).mean()
    if kind == "ralsgan":
        return 0.5 * (((real - fake.mean() - 1) ** 2).mean() + ((fake - real.mean() + 1) ** 2).mean())
    raise ValueError(kind)


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    if kind == "vanilla":
        return -logsigmoid(fake).mean()
    if kind == "lsgan":
        return ((fake - 1) ** 2).mean()
    if kind == "hinge":
        return -fake.mean()
    if kind == "rsgan":
        return -logsigmoid(fake - real).mean()
    if kind == "ralsgan":
        return 0.5 * (((fake - real.mean() - 1) ** 2).mean() + ((real - fake.mean() + 1) ** 2).mean())
    raise ValueError(kind)


def train(
    networks: dict[str, torch.nn.Module],
    batches: list[tuple[Tensor, Tensor, int]],
    *,
    direction: str = "a_to_b",
    lr: float = 2e-4,
    lrs: list[float] | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
    order: tuple[str, str] = ("judges", "generators"),
    weights: dict[str, float] | None = None,
    adversarial: str = "vanilla",
    reconstruction_l2: float = 0.0,
) -> list[dict[str, float]]:
    """Trains G and D in place, one step a batch; returns each step's unweighted terms.

    `weights` are by term name (`reconstruction_b`), in place of the paper's. A step without true pairs does nothing.
    """
    pair_name, target_name = ("b_given_a", "b") if direction == "a_to_b" else ("a_given_b", "a")
    names = {
        "judge": f"judge_{pair_name}",
        "adversarial": f"adversarial_{pair_name}",
        "reconstruction": f"reconstruction_{target_name}",
    }
    weight = {names[term]: value for term, value in WEIGHTS.items()}
    assert set(weights or {}) <= set(weight), "a weight of no term"
    weight |= weights or {}
    generator, judge = networks[direction], networks[names["judge"]]
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
    judge_optimizer = torch.optim.Adam(judge.parameters(), lr=lr, betas=betas)

    history = []
    for step, (a, b, n_pairs) in enumerate(batches):
        for optimizer in (generator_optimizer, judge_optimizer):
            optimizer.param_groups[0]["lr"] = lr if lrs is None else lrs[step]
        terms: dict[str, Tensor] = {}
        if n_pairs > 0:
            condition, target = (a[:n_pairs], b[:n_pairs]) if direction == "a_to_b" else (b[:n_pairs], a[:n_pairs])
            fake = generator(condition)  # (n_pairs, C, H, W)
            real_pair = torch.cat([condition, target], dim=1)  # (n_pairs, 2C, H, W)
            fake_pair = torch.cat([condition, fake], dim=1)

            for player in order:
                loss = torch.zeros((), dtype=torch.float64)
                if player == "judges":
                    if weight[names["judge"]] != 0:
                        value = judge_loss(adversarial, judge(real_pair), judge(fake_pair.detach()))
                        terms[names["judge"]] = value
                        loss = loss + weight[names["judge"]] * value
                    optimizer = judge_optimizer
                else:
                    if weight[names["adversarial"]] != 0:
                        value = generator_loss(adversarial, judge(real_pair).detach(), judge(fake_pair))
                        terms[names["adversarial"]] = value
                        loss = loss + weight[names["adversarial"]] * value
                    if weight[names["reconstruction"]] != 0:
                        l1, l2 = (fake - target).abs().mean(), ((fake - target) ** 2).mean()
                        value = (1 - reconstruction_l2) * l1 + reconstruction_l2 * l2
                        terms[names["reconstruction"]] = value
                        loss = loss + weight[names["reconstruction"]] * value
                    optimizer = generator_optimizer
                if loss.requires_grad:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        history.append({name: value.item() for name, value in terms.items()})
    return history
