"""Translation of a folder, from JPEG files to PNG files, against the plain loop: open, network, save, one by one.

ResNet-9, ngf 64, 256-px pictures, random weights. diptych's side is the function behind `diptych translate`, with its
checks and its writing in one move; loading the run is not counted on either side. The pictures are procedural scenes.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import textbook
from diptych.commands import translate
from diptych.config import TranslateSettings
from diptych.images import RGB
from diptych.networks import make_generator
from diptych.precision import precision_on
from diptych.scenes import draw_scene
from diptych.translator import Translator, TranslatorSpec

ARCHITECTURE: dict[str, Any] = {"generator": "resnet", "in_channels": 3, "out_channels": 3, "ngf": 64, "blocks": 9}
SIZE = (256, 256)


def plain_loop(network: torch.nn.Module, files: list[Path], out: Path) -> None:
    """As one would write it down."""
    with torch.no_grad():
        for file in files:
            pixels = np.asarray(Image.open(file).convert("RGB"), np.float32) / 127.5 - 1
            answer = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]  # (3, H, W)
            shown = ((answer.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            Image.fromarray(shown.numpy()).save(out / f"{file.stem}.png")


def rows(quick: bool) -> list[dict[str, Any]]:
    """One line: seconds an image of each way, medians over rounds in turns."""
    count, rounds = (6, 3) if quick else (16, 5)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        (root / "plain").mkdir()
        for index in range(count):
            Image.fromarray(draw_scene(0, index, SIZE).photo).save(root / "photos" / f"{index}.jpg", quality=90)
        files = sorted((root / "photos").iterdir())

        torch.manual_seed(0)
        generator, network = make_generator(ARCHITECTURE), textbook.resnet().eval()
        weights = [tensor.detach() for tensor in generator.state_dict().values()]
        network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
        domains: dict[str, Any] = {"a": None, "b": None}
        trained_in = precision_on(device, "auto")
        spec = TranslatorSpec(
            {"a_to_b": ARCHITECTURE}, SIZE, "a_to_b", domains, False, {"a": RGB, "b": RGB}, precision=trained_in
        )
        Translator({"a_to_b": generator}, spec).save_pretrained(root / "run")

        seconds: dict[str, list[float]] = {"textbook": [], "as shipped": []}
        for turn in range(rounds + 1):
            began = time.perf_counter()
            plain_loop(network, files, root / "plain")
            times = {"textbook": (time.perf_counter() - began) / count}
            # The first image is not counted: with it comes all that is done once.
            watch = Watch()
            settings = TranslateSettings(
                run=root / "run", images=root / "photos", out=root / f"out{turn}", device="cpu"
            )
            translate(settings, watch)
            times["as shipped"] = (watch.times[-1] - watch.times[0]) / (count - 1)
            if turn:
                for name, taken in times.items():
                    seconds[name].append(taken)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        {
            "work": "translation of a folder, ResNet-9, 256 px",
            "goal": 1.7,
            "seconds": medians,
            "ratio": medians["textbook"] / medians["as shipped"],
        }
    ]


class Watch:
    """A display that only remembers when the first and the last image were done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def count(self, what: str, done: int, total: int) -> None:
        del what, done, total
        self.times.append(time.perf_counter())

    def note(self, text: str) -> None:
        del text

    def trained(self, *what: object) -> None:
        del what
