"""Measures the memory of a training of many steps and of the translation of many images, which must not grow.

    python tests/faults/memory.py --steps 10000 --images 100000

Networks and images are tiny, so that what grows by a little at every step or image is seen beside them. Resident memory
is read from /proc, as Linux has it, at 50 places; the first tenth, in which buffers and caches fill, does not count.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import kills

PLACES = 50
ALLOWED = 4.0  # megabytes that the second half may be above the first


class Sampler:
    """A display that notes the resident memory, in megabytes."""

    def __init__(self, what: str | None) -> None:
        self.what = what
        self.series: list[float] = []

    def count(self, what: str, done: int, total: int) -> None:
        if what == self.what and done % max(1, total // PLACES) == 0:
            self.series.append(resident())

    def trained(self, run: str, step: int, steps: int, images_per_second: float, terms: Mapping[str, float]) -> None:
        if step % max(1, steps // PLACES) == 0:
            self.series.append(resident())

    def note(self, text: str) -> None: ...


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(series: list[float]) -> float:
    """How far the median of the second half is above that of the first, without its first tenth.

    Not the highest: what is held for a moment, while a checkpoint is written, is no growth.
    """
    return median(series[len(series) // 2 :]) - median(series[len(series) // 10 : len(series) // 2])


def train(root: Path, steps: int) -> list[float]:
    from diptych import commands
    from diptych.cli import parse
    from diptych.config import TrainSettings

    words = kills.words("shukla", root / "data", root / "run")
    changes = {"--steps": steps, "--val-every": max(1, steps // 20), "--log-every": 10}
    for name, value in changes.items():
        words[words.index(name) + 1] = str(value)
    display = Sampler(None)
    settings = TrainSettings(**parse(words).model_dump(exclude={"recipe", "dry_run"}))
    commands.train(settings, display)
    return display.series


def translate(root: Path, images: int) -> list[float]:
    from diptych import commands
    from diptych.config import TranslateSettings

    photos = sorted((root / "data/train/photos").iterdir())
    for place in range(images):
        folder = root / "many" / f"{place // 1000:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(photos[place % len(photos)], folder / f"{place}.png")
    display = Sampler("translating")
    commands.translate(TranslateSettings(run=root / "run", images=root / "many", out=root / "out"), display)
    return display.series


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=100_000)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    wrong = False
    with tempfile.TemporaryDirectory(prefix="diptych-memory-") as name:
        root = Path(name)
        os.environ["DIPTYCH_CACHE"] = str(root / "cache")
        kills.make_data(root / "data")
        for what, series in (
            (f"{options.steps} steps", train(root, options.steps)),
            (f"{options.images} translations", translate(root, options.images)),
        ):
            grew = growth(series)
            wrong |= grew > ALLOWED
            print(f"{what}: the second half is {grew:+.1f} MB above the first; MB:", flush=True)
            print(f"  {json.dumps([round(value) for value in series])}", flush=True)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
