"""A training step of diptych against the textbook's, in one process: same networks, weights, terms, batch and threads.

Either side takes whole steps on the same random images: generators and judges updated, terms read. The ways take turns,
so that what else the machine does falls on all of them; a ratio is that of the medians. "as shipped" is what `diptych
train` does by itself on this machine, "compiled" what it does with `--compile`.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import textbook
from diptych.batches import Batch
from diptych.build import NetworkMakers, make_method, resolve
from diptych.config import TrainSettings
from diptych.precision import precision_on
from diptych.training.compiling import compile_networks
from diptych.training.step import make_optimisers, prepare, take_step

Step = Callable[[torch.Tensor, torch.Tensor], dict[str, float]]
CONFIGURATIONS = [
    ("cyclegan", 128, 1),
    ("shukla", 128, 1),
    ("pix2pix", 256, 1),
    ("cyclegan", 128, 4),
    ("shukla", 128, 4),
    ("cyclegan", 256, 1),
    ("shukla", 256, 1),
    ("cyclegan", 256, 4),
    ("shukla", 256, 4),
]
QUICK = CONFIGURATIONS[:3]
GOALS = {"cyclegan": 1.7, "shukla": 1.7, "pix2pix": 1.5}


def textbook_step(method: str, device: torch.device) -> tuple[Step, dict[str, nn.Module]]:
    """The textbook's step and its networks by diptych's names, weights seeded."""
    torch.manual_seed(0)
    if method == "pix2pix":
        networks = {"a_to_b": textbook.UNet(), "judge_b_given_a": textbook.patch_judge(6, norm="batch")}
        step = textbook.pix2pix_step
    else:
        networks = {"a_to_b": textbook.resnet(), "b_to_a": textbook.resnet()}
        networks |= {"judge_a": textbook.patch_judge(), "judge_b": textbook.patch_judge()}
        step = {"cyclegan": textbook.cyclegan_step, "shukla": textbook.shukla_step}[method]
    for network in networks.values():
        network.to(device)
    return step(*networks.values()), networks


def diptych_step(
    method: str,
    size: int,
    batch_size: int,
    device: torch.device,
    compiled: bool,
    like: Mapping[str, nn.Module],
    wanted: Literal["auto", "fp32"] = "auto",
) -> Step:
    """diptych's step with the weights of the networks `like`, by the parts that `diptych train` is made of."""
    nowhere = Path("nowhere")
    settings = resolve(
        TrainSettings(method=method, a=nowhere, b=nowhere, out=nowhere, size=f"{size}x{size}", batch_size=batch_size)
    )
    subject = make_method(settings, NetworkMakers(settings, {"a": None, "b": None}), device)
    for name, network in subject.networks.items():
        theirs = [tensor.detach() for tensor in like[name].state_dict().values()]
        network.load_state_dict(dict(zip(network.state_dict(), theirs, strict=True)))
    precision = precision_on(device, wanted)
    prepare(subject.networks.values(), device, precision)
    if compiled:
        compile_networks(subject.networks.values())
    optimisers = make_optimisers(subject, (settings.optim.beta1, settings.optim.beta2))
    n_pairs = 0 if method == "cyclegan" else batch_size

    def step(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
        batch = Batch(a, b, n_pairs).to(device, torch.channels_last)
        return take_step(subject, optimisers, batch, settings.optim.lr, precision).terms

    return step


def measure(ways: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of each way, by name: the median of `rounds`, in turns, after two that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 2):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if device.type != "cpu":
                torch.get_device_module(device).synchronize()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def row(
    method: str, size: int, batch_size: int, rounds: int, device: torch.device, compiled_too: bool
) -> dict[str, Any]:
    """One line of the table."""
    a, b = torch.rand(2, batch_size, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    plain, networks = textbook_step(method, device)
    ours = {"as shipped": diptych_step(method, size, batch_size, device, False, networks)}
    if compiled_too:
        ours["compiled"] = diptych_step(method, size, batch_size, device, True, networks)
    steps = {"textbook": plain, **ours}
    seconds = measure({name: lambda step=step: step(a, b) for name, step in steps.items()}, rounds, device)
    return {
        "work": f"{method} step, {size} px, batch {batch_size}",
        "goal": GOALS[method],
        "seconds": seconds,
        "ratio": seconds["textbook"] / seconds["as shipped"],
        **({"ratio compiled": seconds["textbook"] / seconds["compiled"]} if compiled_too else {}),
    }


def rows(quick: bool, device: torch.device) -> Iterator[dict[str, Any]]:
    """The table, a line as soon as it is known; the quick one has the first three configurations."""
    for method, size, batch_size in QUICK if quick else CONFIGURATIONS:
        rounds = 3 if quick or size * size * batch_size > 128 * 128 * 4 else 7
        yield row(method, size, batch_size, rounds, device, compiled_too=not quick)
        torch._dynamo.reset()
