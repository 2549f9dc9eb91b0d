"""What several test files stand on: tiny folders of photos and class maps, and one tiny trained run."""

import csv
import itertools
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch is imported anywhere: two tests on two threads each would only wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from diptych.cli import main, parse
from diptych.config import TrainSettings

settings.register_profile("patient", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("patient")

CLASSES = {"sky": (0, (70, 130, 180)), "road": (7, (128, 64, 128)), "car": (20, (200, 0, 0)), "void": (255, (0, 0, 0))}
"""Name -> id in the files and colour; the ids are not 0, 1, 2, so that rows and ids cannot be confused unnoticed."""
WIDTH, HEIGHT = 48, 32


@dataclass(frozen=True)
class Folders:
    """photos/NAME.png and labels/NAME.png of the same scenes, four more in val_photos/ and val_labels/."""

    root: Path
    photos: Path
    labels: Path
    val_photos: Path
    val_labels: Path
    classes: Path


def draw_scene(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Sky over road, a car on it, a void rim: noisy RGB `(H, W, 3)` and class ids `(H, W)`."""
    rng = np.random.default_rng(seed)
    ids = np.full((HEIGHT, WIDTH), CLASSES["sky"][0], np.uint8)
    horizon = int(rng.integers(8, 20))
    ids[horizon:] = CLASSES["road"][0]
    left, top = int(rng.integers(2, WIDTH - 14)), int(rng.integers(horizon, HEIGHT - 8))
    ids[top : top + 6, left : left + 12] = CLASSES["car"][0]
    ids[:, 0] = CLASSES["void"][0]
    photo = np.zeros((HEIGHT, WIDTH, 3))
    for _, (id_, colour) in CLASSES.items():
        photo[ids == id_] = np.array(colour) * 0.5 + 60
    photo += rng.normal(0, 8, photo.shape) + rng.uniform(-30, 30)
    return photo.clip(0, 255).astype(np.uint8), ids


def palette_image(ids: NDArray[np.uint8]) -> Image.Image:
    """Class ids `(H, W)` as a palette image in the colours of `CLASSES`."""
    palette = np.zeros((256, 3), np.uint8)
    for id_, colour in CLASSES.values():
        palette[id_] = colour
    image = Image.fromarray(ids)
    image.putpalette(palette.tobytes())
    return image


def make_folders(root: Path, count: int = 12, val_count: int = 4) -> Folders:
    """Draw the scenes into `root`, a new folder."""
    folders = Folders(
        root, root / "photos", root / "labels", root / "val_photos", root / "val_labels", root / "classes.csv"
    )
    for photos, labels, seeds in (
        (folders.photos, folders.labels, range(count)),
        (folders.val_photos, folders.val_labels, range(100, 100 + val_count)),
    ):
        photos.mkdir(parents=True)
        labels.mkdir()
        for seed in seeds:
            photo, ids = draw_scene(seed)
            Image.fromarray(photo).save(photos / f"scene{seed:03d}.png")
            palette_image(ids).save(labels / f"scene{seed:03d}.png")
    lines = [f"{id_},{name},{','.join(map(str, colour))}" for name, (id_, colour) in CLASSES.items()]
    folders.classes.write_text("\n".join(["id,name,red,green,blue", *lines, ""]))
    return folders


@pytest.fixture(scope="session", autouse=True)
def _own_feature_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DIPTYCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders that every test may read and none may change."""
    return make_folders(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def own_folders(tmp_path: Path) -> Folders:
    """Folders of one's own, to spoil."""
    return make_folders(tmp_path / "data", count=6, val_count=2)


def diptych(*words: object) -> int:
    return main([str(word) for word in words])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, and every folder, as it is now."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")
    }


def said_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error on standard error, one line and the last; before it only what a training says when it begins."""
    said = capsys.readouterr()
    assert said.out == ""
    found = re.fullmatch(r"(?:(?!diptych)\w+: [^\n]+\n)*(diptych: error: [^\n]+\n)", said.err)
    assert found, said.err
    return found[1]


def tiny(method: str, size: str = "32x24") -> list[str]:
    """Flags that make a training of `method` a matter of a second."""
    networks = (
        ["--generator", "unet", "--depth", "3"] if method == "pix2pix" else ["--generator", "resnet", "--blocks", "1"]
    )
    judges = [] if method == "supervised" else ["--judge.patch", "16"]
    return ["--size", size, "--steps", "4", "--batch-size", "2", "--ngf", "4", *judges, *networks]


@pytest.fixture(scope="session")
def trained(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of shukla, 4 steps, 4 pairs within 8 images a side, validated at steps 2 and 4; copy it to change it."""
    run = tmp_path_factory.mktemp("runs") / "x"
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes]
    validation = ["--val-a", folders.val_photos, "--val-b", folders.val_labels, "--val-every", "2"]
    words = ["train", "shukla", *sides, "--pairs", "4", "--unpaired", "8", *tiny("shukla"), *validation, "--out", run]
    assert diptych(*words) == 0
    return run


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def terms_of(run: Path) -> dict[int, dict[str, float]]:
    """Step -> its terms, as logged."""
    return {line["step"]: line["terms"] for line in log_of(run) if "terms" in line}


def scores_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


def rows_of(file: Path) -> list[tuple[str, str]]:
    with file.open(newline="") as opened:
        return [(row["a"], row["b"]) for row in csv.DictReader(opened)]


def train_settings(*words: object) -> TrainSettings:
    parsed = parse(["train", *(str(word) for word in words)])
    return TrainSettings(**parsed.model_dump(exclude={"recipe", "dry_run"}))


def stop_before_step(step: int) -> Callable[[], bool]:
    """True when asked for the `step`-th time; the loop asks once before each step."""
    times = itertools.count()
    return lambda: next(times) >= step


def assert_same_weights(one: Path, other: Path, step: int) -> None:
    """Generators, judges, optimisers, pools: every file of the checkpoint, bit by bit."""
    name = f"checkpoints/{step:08d}"
    assert tree(one / name) == tree(other / name)
