"""About how long runs will take: the operations of one training step over what this machine does in a second."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diptych.batches import Batch
from diptych.build import NetworkMakers, device_named, make_method
from diptych.config import TrainSettings, parse_size
from diptych.networks.layers import norm_layer
from diptych.precision import computing_in, precision_on
from diptych.studies.folder import state_of
from diptych.studies.plan import Run
from diptych.training.step import side

COST = (
    *("method", "direction", "rhythm", "size", "batch_size", "loss", "adversarial", "pool_reals"),
    *("generator", "blocks", "depth", "skips", "ngf", "norm", "judge"),
)
"""The settings that decide how long a step takes, besides which terms have a weight."""
SECONDS_MEASURED = 0.5


def seconds_per_step(runs: Sequence[Run], out: Path) -> tuple[dict[str, float], int]:
    """Run name -> about how many seconds one of its steps takes; and for how many of the runs that was measured.

    Measured by the finished runs of the same configuration, where there are any, and estimated for the others.
    """
    by_cost: dict[str, list[Run]] = {}
    for run in runs:
        by_cost.setdefault(_cost(run.settings), []).append(run)
    seconds: dict[str, float] = {}
    measured, rate = 0, 0.0
    for alike in by_cost.values():
        finished = [state for state in (state_of(run, out) for run in alike) if state.kind in ("trained", "done")]
        timed = [state.seconds / state.step for state in finished if state.step and state.seconds]
        if timed:
            measured += len(alike)
            one = sum(timed) / len(timed)
        else:
            rate = rate or operations_per_second(alike[0].settings)
            one = operations_of_a_step(alike[0].settings) / rate
        seconds |= {run.name: one for run in alike}
    return seconds, measured


def _cost(settings: TrainSettings) -> str:
    weighted = sorted(name for name, weight in settings.weights.items() if weight)
    return repr([getattr(settings, name) for name in COST] + weighted)


def operations_of_a_step(settings: TrainSettings) -> float:
    """Floating-point operations of one training step, counted without a pixel: all its tensors are shapes alone.

    `settings` are resolved. A backbone of `perceptual` is left out: its size is not known before it is there.
    """
    shapes = torch.device("meta")
    weights = {name: 0.0 if name.startswith("perceptual") else w for name, w in settings.weights.items()}
    settings = settings.model_copy(update={"perceptual": None, "encoder_weights": None, "weights": weights})
    width, height = parse_size(settings.size)
    with shapes:
        method = make_method(settings, NetworkMakers(settings, {"a": None, "b": None}), shapes)
        images = torch.empty(settings.batch_size, 3, height, width)
        classes = torch.empty(settings.batch_size, height, width, dtype=torch.int64)
    n_pairs = settings.batch_size // 2 if settings.rhythm == "mixed" else settings.batch_size
    batch = Batch(images, images, 0 if settings.rhythm == "unpaired" else n_pairs, classes, classes)
    with FlopCounterMode(display=False) as counter:
        made = method.translate(batch)
        detached = {name: image.detach() for name, image in made.items()}
        for phase in method.update_order:
            for name in side(method, "judges"):
                method.networks[name].requires_grad_(phase == "judges")
            terms = (
                method.generator_terms(batch, made) if phase == "generators" else method.judge_terms(batch, detached)
            )
            if terms:
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def operations_per_second(settings: TrainSettings) -> float:
    """Floating-point operations per second of a convolution, normalised, and its gradients, in the middle of a
    generator like that of `settings`, where it would be trained."""
    device = device_named(settings.device)
    precision = precision_on(device, settings.precision)
    width, height = (max(side // 4, 4) for side in parse_size(settings.size))
    channels = 4 * settings.ngf
    layers = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), norm_layer("instance", channels), nn.ReLU(), nn.ReflectionPad2d(1)
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(settings.batch_size, channels, height, width, device=device, requires_grad=True)

    def once() -> None:
        with computing_in(precision, device):
            made = layers(images.contiguous(memory_format=torch.channels_last))
        made.float().mean().backward()
        if device.type != "cpu":
            torch.get_device_module(device).synchronize()

    once()  # the first prepares more than it computes
    began, seconds = time.perf_counter(), []
    while time.perf_counter() - began < SECONDS_MEASURED:
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    # A multiplication and an addition, forward and for either of the two gradients.
    operations = 6 * 9 * channels**2 * settings.batch_size * height * width
    return operations / min(seconds)  # what else the machine does at the moment only makes it slower
