"""`diptych select` on features of very many images: the command itself, its time, its peak memory and its parts.

    python benchmarks/many.py                                       four rows of a million images, about twenty minutes
    python benchmarks/many.py --quick                               20,000 images, about a minute
    python benchmarks/many.py --rows 1000000 --budget 20 --kind unequal --kmeans faiss

The folder of images is made of hard links to a hundred tiny PNGs, the features are `selection.py`'s, float16 in a file.
Each row is a process of its own, which runs what the command line runs. `seconds` is all of that process, with the
imports; `parts` are within it: the list of names, the look for NaN, k-means, medoids, and the two pictures. `peak` is
`VmHWM` (Linux), with those pages of the mapped file that were in memory.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import selection
from memory import peak_mib

PICTURES = 100  # different ones; file systems allow some 60,000 links to each
IN_FOLDER = 1_000  # images of a subfolder


def make_images(folder: Path, count: int) -> None:
    """So many names of images below `folder`."""
    pictures = folder.with_name("pictures")
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(pictures / f"{number}.png")
    for start in range(0, count, IN_FOLDER):
        below = folder / f"{start // IN_FOLDER:05d}"
        below.mkdir(parents=True)
        for number in range(start, min(start + IN_FOLDER, count)):
            os.link(pictures / f"{number % PICTURES}.png", below / f"{number:07d}.png")
    shutil.rmtree(pictures)


def command(words: list[str]) -> dict[str, Any]:
    """`diptych WORDS` in this process: the seconds of its parts, and the peak."""
    from diptych import cli
    from diptych.selection import kmedoids

    select = importlib.import_module("diptych.commands.select")  # diptych.commands.select is its function
    parts: dict[str, float] = {}

    def timed(place: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(place, name)

        def outer(*values: Any, **named: Any) -> Any:
            began = time.perf_counter()
            answer = inner(*values, **named)
            parts[part] = parts.get(part, 0.0) + time.perf_counter() - began
            return answer

        setattr(place, name, outer)

    timed(select, "list_images", "names")
    timed(select, "check_numbers", "NaN")
    timed(kmedoids, "_clusters", "k-means")
    timed(kmedoids, "_medoid_of", "medoids")
    timed(select, "_draw", "pictures")
    status = cli.main(words)
    assert status == 0, status
    return {"parts": {name: round(seconds, 1) for name, seconds in parts.items()}, "peak": round(peak_mib())}


def row(work: Path, rows: int, budget: int, kind: str, kmeans: str, seed: int = 0, width: int = 256) -> dict[str, Any]:
    """One row; the images and the features are made where `work` does not have them."""
    photos, features = work / f"photos-{rows}", work / f"{kind}-{rows}-{width}-{seed}.npy"
    if not photos.exists():
        make_images(photos, rows)
    if not features.exists():
        selection.write(kind, rows, width, seed, "float16", str(features))
    with tempfile.TemporaryDirectory(dir=work) as out:
        words = ["select", str(photos), "--features", str(features), "--budget", str(budget), "--out", f"{out}/sel"]
        words += ["--kmeans", kmeans, "--seed", str(seed)]
        began = time.perf_counter()
        call = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(words)]
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        chosen = len((Path(out) / "sel" / "pairs.csv").read_text().splitlines()) - 1
    assert chosen == budget
    measured = json.loads(done.stdout.splitlines()[-1])
    size = features.stat().st_size / 2**20
    return {
        "work": f"diptych select, {budget} of {rows:,} x {width} features, {kind}, --kmeans {kmeans}",
        "goal": None,
        "seconds": {"command": round(seconds, 1), **measured["parts"]},
        "mib": {"features": round(size), "peak": measured["peak"]},
    }


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """All rows of the table as plain records, one by one as they come; `quick` makes them small."""
    count, budgets = (20_000, (20,)) if quick else (1_000_000, (20, 200))
    with tempfile.TemporaryDirectory() as work:
        for budget in budgets:
            for kmeans in ("own", "faiss"):
                yield row(Path(work), count, budget, "clustered", kmeans)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(command(json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description="time and memory of diptych select on features of very many images")
    parser.add_argument("--quick", action="store_true", help="20,000 images only")
    parser.add_argument("--rows", type=int, help="one row of this many images, instead of the table")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--kind", choices=selection.KINDS, default="clustered")
    parser.add_argument("--kmeans", choices=("own", "faiss"), default="own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a folder whose images and features are used again (default: none)")
    asked = vars(parser.parse_args())
    work, quick = asked.pop("work"), asked.pop("quick")
    if asked["rows"] is None:
        for record in rows(quick):
            print(json.dumps(record), flush=True)
        return
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(row(work or Path(made), **asked)))


if __name__ == "__main__":
    main()
