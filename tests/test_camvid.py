"""Short runs on real road scenes, where the development images are at hand."""

import json
from pathlib import Path

import pytest

from diptych.cli import main

CAMVID = Path(__file__).parents[2] / "shared" / "data" / "camvid"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAMVID.is_dir(), reason="the development images (../shared/data/camvid) are not here"),
]


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def test_twenty_chosen_pairs_teach_something(tmp_path: Path) -> None:
    train, val = CAMVID / "train", CAMVID / "val"
    selection = ["select", train / "photos", "--budget", 20, "--features", "descriptor", "--out", tmp_path / "sel"]
    run(*selection, "--partners", train / "labels")
    folders = ["--a", train / "photos", "--b", train / "labels", "--b-classes", CAMVID / "classes.csv"]
    size = ["--size", "64x48", "--generator", "resnet", "--blocks", 2, "--ngf", 8, "--judge.patch", 16]
    pairs = ["--pairs", tmp_path / "sel" / "pairs.csv"]
    shape = ["--batch-size", 4, "--val-every", 1000, "--optim.lr", 1e-3]
    run(
        "train",
        "pix2pix",
        *folders,
        *size,
        *pairs,
        *shape,
        "--norm",
        "instance",
        "--steps",
        150,
        "--out",
        tmp_path / "p",
    )
    run("train", "shukla", *folders, *size, *pairs, *shape, "--unpaired", 40, "--steps", 150, "--out", tmp_path / "s")
    for name in ("p", "s"):
        run(
            "evaluate",
            tmp_path / name,
            "--a",
            val / "photos",
            "--b",
            val / "labels",
            "--out",
            tmp_path / name / "scores",
        )
        record = json.loads((tmp_path / name / "scores" / "metrics.json").read_text())
        assert record["n"] == 101
        # Calling everything by the name of the commonest class gives 0.03 mean IoU and 0.29 pixel accuracy.
        assert record["scores"]["mean_iou"] > 0.15
        assert record["scores"]["pixel_accuracy"] > 0.5
