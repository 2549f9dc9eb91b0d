"""One training step, whatever the method: translate once, then update each side by its weighted terms."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.errors import DiptychError
from diptych.methods.base import Method, Phase

Precision = Literal["fp32", "bf16"]


class NotFiniteError(DiptychError):
    """A term or a gradient became NaN or infinite; no weight was changed by it."""


def learning_rate(step: int, steps: int, lr: float) -> float:
    """`lr` over the first half of the steps, then linearly down to 0: lr (steps - step) / (steps / 2), from step 0."""
    return lr * min(1.0, 2 * (steps - step) / steps)


def side(method: Method, phase: Phase) -> list[str]:
    """The names of the networks that `phase` updates."""
    return [name for name in method.networks if name.startswith("judge") == (phase == "judges")]


def make_optimisers(method: Method, betas: tuple[float, float]) -> dict[Phase, torch.optim.Adam]:
    """An Adam for each side, a group for each share of the learning rate, which is set at every step."""
    optimisers: dict[Phase, torch.optim.Adam] = {}
    for phase in method.update_order:
        by_scale: dict[float, list[nn.Parameter]] = {}
        for name in side(method, phase):
            by_scale.setdefault(method.lr_scale.get(name, 1.0), []).extend(method.networks[name].parameters())
        groups = [{"params": parameters, "lr_scale": scale} for scale, parameters in by_scale.items()]
        optimisers[phase] = torch.optim.Adam(groups, betas=betas)
    return optimisers


def prepare(networks: Iterable[nn.Module], device: torch.device, precision: Precision) -> None:
    """Move networks to `device` in channels-last layout; under bf16 their outputs come back as float32.

    Losses are differences of nearly equal images: they are never taken in bf16.
    """
    for network in networks:
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision == "bf16":
            network.register_forward_hook(_to_float32)


def _to_float32(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    del module, inputs
    return output.float()


def take_step(
    method: Method,
    optimisers: dict[Phase, torch.optim.Adam],
    batch: Batch,
    lr: float,
    precision: Precision = "fp32",
) -> dict[str, float]:
    """Update every network once; return the terms, unweighted, by name.

    Raises `NotFiniteError`, naming the term, before anything that is not finite reaches a weight.
    """

    def autocast() -> AbstractContextManager[None]:
        return torch.autocast(batch.a.device.type, torch.bfloat16, enabled=precision == "bf16")

    with autocast():
        images = method.translate(batch)
    detached = {name: image.detach() for name, image in images.items()}
    seen: dict[str, float] = {}
    for phase in method.update_order:
        for name in side(method, "judges"):
            method.networks[name].requires_grad_(phase == "judges")
        with autocast():
            if phase == "generators":
                terms = method.generator_terms(batch, images)
            else:
                terms = method.judge_terms(batch, detached)
        if not terms:
            continue
        values = torch.stack([term.float() if precision == "bf16" else term for term in terms.values()])
        named = dict(zip(terms, values.tolist(), strict=True))
        for name, value in named.items():
            if not abs(value) < float("inf"):
                raise NotFiniteError(f"the term {name} became {value}")
        seen |= named
        weights = torch.tensor([method.weights[name] for name in terms], dtype=values.dtype, device=values.device)
        optimiser = optimisers[phase]
        optimiser.zero_grad()
        (weights * values).sum().backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise NotFiniteError(f"the gradient of the {phase} became infinite or NaN ({', '.join(terms)})")
        for group in optimiser.param_groups:
            group["lr"] = lr * group["lr_scale"]
        optimiser.step()
    for name in side(method, "judges"):
        method.networks[name].requires_grad_(True)
    return seen
