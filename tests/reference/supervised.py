"""Plain supervised learning on the true pairs, no judge: the baseline every method has to beat.

    images    supervised_b = (1 - s) |G a - b|_1 + s |G a - b|_2^2          means over images, pixels and channels
    classes   supervised_b = -1/N sum_i log p_i(t_i),   p_i = softmax(z_i),   z = G a
              log p_i(k) = z_i(k) - m_i - log sum_j exp(z_i(j) - m_i),   m_i = max_j z_i(j)

where i runs over the N pixels that are not void (class -100). The direction B -> A swaps the letters.
Networks and images are float64.
"""

import torch
from torch import Tensor

VOID = -100


def pixel_distance(x: Tensor, y: Tensor, l2: float) -> Tensor:
    return (1 - l2) * (x - y).abs().mean() + l2 * ((x - y) ** 2).mean()


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Of logits (B, K, H, W) and classes (B, H, W); at least one pixel is not void."""
    shifted = logits - logits.amax(dim=1, keepdim=True).detach()  # the shift cancels, in the gradient too
    log_probabilities = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    seen = classes != VOID  # (B, H, W)
    by_pixel = log_probabilities.permute(0, 2, 3, 1)[seen]  # (N, K)
    return -by_pixel[torch.arange(len(by_pixel)), classes[seen]].sum() / len(by_pixel)


def train(
    networks: dict[str, torch.nn.Module],
    batches: list[tuple[Tensor, Tensor, int]],
    *,
    direction: str = "a_to_b",
    classes: bool = False,
    lr: float = 2e-4,
    lrs: list[float] | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
    weights: dict[str, float] | None = None,
    reconstruction_l2: float = 0.0,
) -> list[dict[str, float]]:
    """Trains the direction's generator in place, one step a batch; returns each step's unweighted term.

    With `classes` the target half of a batch is the classes, int64 (B, H, W), -100 where void, and the generator gives
    logits (B, K, H, W). A step without true pairs, or all void, does nothing.
    """
    name = "supervised_b" if direction == "a_to_b" else "supervised_a"
    assert set(weights or {}) <= {name}, "a weight of no term"
    weight = (weights or {}).get(name, 1.0)
    generator = networks[direction]
    optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)

    history: list[dict[str, float]] = []
    for step, (a, b, n_pairs) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr if lrs is None else lrs[step]
        source, target = (a[:n_pairs], b[:n_pairs]) if direction == "a_to_b" else (b[:n_pairs], a[:n_pairs])
        if weight == 0 or n_pairs == 0 or (classes and not (target != VOID).any()):
            history.append({})
            continue
        output = generator(source)
        term = cross_entropy(output, target) if classes else pixel_distance(output, target, reconstruction_l2)
        optimizer.zero_grad()
        (weight * term).backward()
        optimizer.step()
        history.append({name: term.item()})
    return history
