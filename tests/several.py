"""Real processes that meet on the loopback, for the tests of shared work; as a script, what each of them does.

`python tests/several.py FOLDERS OUT NAME ...` trains each of the cases NAME for five steps in float64, and writes what
came of it into OUT.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STEPS = 5
SMALL = {
    "size": "16x16",
    "batch_size": 2,
    "ngf": 4,
    "judge": {"ndf": 4, "patch": 16},
    "steps": STEPS,
    "precision": "fp32",
    "generator": "resnet",
    "blocks": 1,
}
UNET = {"generator": "unet", "depth": 3, "blocks": None, "norm": "batch", "dropout": False}
CASES: dict[str, dict[str, Any]] = {
    "cyclegan": {"method": "cyclegan"},
    "cyclegan-batchnorm": {"method": "cyclegan", "norm": "batch"},
    "pix2pix": {"method": "pix2pix", **UNET},
    "pix2pix-ralsgan": {"method": "pix2pix", "adversarial": "ralsgan", "norm": "instance", "dropout": False},
    "pix2pix-clipped": {"method": "pix2pix", "adversarial": "hinge", "optim": {"clip": 0.1}, **UNET},
    "supervised": {"method": "supervised", "loss": "cross_entropy"},
    "supervised-pixels": {"method": "supervised", "loss": "pixel", "reconstruction_l2": 0.5},
    "shukla-paired-and-unpaired": {"method": "shukla", "pairs": "4"},
    "shukla-paired": {"method": "shukla", "pairs": "all", "unpaired": "none"},
    "shukla-unpaired": {"method": "shukla", "pairs": "none"},
    "shukla-mixed": {"method": "shukla", "pairs": "4", "rhythm": "mixed", "adversarial": "ralsgan"},
    "shukla-classes": {"method": "shukla", "pairs": "4", "rhythm": "mixed", "loss": "cross_entropy"},
    "tripathy-phases": {"method": "tripathy", "pairs": "4", "paired_steps": 2},
    "tripathy-mixed": {"method": "tripathy", "pairs": "4", "rhythm": "mixed", "norm": "batch"},
}


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def start(words: Sequence[str], count: int, **environment: str) -> list[subprocess.Popen[str]]:
    """`python *words` in `count` processes that know where to meet."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={
                **os.environ,
                "WORLD_SIZE": str(count),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def together(words: Sequence[str], count: int, seconds: float = 240, **environment: str) -> list[tuple[int, str, str]]:
    """Run `python *words` in `count` processes; the exit code, output and errors of each."""
    processes = start(words, count, **environment)
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, out, err) for process, (out, err) in zip(processes, said, strict=True)]


def five_steps(folders: Path, case: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """Terms and gradients of every step, weights and statistics after the last, by name."""
    from dataclasses import replace

    from diptych.batches import Batch
    from diptych.build import make_training, open_dataset, resolve
    from diptych.config import TrainSettings
    from diptych.display import Silent
    from diptych.training.step import make_optimisers, take_step

    places = {"a": folders / "photos", "b": folders / "labels", "b_classes": folders / "classes.csv"}
    wanted: dict[str, Any] = {**SMALL, **places, **case, "out": folders / "none", "batch_size": batch_size}
    if wanted["method"] == "supervised":
        wanted.pop("judge")
    settings = resolve(TrainSettings(**wanted))
    training = make_training(settings, open_dataset(settings, Silent()), torch.device("cpu"), Silent())
    method = training.method
    for network in method.networks.values():
        network.double()
    optimisers = make_optimisers(method, (0.5, 0.999))
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        batch: Batch = training.batches.at(step)
        batch = replace(batch, a=batch.a.double(), b=batch.b.double())
        taken = take_step(method, optimisers, batch, 1e-3, clip=settings.optim.clip)
        found |= {
            f"term {step} {name}": torch.tensor(value, dtype=torch.float64) for name, value in taken.terms.items()
        }
        for name, network in method.networks.items():
            for parameter, tensor in network.named_parameters():
                if tensor.grad is not None:
                    found[f"gradient {step} {name} {parameter}"] = tensor.grad.clone()
    for name, network in method.networks.items():
        found |= {f"weights {name} {key}": tensor.clone() for key, tensor in network.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in found.items()}


if __name__ == "__main__":
    from safetensors.torch import save_file

    from diptych.processes import joined

    with joined("five steps") as here:
        for name in sys.argv[3:]:
            found = five_steps(Path(sys.argv[1]), CASES[name], SMALL["batch_size"])
            save_file(found, Path(sys.argv[2]) / f"{name}-{here.rank}.safetensors")
