"""What feeds the networks: batches against what training consumes, and features against the backbone alone.

Both run on procedural scenes as JPEG files that these tables draw. "first epoch" decodes, resizes and crops; "from the
cache" crops what was decoded before. Features are those of a ResNet-50 with random weights, at its own 224 px: the
images a second of `extract`, from files to numbers, over those of the network on tensors that lie in memory.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.batches import Batches, rhythm_of
from diptych.dataset import Dataset, open_domain
from diptych.decoded import Decoded, InMemory
from diptych.features import BATCH, extract
from diptych.scenes import draw_scene


def draw(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Scenes as JPEG files."""
    folder.mkdir()
    for index in range(count):
        Image.fromarray(draw_scene(0, index, size).photo).save(folder / f"{index:04d}.jpg", quality=90)
    return sorted(folder.iterdir())


def batches_row(seconds_per_step: float, size: int = 256) -> dict[str, Any]:
    """Batches of one image a side at `size`, from files of twice the width, against a step of so many seconds."""
    count = 48
    with tempfile.TemporaryDirectory() as folder:
        for side in ("a", "b"):
            draw(Path(folder) / side, count, (2 * size, 3 * size // 2))
        domain_a, domain_b = (open_domain(Path(folder) / side, None)[0] for side in ("a", "b"))
        everything = tuple(range(count))
        dataset = Dataset(domain_a, domain_b, unpaired_a=everything, unpaired_b=everything)
        source = Batches(
            dataset,
            rhythm_of("unpaired", 0, count, 1),
            (size, size),
            batch_size=1,
            seed=0,
            decoded=Decoded(2**30, InMemory()),
        )
        epochs = []
        for epoch in range(2):
            times = []
            for step in range(epoch * count, (epoch + 1) * count):
                began = time.perf_counter()
                source.at(step)
                times.append(time.perf_counter() - began)
            epochs.append(statistics.median(times))
    return {
        "work": f"batches of {size} px from {2 * size}x{3 * size // 2} files, against the quickest step there",
        "goal": 5.0,
        "seconds": {"a step": seconds_per_step, "first epoch": epochs[0], "from the cache": epochs[1]},
        "ratio": seconds_per_step / epochs[0],
        "ratio from the cache": seconds_per_step / epochs[1],
    }


def features_row(quick: bool) -> dict[str, Any]:
    """ResNet-50, decode to feature, against the network alone."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    count = 4 * BATCH if quick else 12 * BATCH
    with tempfile.TemporaryDirectory() as folder:
        files = draw(Path(folder) / "photos", count, (384, 288))
        torch.manual_seed(0)
        backbone = transformers.ResNetModel(transformers.ResNetConfig())
        backbone.save_pretrained(Path(folder) / "resnet")
        transformers.ConvNextImageProcessor(size={"shortest_edge": 224}).save_pretrained(Path(folder) / "resnet")
        network = backbone.eval()
        pixels = torch.randn(BATCH, 3, 224, 224)
        with torch.no_grad():
            network(pixels)  # loads what is loaded once
            alone = []
            for _ in range(count // BATCH):
                began = time.perf_counter()
                network(pixels)
                alone.append(time.perf_counter() - began)
        extract(str(Path(folder) / "resnet"), files[:1], cache=Path(folder) / "cache")
        began = time.perf_counter()
        features = extract(str(Path(folder) / "resnet"), files, cache=Path(folder) / "cache")
        whole = (time.perf_counter() - began) / count
    assert np.isfinite(features).all()
    network_alone = statistics.median(alone) / BATCH
    return {
        "work": "features of a ResNet-50, 224 px, from files",
        "goal": None,
        "seconds": {"network alone": network_alone, "with reading": whole},
        "ratio": network_alone / whole,
    }
