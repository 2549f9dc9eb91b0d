"""One training step, whatever the method: translate once, then update each side by its weighted terms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.errors import NotFiniteError
from diptych.methods.base import Images, Method, Phase, Terms
from diptych.precision import Precision, computing_in
from diptych.processes import gathered
from diptych.reduction import any_of, average, sharing_rows


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
        optimisers[phase] = torch.optim.Adam(groups, betas=betas, fused=True)
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


@dataclass(frozen=True)
class Taken:
    """What a step came to: its terms, unweighted, by name; which of them are the judges'; the images, detached."""

    terms: dict[str, float]
    judge_terms: tuple[str, ...]
    images: Images


def take_step(
    method: Method,
    optimisers: dict[Phase, torch.optim.Adam],
    batch: Batch,
    lr: float,
    precision: Precision = "fp32",
    clip: float | None = None,
) -> Taken:
    """Update every network once; gradients of a side whose norm over all its networks is above `clip` are scaled to it.

    Of several processes each takes its rows of the batch; terms and gradients are those of all rows.

    Raises `NotFiniteError`, naming the term, before anything that is not finite reaches a weight.
    """
    with sharing_rows():
        return _take_step(method, optimisers, batch, lr, precision, clip)


def _take_step(
    method: Method,
    optimisers: dict[Phase, torch.optim.Adam],
    batch: Batch,
    lr: float,
    precision: Precision,
    clip: float | None,
) -> Taken:
    device = batch.a.device

    def terms_of(phase: Phase, images: Images) -> Terms:
        with computing_in(precision, device):
            return (method.generator_terms if phase == "generators" else method.judge_terms)(batch, images)

    with computing_in(precision, device):
        images = method.translate(batch)
    detached = {name: image.detach() for name, image in images.items()}
    seen: dict[Phase, dict[str, float]] = {}
    for phase in method.update_order:
        for name in side(method, "judges"):
            method.networks[name].requires_grad_(phase == "judges")
        terms = terms_of(phase, images if phase == "generators" else detached)
        if not terms:
            continue
        values = torch.stack([term.float() if precision == "bf16" else term for term in terms.values()])
        of_all_rows = values.detach().clone()
        average([of_all_rows])
        seen[phase] = dict(zip(terms, of_all_rows.tolist(), strict=True))
        for name, value in seen[phase].items():
            if not abs(value) < float("inf"):
                raise NotFiniteError(f"the term {name} became {value}{_from_the_input(batch)}")
        weights = torch.tensor([method.weights[name] for name in terms], dtype=values.dtype, device=values.device)
        optimiser = optimisers[phase]
        optimiser.zero_grad()
        (weights * values).sum().backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        average(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        if not norm.isfinite():
            with computing_in(precision, device):
                again = method.translate(batch) if phase == "generators" else detached
            at_fault = _not_finite(terms_of(phase, again), method.weights, parameters)
            raise NotFiniteError(
                f"the gradient of the {phase} became infinite or NaN, by the term {' and '.join(at_fault)}"
                if at_fault
                else f"the gradient of the {phase} became infinite or NaN, by {', '.join(terms)} together"
            )
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        for group in optimiser.param_groups:
            group["lr"] = lr * group["lr_scale"]
        optimiser.step()
    for name in side(method, "judges"):
        method.networks[name].requires_grad_(True)
    return Taken(
        {name: value for terms in seen.values() for name, value in terms.items()},
        tuple(seen.get("judges", ())),
        detached,
    )


def _from_the_input(batch: Batch) -> str:
    bad = [side for side, images in (("a", batch.a), ("b", batch.b)) if any_of(not images.isfinite().all())]
    return f", and the images of {' and '.join(bad)} in this batch are not finite" if bad else ""


def _not_finite(terms: Terms, weights: Mapping[str, float], parameters: Sequence[nn.Parameter]) -> list[str]:
    """The terms whose own gradient is not finite. They are fresh: the graph of those that failed is gone."""
    found = []
    for name, term in terms.items():
        gradients = torch.autograd.grad(weights[name] * term, parameters, retain_graph=True, allow_unused=True)
        if not torch.nn.utils.get_total_norm([g for g in gradients if g is not None]).isfinite():
            found.append(name)
    everywhere = {name for others in gathered(found) for name in others}
    return [name for name in terms if name in everywhere]
