"""What several processes add to a training step, measured here, and what a model of it says of many GPUs.

    python benchmarks/scaling.py [--out scaling.json]

Measured: the bytes and messages that a step reduces, the seconds it spends computing and reducing in 1, 2 and 4
processes on this machine, and the seconds of a bare reduction by size. The model has two numbers for a network, seconds
per message and bytes per second, and one for a processor, operations per second; docs/scaling.md has its formula.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from diptych.batches import Batch
from diptych.build import NetworkMakers, make_method, resolve
from diptych.config import TrainSettings
from diptych.precision import precision_on
from diptych.processes import gathered, joined, leave, this_process
from diptych.studies.estimate import operations_of_a_step
from diptych.training.step import make_optimisers, prepare, take_step

STEPS, WARM_UP = 5, 2
MEASURED = [("shukla", 64, 1), ("shukla", 64, 4), ("pix2pix", 256, 1)]  # at the papers' widths
PREDICTED = [("shukla", 256, 1), ("shukla", 256, 4), ("pix2pix", 256, 1), ("pix2pix", 256, 16)]
REDUCED = [2**10, 2**16, 2**20, 2**24, 2**26]  # bytes


@dataclass(frozen=True)
class Link:
    """A network between GPUs: bytes per second that a ring carries, and seconds that one message takes at least."""

    name: str
    bandwidth: float
    latency: float


LINKS = {
    8: [Link("NVLink in one machine, 200 GB/s", 200e9, 10e-6), Link("PCIe in one machine, 12 GB/s", 12e9, 15e-6)],
    64: [Link("400 Gb/s per GPU, 40 GB/s", 40e9, 15e-6), Link("100 Gb/s per machine, 10 GB/s", 10e9, 20e-6)],
    512: [Link("400 Gb/s per GPU, 40 GB/s", 40e9, 15e-6), Link("100 Gb/s per machine, 10 GB/s", 10e9, 20e-6)],
}
OPERATIONS_PER_SECOND = 40e12  # of a GPU in bf16 on these networks: stated, not measured


def settings_of(method: str, size: int, batch_size: int) -> TrainSettings:
    nowhere = Path("nowhere")
    return resolve(
        TrainSettings(method=method, a=nowhere, b=nowhere, out=nowhere, size=f"{size}x{size}", batch_size=batch_size)
    )


class Meter:
    """Stands between diptych and the network: bytes, messages and seconds of what is reduced."""

    def __init__(self) -> None:
        self.bytes, self.messages, self.seconds = 0, 0, 0.0
        self._reduce = dist.all_reduce

    def __call__(self, tensor: torch.Tensor) -> None:
        began = time.perf_counter()
        self._reduce(tensor)
        self.seconds += time.perf_counter() - began
        self.bytes += tensor.numel() * tensor.element_size()
        self.messages += 1


def step_times(method: str, size: int, batch_size: int) -> dict[str, float]:
    """Medians of a step in this process: seconds in all, seconds of reducing; bytes and messages reduced."""
    device = torch.device("cpu")
    settings = settings_of(method, size, batch_size)
    subject = make_method(settings, NetworkMakers(settings, {"a": None, "b": None}), device)
    precision = precision_on(device, "auto")
    prepare(subject.networks.values(), device, precision)
    optimisers = make_optimisers(subject, (0.5, 0.999))
    images = torch.rand(batch_size, 3, size, size).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
    rows: list[dict[str, float]] = []
    for _ in range(WARM_UP + STEPS):
        meter = Meter()
        dist.all_reduce = meter
        if dist.is_initialized():
            dist.barrier()
        began = time.perf_counter()
        take_step(subject, optimisers, Batch(images, images, batch_size), 2e-4, precision)
        seconds = time.perf_counter() - began
        dist.all_reduce = meter._reduce
        rows.append({"seconds": seconds, "reducing": meter.seconds, "bytes": meter.bytes, "messages": meter.messages})
    return {name: statistics.median(row[name] for row in rows[WARM_UP:]) for name in rows[0]}


def reduction_times() -> dict[int, float]:
    """Median seconds of reducing so many bytes in all processes."""
    found = {}
    for size in REDUCED:
        tensor = torch.zeros(size // 4)
        seconds = []
        for _ in range(WARM_UP + STEPS):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(tensor)
            seconds.append(time.perf_counter() - began)
        found[size] = statistics.median(seconds[WARM_UP:])
    return found


def work(out: Path) -> None:
    """What each process does; the first writes it down."""
    with joined("scaling"):
        found: dict[str, Any] = {"steps": {f"{m} {s} px x {b}": step_times(m, s, b) for m, s, b in MEASURED}}
        if this_process().size > 1:
            found["reductions"] = reduction_times()
        found["peak MiB"] = max(gathered(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        if this_process().rank == 0:
            out.write_text(json.dumps(found))
    leave(0)


def measure(processes: int) -> dict[str, Any]:
    """The same in so many processes of one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
        subprocess.run(
            [sys.executable, *launcher, __file__, "--work", str(out)],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def fit(reductions: dict[str, float], processes: int) -> Link:
    """The network of this machine by least relative error over a grid: what a message takes, and each byte more."""
    points = [(int(size), seconds) for size, seconds in reductions.items()]
    latency = min(seconds for _, seconds in points) / (2 * ceil(log2(processes)))
    largest, seconds = max(points)
    share = 2 * (processes - 1) / processes
    return Link("this machine's loopback", share * largest / (seconds - latency), latency)


def reducing(link: Link, processes: int, size: float, messages: float) -> float:
    """Seconds to reduce `size` bytes in so many messages: a ring's traffic, a tree's number of turns."""
    return 2 * (processes - 1) / processes * size / link.bandwidth + messages * 2 * ceil(log2(processes)) * link.latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scaling.json"))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work)
        return
    found = {processes: measure(processes) for processes in (1, 2, 4)}
    record: dict[str, Any] = {"cores": os.cpu_count(), "torch": torch.__version__, "measured": found}
    print(f"{'step':24}{'processes':>10}{'MiB':>8}{'messages':>10}{'seconds':>9}{'reducing':>10}{'model':>8}")
    for processes, one in found.items():
        link = fit(one["reductions"], processes) if processes > 1 else None
        for name, row in one["steps"].items():
            model = reducing(link, processes, row["bytes"], row["messages"]) if link is not None else 0.0
            row["model"] = model
            print(
                f"{name:24}{processes:>10}{row['bytes'] / 2**20:>8.1f}{row['messages']:>10.0f}{row['seconds']:>9.3f}"
                f"{row['reducing']:>10.3f}{model:>8.3f}"
            )
        print(f"{processes} processes: at most {one['peak MiB']:,.0f} MiB each")
        if link is not None:
            print(f"{link.name}: {link.bandwidth / 1e9:.2f} GB/s, {link.latency * 1e6:.0f} us a message")

    record["predicted"] = []
    print(f"\n{'step':20}{'GPUs':>6}  {'network':34}{'computing':>10}{'reducing':>10}{'efficiency':>11}")
    for method, size, batch_size in PREDICTED:
        settings = settings_of(method, size, batch_size)
        computing = operations_of_a_step(settings) / OPERATIONS_PER_SECOND
        # Neither depends on the size of images or batches.
        reduced, messages = next(
            (row["bytes"], row["messages"]) for name, row in found[2]["steps"].items() if name.startswith(method)
        )
        for gpus, links in LINKS.items():
            for link in links:
                seconds = reducing(link, gpus, reduced, messages)
                row = {"step": f"{method} {size} px x {batch_size}", "gpus": gpus, "network": link.name}
                row |= {"computing": computing, "reducing": seconds, "efficiency": computing / (computing + seconds)}
                record["predicted"].append(row)
                print(
                    f"{row['step']:20}{gpus:>6}  {link.name:34}{computing * 1e3:>8.1f}ms{seconds * 1e3:>8.1f}ms"
                    f"{row['efficiency']:>11.2f}"
                )
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
