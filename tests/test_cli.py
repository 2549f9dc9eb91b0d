"""The command line, end to end at a tiny size. What it says to bad input is in test_bad_input.py."""

import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import CLASSES, Folders, diptych, make_folders, said_one_line, tiny, tree
from diptych import commands
from diptych.cli import COMMANDS, main, parse
from diptych.config import ResumeSettings, TrainSettings, setting_names
from diptych.methods import METHODS
from diptych.scenes import write_scenes


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def terms_of(run: Path) -> dict[int, dict[str, float]]:
    """Step -> its terms, as logged."""
    return {line["step"]: line["terms"] for line in log_of(run) if "terms" in line}


def scores_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


def test_a_run_folder_holds_what_the_design_says(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "run.json",
        "experiment.yaml",
        "log.jsonl",
        "previews",
        "tensorboard",
        "checkpoints",
        "report.html",
    }
    assert sorted(path.name for path in (trained / "previews").iterdir()) == ["00000002.png", "00000004.png"]
    index = json.loads((trained / "checkpoints.json").read_text())
    assert index["last"]["step"] == 4
    assert index["best"]["metric"] == "mean_iou"
    checkpoint = trained / "checkpoints" / index["best"]["name"]
    assert {path.name for path in checkpoint.iterdir()} == {"translator.json", "a_to_b", "b_to_a", "training"}
    assert [line["step"] for line in log_of(trained) if "validation" in line] == [2, 4]
    assert json.loads((trained / "run.json").read_text())["data"] == {"pairs": 4, "unpaired_a": 8, "unpaired_b": 8}
    page = (trained / "report.html").read_text()
    assert "reconstruction_b" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)  # self-contained


ODD_INPUTS = {
    "grey.png": Image.new("L", (37, 53), 90),
    "wide.jpg": Image.new("RGB", (101, 20), (10, 200, 30)),
    "see-through.png": Image.new("RGBA", (48, 32), (10, 20, 30, 40)),
    "deep.png": Image.fromarray(np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16)),
    "sub/tiny.png": Image.new("RGB", (3, 2), (200, 0, 0)),
}


@pytest.fixture
def odd_inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    for name, image in ODD_INPUTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


@pytest.mark.parametrize("at", ["training", "native"])
def test_translations_are_class_maps_of_the_inputs_size(
    trained: Path, odd_inputs: Path, tmp_path: Path, at: str
) -> None:
    assert diptych("translate", trained, odd_inputs, "--out", tmp_path / "out", "--at", at) == 0
    assert sorted(path for path in tree(tmp_path / "out") if path != "sub") == sorted(
        str(Path(name).with_suffix(".png")) for name in ODD_INPUTS
    )
    ids = {id_ for name, (id_, _) in CLASSES.items() if name != "void"}
    for name, image in ODD_INPUTS.items():
        with Image.open((tmp_path / "out" / name).with_suffix(".png")) as translated:
            assert translated.size == image.size
            assert translated.mode == "P"
            assert set(np.unique(np.asarray(translated)).tolist()) <= ids
            by_id = np.array(translated.getpalette()).reshape(-1, 3)
            for id_, colour in CLASSES.values():
                assert id_ >= len(by_id) or tuple(by_id[id_]) == colour


def test_native_size_is_another_view(trained: Path, folders: Folders, tmp_path: Path) -> None:
    photo = folders.photos / "scene001.png"
    for at in ("training", "native"):
        assert diptych("translate", trained, photo, "--out", tmp_path / at, "--raw", "--at", at) == 0
    training, native = (np.asarray(Image.open(tmp_path / at / "scene001.png")) for at in ("training", "native"))
    assert training.shape == native.shape == (32, 48, 3)
    assert (training != native).any()


def test_raw_is_coloured_and_its_nearest_class_is_the_map(trained: Path, folders: Folders, tmp_path: Path) -> None:
    photo = folders.photos / "scene001.png"
    assert diptych("translate", trained, photo, "--out", tmp_path / "map") == 0
    assert diptych("translate", trained, photo, "--out", tmp_path / "raw", "--raw") == 0
    with Image.open(tmp_path / "raw" / "scene001.png") as raw, Image.open(tmp_path / "map" / "scene001.png") as ids:
        assert raw.mode == "RGB"
        colours, mapped = np.asarray(raw).astype(int), np.asarray(ids)
    known = [(id_, colour) for name, (id_, colour) in CLASSES.items() if name != "void"]
    distance = np.stack([((colours - colour) ** 2).sum(-1) for _, colour in known])  # (K, H, W)
    nearest = np.array([id_ for id_, _ in known])[distance.argmin(0)]
    assert (nearest == mapped).mean() > 0.99  # 8-bit rounding may move a pixel on the border of two classes


def test_the_way_back_makes_photos(trained: Path, folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert diptych("translate", trained, folders.val_labels, "--out", out, "--direction", "b_to_a") == 0
    for path in folders.val_labels.iterdir():
        with Image.open(out / path.name) as photo:
            assert (photo.mode, photo.size) == ("RGB", (48, 32))


def test_overwrite_replaces_translations(trained: Path, folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "scene001.png").write_text("old")
    assert diptych("translate", trained, folders.photos / "scene001.png", "--out", tmp_path, "--overwrite") == 0
    assert Image.open(tmp_path / "scene001.png").size == (48, 32)


def test_scores_of_a_run_and_of_its_translations_agree(
    trained: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ("--a", folders.val_photos, "--b", folders.val_labels)
    assert diptych("evaluate", trained, *sides, "--out", tmp_path / "scores") == 0
    printed = capsys.readouterr().out
    record = scores_of(tmp_path / "scores")
    assert record["n"] == 4
    assert "32x24" in record["filter"]
    assert "void ignored" in record["protocol"]
    assert record["scored"] == {
        "run": str(trained),
        "checkpoint": record["scored"]["checkpoint"],
        "note": "the best checkpoint was chosen on these very images; --checkpoint last is free of that choice",
        "direction": "a_to_b",
    }
    low, high = record["intervals"]["mean_iou"]
    assert low <= record["scores"]["mean_iou"] <= high
    assert re.search(rf"mean iou +{record['scores']['mean_iou']:.4f} +\[{low:.4f}, {high:.4f}\]\s", printed)
    assert "1000 resamples, seed 0" in printed
    assert record["bootstrap"] == {
        "resamples": 1000,
        "seed": 0,
        "kind": "95 % percentile bootstrap over images",
    }
    assert set(tree(tmp_path / "scores")) == {"metrics.json", "confusion.png"}
    assert "void" not in record["scores"]["per_class"]
    assert record["scores"]["pixels"] == 4 * 32 * 47  # the void rim is a column of 48

    # The truth has the photos' size, so class maps are decided on the very pixels that the run is scored on.
    assert diptych("translate", trained, folders.val_photos, "--out", tmp_path / "maps") == 0
    truth = ("--b", folders.val_labels, "--b-classes", folders.classes)
    assert diptych("evaluate", "--generated", tmp_path / "maps", *truth, "--out", tmp_path / "from_maps") == 0
    assert scores_of(tmp_path / "from_maps")["scores"] == record["scores"]
    # Raw colours have been rounded to 8 bits before the nearest class is taken.
    assert diptych("translate", trained, folders.val_photos, "--out", tmp_path / "raw", "--raw") == 0
    assert diptych("evaluate", "--generated", tmp_path / "raw", *truth, "--out", tmp_path / "from_raw") == 0
    from_raw = scores_of(tmp_path / "from_raw")["scores"]
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou"):
        assert from_raw[name] == pytest.approx(record["scores"][name], abs=0.01)


def test_photos_are_scored_alike_both_ways(trained: Path, folders: Folders, tmp_path: Path) -> None:
    sides = ("--a", folders.val_photos, "--b", folders.val_labels, "--direction", "b_to_a")
    assert diptych("evaluate", trained, *sides, "--out", tmp_path / "scores") == 0
    record = scores_of(tmp_path / "scores")
    assert set(record["scores"]) == {"l1", "psnr", "ssim", "tolerance_accuracy"}
    assert "nearest" in record["filter"]  # class maps go in
    out = tmp_path / "photos"
    assert diptych("translate", trained, folders.val_labels, "--out", out, "--direction", "b_to_a") == 0
    assert diptych("evaluate", "--generated", out, "--b", folders.val_photos, "--out", tmp_path / "files") == 0
    files = scores_of(tmp_path / "files")
    assert files["n"] == record["n"] == 4
    assert files["scores"] == pytest.approx(record["scores"])


def test_the_truth_scores_itself_as_perfect(folders: Folders, tmp_path: Path) -> None:
    truth = ("--b", folders.val_labels, "--b-classes", folders.classes)
    coloured = tmp_path / "coloured"
    coloured.mkdir()
    for path in folders.val_labels.iterdir():
        Image.open(path).convert("RGB").save(coloured / path.name)
    assert diptych("evaluate", "--generated", folders.val_labels, *truth, "--out", tmp_path / "ids") == 0
    assert diptych("evaluate", "--generated", coloured, *truth, "--out", tmp_path / "colours") == 0
    for name in ("ids", "colours"):
        scores = scores_of(tmp_path / name)["scores"]
        assert [scores[key] for key in ("pixel_accuracy", "class_accuracy", "mean_iou")] == [1.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def other(trained: Path, folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run on the folders of `trained`, in a folder of the same name."""
    run = tmp_path_factory.mktemp("others") / trained.name
    sides = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes)
    assert diptych("train", "shukla", *sides, "--pairs", 4, *tiny("shukla"), "--seed", 5, "--out", run) == 0
    return run


def test_runs_are_compared_on_the_same_resamples(
    trained: Path, other: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ("--a", folders.val_photos, "--b", folders.val_labels)
    capsys.readouterr()
    assert diptych("evaluate", trained, other, trained, *sides, "--out", tmp_path / "both") == 0
    printed = capsys.readouterr().out
    record = scores_of(tmp_path / "both")
    assert set(record) == {"format", "diptych", "runs", "differences"}
    assert list(record["runs"]) == ["x", "x-2", "x-3"]
    assert [one["scored"]["run"] for one in record["runs"].values()] == [str(trained), str(other), str(trained)]
    assert {"metrics.json", "confusion-x.png", "confusion-x-2.png", "confusion-x-3.png"} == set(tree(tmp_path / "both"))
    found = record["differences"]
    assert list(found) == ["x-2", "x-3"]
    assert found["x-3"].keys() >= {"pixel_accuracy", "mean_iou", "iou sky", "accuracy road"}
    assert all(entry == {"difference": 0, "interval": [0, 0]} for entry in found["x-3"].values())
    iou = found["x-2"]["mean_iou"]
    first, second = (record["runs"][name]["scores"]["mean_iou"] for name in ("x", "x-2"))
    assert iou["difference"] == pytest.approx(second - first)
    low, high = iou["interval"]
    assert low <= iou["difference"] <= high
    assert re.search(
        rf"mean iou +{first:.4f} +{second:.4f} +{first:.4f} +\{second - first:+.4f} \[{low:.4f}, {high:.4f}\]", printed
    )
    assert "x-2 - x" in printed
    assert diptych("evaluate", trained, *sides, "--checkpoint", "best", "--out", tmp_path / "one") == 0
    alone = scores_of(tmp_path / "one")
    assert {key: alone[key] for key in record["runs"]["x"]} == record["runs"]["x"]


def test_sets_perceptual_distance_and_fcn_score_are_measured_where_asked(
    trained: Path, other: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(
        tmp_path / "resnet"
    )
    sides = ("--a", folders.val_photos, "--b", folders.val_labels, "--direction", "b_to_a")
    more = ("--extractor", "descriptor", "--perceptual", tmp_path / "resnet", "--segmenter", trained)
    capsys.readouterr()
    words = ("evaluate", trained, other, *sides, *more, "--resamples", 50, "--out", tmp_path / "both")
    assert diptych(*words) == 0
    printed = capsys.readouterr().out
    both = scores_of(tmp_path / "both")
    found = both["differences"]["x-2"]
    for name in ("psnr", "perceptual_distance", "fid", "kid", "precision", "recall", "fcn_mean_iou"):
        low, high = found[name]["interval"]
        assert low <= high
    assert found["ceiling_mean_iou"] == {"difference": 0, "interval": [0, 0]}  # the same real photos
    record = both["runs"]["x"]
    assert record["intervals"].keys() == {"l1", "psnr", "ssim", "tolerance_accuracy", "perceptual_distance"}
    assert record["perceptual"]["backbone"] == str(tmp_path / "resnet")
    assert record["sets"]["extractor"] == "descriptor"
    assert (record["sets"]["n_real"], record["sets"]["n_generated"]) == (4, 4)
    assert "Warning: FID of 4 images is biased" in printed
    for label in ("fid", "kid", "kid se", "perceptual distance", "fcn mean iou", "ceiling mean iou"):
        assert re.search(rf"^{label} +\d", printed, re.M), label

    # What was compared is there to be looked at, and scores the same as files.
    assert diptych("translate", trained, folders.val_labels, "--direction", "b_to_a", "--out", tmp_path / "files") == 0
    translations = tmp_path / "both" / "translations"
    assert sorted(path.name for path in translations.iterdir()) == ["x", "x-2"]
    for file in (tmp_path / "files").iterdir():
        with Image.open(file) as one, Image.open(translations / "x" / file.name) as same:
            assert (np.asarray(one) == np.asarray(same)).all()
    words = ("--generated", translations / "x", "--b", folders.val_photos, *more[:4], "--resamples", 50)
    assert diptych("evaluate", *words, "--out", tmp_path / "again") == 0
    again = scores_of(tmp_path / "again")
    assert again["scores"] == pytest.approx(record["scores"])
    assert again["sets"]["fid"] == pytest.approx(record["sets"]["fid"])
    assert not (tmp_path / "again" / "confusion.png").exists()


def test_class_maps_are_compared_as_sets_of_coloured_images(folders: Folders, tmp_path: Path) -> None:
    truth = ("--b", folders.val_labels, "--b-classes", folders.classes, "--extractor", "descriptor")
    assert diptych("evaluate", "--generated", folders.val_labels, *truth, "--out", tmp_path / "s") == 0
    record = scores_of(tmp_path / "s")
    assert record["sets"]["fid"] == pytest.approx(0, abs=1e-6)
    assert "class maps in their colours" in record["sets"]["images"]
    with Image.open(tmp_path / "s" / "translations" / "scene100.png") as shown:
        assert shown.mode == "RGB"
        assert shown.getpixel((3, 0)) == CLASSES["sky"][1]


def test_no_resamples_no_intervals(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ("--b", folders.val_labels, "--b-classes", folders.classes)
    assert (
        diptych("evaluate", "--generated", folders.val_labels, *truth, "--resamples", 0, "--out", tmp_path / "s") == 0
    )
    record = scores_of(tmp_path / "s")
    assert (record["intervals"], record["bootstrap"]) == ({}, None)
    assert "95 %" not in capsys.readouterr().out


def test_the_seed_of_the_resamples_is_the_intervals(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders.val_photos, tmp_path / "g")
    for index, file in enumerate(sorted((tmp_path / "g").iterdir())):
        file.rename(file.with_name(f"scene00{index}.png"))
    words = ("evaluate", "--generated", tmp_path / "g", "--b", folders.photos, "--resamples", 20)
    for name, seed in (("one", 1), ("same", 1), ("two", 2)):
        assert diptych(*words, "--seed", seed, "--out", tmp_path / name) == 0
    one, same, two = (scores_of(tmp_path / name) for name in ("one", "same", "two"))
    assert one == same
    assert one["scores"] == two["scores"]
    assert one["intervals"]["psnr"] != two["intervals"]["psnr"]


TERMS = {
    "pix2pix": {"adversarial_b_given_a", "reconstruction_b", "judge_b_given_a"},
    "cyclegan": {f"{term}_{side}" for term in ("adversarial", "cycle", "identity", "judge") for side in "ab"},
    "supervised": {"supervised_b"},
    "tripathy": {f"{term}_{side}" for term in ("adversarial", "cycle", "identity", "judge") for side in "ab"}
    | {f"{term}_{sides}" for term in ("adversarial", "judge") for sides in ("a_given_b", "b_given_a")},
}


@pytest.mark.parametrize("method", TERMS)
def test_the_other_methods_train_and_translate(method: str, folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, *tiny(method))
    assert diptych("train", method, *words, "--steps", 2, "--log-every", 1, "--out", run) == 0
    assert {step: set(terms) for step, terms in terms_of(run).items()} == dict.fromkeys((1, 2), TERMS[method])
    assert diptych("translate", run, folders.val_photos / "scene100.png", "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "P"


@pytest.mark.parametrize(("method", "wanted"), [("pix2pix", (True, False)), ("shukla", (False, True))])
def test_the_mode_of_translation_is_the_papers_unless_told(
    method: str, wanted: tuple[bool, bool], folders: Folders, tmp_path: Path
) -> None:
    words = ("--a", folders.photos, "--b", folders.labels, "--pairs", 3, *tiny(method), "--steps", 1)
    modes = []
    for name, more in (("own", ()), ("told", ("--translate-in-train-mode", not wanted[0]))):
        assert diptych("train", method, *words, *more, "--out", tmp_path / name) == 0
        record = tmp_path / name / "checkpoints" / "00000001" / "translator.json"
        modes.append(json.loads(record.read_text())["train_mode"])
    assert tuple(modes) == wanted


def test_tripathy_takes_pairs_for_a_quarter_of_the_steps_unless_told(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "tripathy", "--a", folders.photos, "--b", folders.labels, "--out", tmp_path / "run")
    for more, steps in (((), 250), (("--paired-steps", 7), 7)):
        capsys.readouterr()
        assert diptych(*words, "--steps", 1000, *more, "--dry-run") == 0
        assert yaml.safe_load(capsys.readouterr().out)["paired_steps"] == steps


def test_longer_training_leaves_the_switch_of_phases_where_it_was(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--pairs", 3, *tiny("tripathy"), "--steps", 4)
    assert diptych("train", "tripathy", *words, "--out", run) == 0
    assert diptych("resume", run, "--steps", 8) == 0
    assert yaml.safe_load((run / "experiment.yaml").read_text())["paired_steps"] == 1


def test_supervised_on_class_maps_ends_in_logits(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, *tiny("supervised"))
    validation = ("--val-a", folders.val_photos, "--val-b", folders.val_labels)
    longer = ("--steps", 60, "--optim.lr", 0.01, "--jitter", 1)
    assert diptych("train", "supervised", *words, *longer, *validation, "--out", run) == 0
    last = json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    config = json.loads((run / "checkpoints" / last / "a_to_b" / "config.json").read_text())
    assert (config["head"], config["out_channels"]) == ("logits", 3)  # sky, road, car; void is never answered
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "ids") == 0
    ids = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "ids").iterdir())])
    truth = np.stack([np.asarray(Image.open(file)) for file in sorted(folders.val_labels.iterdir())])
    seen = truth != CLASSES["void"][0]
    assert (ids == truth)[seen].mean() > 0.8  # a channel mistaken for a row would lose most of it
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "raw", "--raw") == 0
    assert Image.open(tmp_path / "raw" / "scene100.png").mode == "RGB"
    assert diptych("evaluate", run, "--a", folders.val_photos, "--b", folders.val_labels, "--out", tmp_path / "s") == 0
    scores = scores_of(tmp_path / "s")["scores"]
    assert scores["pixel_accuracy"] == pytest.approx((ids == truth)[seen].mean(), abs=1e-6)


@pytest.mark.parametrize("loss", ["pixel", "cross_entropy"])
def test_fcn8s_learns_class_maps_and_pictures(loss: str, folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4)
    small = ("--generator", "fcn8s", "--size", "32x32", "--ngf", 4, "--steps", 2, "--batch-size", 2, "--loss", loss)
    assert diptych("train", "supervised", *words, *small, "--out", run) == 0
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "P"


def test_the_direction_of_cross_entropy(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.labels, "--b", folders.photos, "--a-classes", folders.classes, *tiny("supervised"))
    assert diptych("train", "supervised", *words, "--steps", 2, "--direction", "b_to_a", "--out", run) == 0
    assert set(terms_of(run)[2]) == {"supervised_a"}
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "P"


def test_the_encoder_of_fcn8s_starts_from_the_weights_it_is_given(folders: Folders, tmp_path: Path) -> None:
    import torch

    from diptych.networks import FCN8s
    from diptych.translator import Translator

    torch.manual_seed(4)
    donor = FCN8s(ngf=4)
    given = {name: tensor for name, tensor in donor.state_dict().items() if name.startswith("features")}
    given |= {"pre_logits.fc1.weight": donor.fc6.weight, "pre_logits.fc1.bias": donor.fc6.bias}
    given |= {"pre_logits.fc2.weight": donor.fc7.weight, "pre_logits.fc2.bias": donor.fc7.bias}
    torch.save({name: tensor.detach() for name, tensor in given.items()}, tmp_path / "vgg.pth")
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4)
    small = ("--generator", "fcn8s", "--size", "32x32", "--ngf", 4, "--steps", 1, "--optim.lr", 1e-12)
    run = tmp_path / "run"
    assert diptych("train", "supervised", *words, *small, "--encoder-weights", tmp_path / "vgg.pth", "--out", run) == 0
    trained = Translator.from_pretrained(run).generators["a_to_b"].state_dict()
    torch.testing.assert_close(trained["features.28.weight"], given["features.28.weight"])
    torch.testing.assert_close(trained["fc6.weight"], donor.fc6.weight.detach())


def test_pix2pix_learns_the_direction_it_is_given(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, *tiny("pix2pix"))
    assert diptych("train", "pix2pix", *words, "--steps", 1, "--direction", "b_to_a", "--out", run) == 0
    assert set(terms_of(run)[1]) == {"adversarial_a_given_b", "reconstruction_a", "judge_a_given_b"}
    assert diptych("translate", run, folders.val_labels, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "RGB"


def test_generators_can_start_from_another_run(trained: Path, folders: Folders, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, *tiny("cyclegan"), "--seed", 5, "--optim.lr", 1e-12)
    assert diptych("train", "cyclegan", *words, "--steps", 1, "--init-from", trained, "--out", run) == 0
    index = json.loads((trained / "checkpoints.json").read_text())
    for direction in ("a_to_b", "b_to_a"):
        theirs = load_file(trained / "checkpoints" / index["best"]["name"] / direction / "model.safetensors")
        mine = load_file(run / "checkpoints" / "00000001" / direction / "model.safetensors")
        for name, weight in theirs.items():
            np.testing.assert_allclose(mine[name], weight, atol=1e-9)


def rows_of(file: Path) -> list[tuple[str, str]]:
    with file.open(newline="") as opened:
        return [(row["a"], row["b"]) for row in csv.DictReader(opened)]


def select(folders: Folders, out: Path, budget: int, *words: object) -> list[tuple[str, str]]:
    call = ("select", folders.photos, "--features", "descriptor", "--budget", budget, "--out", out)
    assert diptych(*call, *words) == 0
    return rows_of(out / "pairs.csv")


@pytest.mark.parametrize("selector", ["kmedoids", "random"])
def test_the_same_selection_twice_gives_the_same_bytes(selector: str, folders: Folders, tmp_path: Path) -> None:
    words = ("--selector", selector, "--partners", folders.labels)
    for name in ("one", "two"):
        rows = select(folders, tmp_path / name, 5, *words, "--seed", 3)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert sorted(tree(tmp_path / "one")) == ["chosen.png", "map.png", "pairs.csv"]
    assert len({left for left, _ in rows}) == 5


def test_another_seed_draws_others(folders: Folders, tmp_path: Path) -> None:
    drawn = {
        tuple(select(folders, tmp_path / str(seed), 5, "--selector", "random", "--seed", seed)) for seed in range(4)
    }
    assert len(drawn) > 1


def test_partners_are_found_by_stem(own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_folders.labels / "scene002.png").rename(own_folders.labels / "other.png")
    Image.open(own_folders.labels / "scene004.png").save(own_folders.labels / "scene004.tif")
    (own_folders.labels / "scene004.png").unlink()
    partner = {f"scene00{i}.png": f"scene00{i}.png" for i in (0, 1, 3, 5)} | {"scene004.png": "scene004.tif"}
    rows = select(own_folders, tmp_path / "sel", 6, "--partners", own_folders.labels)
    assert dict(rows) == partner | {"scene002.png": ""}
    assert "write the 1 missing partners into column b" in capsys.readouterr().out


def test_without_partners_column_b_waits(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = select(folders, tmp_path / "sel", 3)
    assert [right for _, right in rows] == ["", "", ""]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "write the 3 missing partners into column b of" in said
    assert str(tmp_path / "sel" / "pairs.csv") in said


def test_within_chooses_among_an_earlier_selection(folders: Folders, tmp_path: Path) -> None:
    wide = {left for left, _ in select(folders, tmp_path / "wide", 6, "--selector", "random", "--seed", 1)}
    narrow = {left for left, _ in select(folders, tmp_path / "narrow", 3, "--within", tmp_path / "wide" / "pairs.csv")}
    assert len(narrow) == 3
    assert narrow < wide


def test_given_pairs_stay_with_their_partners_and_count(folders: Folders, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a,b\nscene007.png,mine.png\nscene002.png,\n")
    rows = dict(select(folders, tmp_path / "sel", 5, "--given", given, "--partners", folders.labels))
    assert len(rows) == 5
    assert rows["scene007.png"] == "mine.png"
    assert rows["scene002.png"] == "scene002.png"


@pytest.mark.parametrize("selector", ["kmedoids", "random"])
def test_a_nested_selection_is_two_selections(selector: str, folders: Folders, tmp_path: Path) -> None:
    words = ("--selector", selector, "--seed", 4, "--partners", folders.labels)
    within, given = tmp_path / "within.csv", tmp_path / "given.csv"
    within.write_text("a\n" + "".join(f"scene{n:03d}.png\n" for n in range(1, 12)))
    given.write_text("a,b\nscene006.png,mine.png\n")
    bounds = ("--within", within, "--given", given)
    select(folders, tmp_path / "once", 3, *words, *bounds, "--unpaired", 7)
    select(folders, tmp_path / "first", 7, *words, *bounds)
    wide = tmp_path / "first" / "pairs.csv"
    select(folders, tmp_path / "second", 3, *words, "--within", wide, "--given", given)
    once = tree(tmp_path / "once")
    assert sorted(once) == ["chosen.png", "map.png", "pairs.csv", "unpaired.csv"]
    assert once["unpaired.csv"] == wide.read_bytes()
    for name in ("pairs.csv", "chosen.png"):
        assert once[name] == (tmp_path / "second" / name).read_bytes()

    chosen, unpaired = (dict(rows_of(tmp_path / "once" / name)) for name in ("pairs.csv", "unpaired.csv"))
    assert (len(chosen), len(unpaired)) == (3, 7)
    assert chosen.items() <= unpaired.items()
    assert chosen["scene006.png"] == "mine.png"
    assert "scene000.png" not in unpaired
    assert all(right == left for left, right in unpaired.items() if left != "scene006.png")


def test_a_budget_may_take_all_the_unpaired_ones(folders: Folders, tmp_path: Path) -> None:
    rows = select(folders, tmp_path / "sel", 12, "--unpaired", 12)
    assert rows_of(tmp_path / "sel" / "unpaired.csv") == rows
    assert rows == [(f"scene{n:03d}.png", "") for n in range(12)]


def test_a_nested_selection_is_trained_on(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sel, run = tmp_path / "sel", tmp_path / "run"
    select(folders, sel, 2, "--unpaired", 6, "--partners", folders.labels)
    said = capsys.readouterr().out
    assert said.startswith(f"2 images chosen among the 6 in {sel / 'unpaired.csv'}, shown in ")
    line = said.partition("Next: diptych ")[2].split()
    assert line[-6:] == ["--pairs", str(sel / "pairs.csv"), "--unpaired", str(sel / "unpaired.csv"), "--out", "RUN"]
    assert diptych(*line[:-1], run, *tiny("shukla"), "--b-classes", folders.classes, "--steps", 1) == 0
    unpaired = [left for left, _ in rows_of(sel / "unpaired.csv")]
    assert json.loads((run / "data.json").read_text()) == {
        "pairs": [[left, left] for left, _ in rows_of(sel / "pairs.csv")],
        "unpaired_a": unpaired,
        "unpaired_b": unpaired,
    }


def test_partners_that_wait_are_asked_for_after_a_nested_selection(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select(folders, tmp_path / "sel", 3, "--unpaired", 5)
    assert {right for _, right in rows_of(tmp_path / "sel" / "unpaired.csv")} == {""}
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"write the 3 missing partners into column b of {tmp_path / 'sel' / 'pairs.csv'}" in said


def dry_run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert diptych("train", *words, "--dry-run") == 0
    resolved: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return resolved


def test_flags_lie_on_top_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "method: cyclegan\na: x\nb: y\nsteps: 7\nsize: 64\nunpaired: 20\n"
        "optim: {lr: 1e-3, beta1: 0.9}\nweights: {cycle_a: 3, identity_a: 0}\n"
    )
    words = ("--recipe", recipe, "--out", "z", "--steps", 9, "--optim.beta1", 0.25)
    found = dry_run(capsys, *words)
    assert found["method"] == "cyclegan"
    assert (found["steps"], found["size"], found["unpaired"]) == (9, "64", "20")
    assert found["optim"] == {"lr": 1e-3, "beta1": 0.25, "beta2": 0.999}
    assert (found["weights"]["cycle_a"], found["weights"]["identity_a"], found["weights"]["cycle_b"]) == (3, 0, 10)
    assert dry_run(capsys, "shukla", *words)["method"] == "shukla"
    assert dry_run(capsys, f"--recipe={recipe}", "--out", "z")["steps"] == 7


@pytest.mark.parametrize("method", list(METHODS))
def test_a_dry_run_is_a_recipe_for_itself(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (method, "--a", "x", "--b", "y", "--out", tmp_path / "run", "--size", "256", "--no-flip", "--seed", 4)
    resolved = dry_run(capsys, *words)
    assert not (tmp_path / "run").exists()
    assert None not in (resolved["rhythm"], resolved["generator"], resolved["norm"])
    assert (resolved["adversarial"] is None) == (method == "supervised")
    recipe = tmp_path / "plan.yaml"
    recipe.write_text(yaml.safe_dump(resolved))
    assert dry_run(capsys, "--recipe", recipe) == resolved


def test_the_experiment_of_a_run_is_a_recipe(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = yaml.safe_load((trained / "experiment.yaml").read_text())
    again = tmp_path / "again"
    words = ("--recipe", trained / "experiment.yaml", "--out", again)
    assert dry_run(capsys, *words) == experiment | {"out": str(again)}
    assert diptych("train", *words) == 0
    assert terms_of(again) == terms_of(trained)


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


@pytest.mark.parametrize("method", list(METHODS))
def test_a_stopped_run_goes_on_as_if_it_had_not(method: str, folders: Folders, tmp_path: Path) -> None:
    pairs = () if method == "cyclegan" else ("--pairs", 3)
    pools = ("--pool-size", 2) if "pool_size" in METHODS[method].defaults else ()
    settings = train_settings(
        *(method, "--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes),
        *(*tiny(method), *pairs, *pools, "--steps", 5, "--log-every", 1, "--out", tmp_path / "whole"),
    )
    assert commands.train(settings) == (tmp_path / "whole", 5)
    stopped = settings.model_copy(update={"out": tmp_path / "stopped"})
    assert commands.train(stopped, stop=stop_before_step(2)) == (tmp_path / "stopped", 2)
    assert commands.resume(ResumeSettings(run=tmp_path / "stopped"), stop=stop_before_step(1))[1] == 3
    assert commands.resume(ResumeSettings(run=tmp_path / "stopped"))[1] == 5
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped", 5)
    assert terms_of(tmp_path / "whole") == terms_of(tmp_path / "stopped")


@pytest.fixture
def two_sources(tmp_path: Path) -> tuple[Path, Path]:
    """Photos and labels of 4 scenes, and 7 other scenes of another size whose first 4 have the same file names."""
    write_scenes(tmp_path / "own", 4, seed=0, size=(48, 40))
    write_scenes(tmp_path / "other", 7, seed=1, size=(64, 48))
    return tmp_path / "own", tmp_path / "other"


def sides_of(own: Path) -> tuple[object, ...]:
    return ("--a", own / "photos", "--b", own / "labels", "--b-classes", own / "classes.csv", "--size", "32x32")


def first(count: int) -> list[str]:
    return [f"{n:04d}.png" for n in range(count)]


def test_unpaired_images_from_elsewhere_are_trained_on_and_resumed(
    two_sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = two_sources
    settings = train_settings(
        *("shukla", *tiny("shukla"), *sides_of(own), "--pairs", 2, "--unpaired-b", other / "labels"),
        *("--unpaired-a", own / "photos", "--balance", 1, "--steps", 6, "--log-every", 1, "--out", tmp_path / "whole"),
    )
    assert commands.train(settings) == (tmp_path / "whole", 6)
    stopped = tmp_path / "stopped"
    assert commands.train(settings.model_copy(update={"out": stopped}), stop=stop_before_step(3)) == (stopped, 3)
    data = json.loads((stopped / "data.json").read_text())
    assert (data["unpaired_a"], data["unpaired_b"]) == (first(4), first(7))
    assert json.loads((stopped / "run.json").read_text())["data"] == {"pairs": 2, "unpaired_a": 4, "unpaired_b": 7}
    assert diptych("resume", stopped) == 0
    assert "stopped: 2 pairs; unpaired: 4 of a, 7 of b" in capsys.readouterr().err
    assert_same_weights(tmp_path / "whole", stopped, 6)
    assert terms_of(tmp_path / "whole") == terms_of(stopped)

    plain = settings.model_copy(update={"out": tmp_path / "plain", "unpaired_b": None})
    commands.train(plain)
    terms, others = terms_of(tmp_path / "whole"), terms_of(tmp_path / "plain")
    assert terms[1] == others[1]  # both pairs
    assert terms[2].keys() == others[2].keys()
    assert terms[2] != others[2]  # unpaired images


def test_a_resumed_run_reads_only_what_it_uses_of_either_folder(
    two_sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = two_sources
    run = tmp_path / "run"
    words = (*tiny("shukla"), *sides_of(own), "--unpaired-b", other / "labels", "--unpaired", 3, "--steps", 1)
    assert diptych("train", "shukla", *words, "--out", run) == 0  # without pairs nothing of --b itself is in use
    used = json.loads((run / "data.json").read_text())["unpaired_b"]
    shutil.rmtree(own / "labels")
    (own / "labels").mkdir()
    for name in set(first(7)) - set(used):
        (other / "labels" / name).write_bytes(b"broken")
    assert diptych("resume", run, "--steps", 2) == 0
    capsys.readouterr()
    (other / "labels" / used[0]).unlink()
    assert diptych("resume", run, "--steps", 3) == 2
    assert f"{other / 'labels' / used[0]}: no such file" in said_one_line(capsys)
    shutil.rmtree(other / "labels")
    assert diptych("resume", run, "--steps", 3) == 2
    assert f"{other / 'labels'}: no such folder any more" in said_one_line(capsys)


def test_previews_show_unpaired_images_from_elsewhere(two_sources: tuple[Path, Path], tmp_path: Path) -> None:
    own, other = two_sources
    words = (*tiny("cyclegan"), *sides_of(own), "--unpaired-b", other / "labels", "--direction", "b_to_a", "--steps", 1)
    assert diptych("train", "cyclegan", *words, "--out", tmp_path / "run") == 0
    # Of 7 the first and the last are among the rows shown; only the folder elsewhere has a seventh.
    assert (tmp_path / "run" / "previews" / "00000001.png").exists()


def test_the_pairs_own_folder_is_not_elsewhere(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders.labels)
    words = (*tiny("shukla"), "--pairs", 4, "--steps", 1, "--a", folders.photos, "--b", folders.labels)
    names = {}
    for name, elsewhere in (("plain", ()), ("same", ("--unpaired-b", tmp_path / "link"))):
        assert diptych("train", "shukla", *words, *elsewhere, "--unpaired", 4, "--out", tmp_path / name) == 0
        names[name] = json.loads((tmp_path / name / "data.json").read_text())
    assert names["same"] == names["plain"]
    assert sorted(right for _, right in names["same"]["pairs"]) == names["same"]["unpaired_b"]  # the pairs come first


def test_a_run_stopped_before_its_first_step_can_be_resumed(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sides = ("--a", folders.photos, "--b", folders.labels)
    settings = train_settings("shukla", *sides, *tiny("shukla"), "--steps", 1, "--out", run)
    assert commands.train(settings, stop=lambda: True) == (run, 0)
    assert diptych("resume", run) == 0
    assert list(terms_of(run)) == [1]


def test_resume_goes_beyond_the_first_end(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert diptych("resume", run, "--steps", 6) == 0
    assert [line["step"] for line in log_of(run) if "validation" in line] == [2, 4, 6]
    assert terms_of(run)[4] == terms_of(trained)[4]
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == 6
    assert yaml.safe_load((run / "experiment.yaml").read_text())["steps"] == 6


@pytest.mark.parametrize("name", ["data.json", "checkpoints.json", "experiment.yaml", "training/state.safetensors"])
def test_a_damaged_run_is_refused(name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    file = run / "checkpoints" / "00000004" / name if "/" in name else run / name
    file.write_bytes(b"{")
    before = tree(run)
    assert diptych("resume", run, "--steps", 6) == 2
    assert str(run) in said_one_line(capsys)
    assert tree(run) == before


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_at_the_same_weights(folders: Folders, tmp_path: Path) -> None:
    def words(out: str) -> list[str]:
        sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4]
        rest = ["--precision", "fp32", "--steps", 80, "--log-every", 1, "--val-every", 30, "--out", tmp_path / out]
        return [str(word) for word in ["train", "shukla", *sides, *tiny("shukla"), *rest]]

    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", *words("stopped")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "stopped" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_bytes().splitlines()) >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "finishing this step" in err
    assert "Traceback" not in err
    stopped_at = re.fullmatch(r"Stopped and saved at step (\d+)\. Go on with: diptych resume (\S+)\n", out)
    assert stopped_at is not None
    assert 3 <= int(stopped_at[1]) < 80
    assert stopped_at[2] == str(tmp_path / "stopped")
    assert len(terms_of(tmp_path / "stopped")) == int(stopped_at[1])

    resumed = subprocess.run([sys.executable, "-m", "diptych", "resume", stopped_at[2]], check=False)
    assert resumed.returncode == 0
    assert main(words("whole")) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped", 80)
    assert terms_of(tmp_path / "whole") == terms_of(tmp_path / "stopped")


def test_help_lists_every_setting_with_its_line_and_needs_no_torch() -> None:
    script = """
import io, json, contextlib, sys
from diptych.cli import COMMANDS, main
texts = {}
for words in ([], *([name] for name in COMMANDS)):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main([*words, "--help"])
        except SystemExit as stop:
            assert not stop.code
    texts[" ".join(words)] = out.getvalue()
main(["--version"])
print(json.dumps({"texts": texts, "heavy": [name for name in ("torch", "transformers", "sklearn", "matplotlib")
                                            if name in sys.modules]}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    version, answer = done.stdout.splitlines()
    assert re.fullmatch(r"diptych \d+\.\d+\.\d+", version)
    found = json.loads(answer)
    assert found["heavy"] == []
    for name, model in COMMANDS.items():
        assert name in found["texts"][""]
        text = " ".join(re.sub("[│─╭╮╰╯]", " ", found["texts"][name]).split())
        for setting in setting_names(model):
            *groups, last = setting.split(".")
            owner: Any = model
            for group in groups:
                owner = owner.model_fields[group].annotation
            field = owner.model_fields[last]
            flag = f"--{setting.replace('_', '-')}"
            if any(getattr(item, "metavar", None) for item in field.metadata):
                flag = next(item.metavar for item in field.metadata if getattr(item, "metavar", None))
            assert re.search(rf"(?<!\S){re.escape(flag)}(?![\w.-])", text), flag
            assert field.description, f"{name} {setting} has no help"
            assert " ".join(field.description.split())[:40] in text, f"{name} {setting}"


@pytest.mark.slow
def test_the_lines_of_the_readme(folders: Folders, tmp_path: Path) -> None:
    """As written in the README, but for the sizes; PHOTOS, LABELS and VAL are the folders."""
    lines = """
select PHOTOS --budget 4 --features descriptor --selector kmedoids --seed 0 --partners LABELS --out sel
train shukla --a PHOTOS --b LABELS --b-classes CLASSES --pairs sel/pairs.csv --unpaired 8 --size 32x24 --steps 4 \
    --batch-size 2 --generator resnet --blocks 1 --ngf 4 --judge.patch 16 --seed 0 --val-a VAL_PHOTOS \
    --val-b VAL_LABELS --val-every 2 --out runs/x
resume runs/x --steps 6
translate runs/x PHOTOS/scene001.png --out one
translate runs/x VAL_PHOTOS --out out
evaluate runs/x --a VAL_PHOTOS --b VAL_LABELS --out scores
evaluate --generated out --b VAL_LABELS --b-classes CLASSES --out again
"""
    places = {
        "VAL_PHOTOS": folders.val_photos,
        "VAL_LABELS": folders.val_labels,
        "PHOTOS": folders.photos,
        "LABELS": folders.labels,
        "CLASSES": folders.classes,
    }
    for word, place in places.items():
        lines = lines.replace(word, str(place))
    said = []
    for line in lines.replace("\\\n", " ").strip().splitlines():
        done = subprocess.run(
            [sys.executable, "-m", "diptych", *line.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        said.append(done.stdout)
    assert said[0].startswith("4 images chosen")
    assert "Next: diptych train shukla --a" in said[0]
    assert "Trained to step 4" in said[1]
    assert "Trained to step 6" in said[2]
    assert "1 translated" in said[3]
    assert "4 translated" in said[4]
    assert "mean iou" in said[5]
    assert scores_of(tmp_path / "scores")["scores"] == scores_of(tmp_path / "again")["scores"]
    assert scores_of(tmp_path / "scores")["n"] == 4


def test_folders_differ_from_one_another(tmp_path: Path) -> None:
    """The fixtures themselves: scenes that were all alike would let a mixed-up pairing pass."""
    data = make_folders(tmp_path / "d", count=6, val_count=0)
    assert len({path.read_bytes() for path in data.photos.iterdir()}) == 6
    assert len({path.read_bytes() for path in data.labels.iterdir()}) == 6


@pytest.mark.parametrize("recipe", ["shukla", "cyclegan"])
def test_weights_lie_on_top_of_a_shipped_recipe(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    call = [
        "--recipe",
        recipe,
        "--a",
        "x",
        "--b",
        "y",
        "--out",
        "z",
        "--dry-run",
        "--weights",
        "cycle_a",
        0,
        "cycle_b",
        3,
    ]
    assert diptych("train", *call) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    assert plan["method"] == recipe
    assert (plan["weights"]["cycle_a"], plan["weights"]["cycle_b"]) == (0, 3)
    assert plan["weights"]["identity_a"] == {"shukla": 10, "cyclegan": 5}[recipe]


@pytest.mark.slow
def test_a_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[1]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", str(checkout), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("diptych-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import diptych, sys; from diptych.cli import main; print(diptych.__file__); sys.exit(main(sys.argv[1:]))"
    call = ["train", "--recipe", "shukla", "--a", "x", "--b", "y", "--out", "z", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *call], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert yaml.safe_load(done.stdout.partition("\n")[2])["steps"] == 80000
    assert (tmp_path / "site" / "diptych" / "py.typed").exists()


@pytest.mark.parametrize("inside", [".", "answers"])
def test_translations_never_land_among_their_inputs(
    inside: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "x.png")
    before = tree(folder)
    assert diptych("translate", trained, folder, "--out", folder / inside, "--overwrite") == 2
    assert "lies among the images to translate" in said_one_line(capsys)
    if inside == ".":
        assert diptych("translate", trained, folder / "x.png", "--out", folder, "--overwrite") == 2
    assert tree(folder) == before


def test_palette_images_without_a_table_are_asked_about(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--a", folders.photos, "--b", folders.labels, "--out", tmp_path / "run", *tiny("cyclegan"), "--steps", 1]
    assert diptych("train", "cyclegan", *call) == 0
    assert "--b-classes" in capsys.readouterr().err


def test_select_goes_on_without_unreadable_files(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders.photos, tmp_path / "photos")
    (tmp_path / "photos" / "bad.png").write_text("no image")
    call = ["select", tmp_path / "photos", "--budget", 2, "--features", "descriptor"]
    assert diptych(*call, "--out", tmp_path / "one") == 2
    assert diptych(*call, "--out", tmp_path / "two", "--skip-unreadable") == 0


def test_partners_of_an_earlier_selection_stay(folders: Folders, tmp_path: Path) -> None:
    rows = select(folders, tmp_path / "first", 4, "--partners", folders.labels)
    again = select(folders, tmp_path / "second", 2, "--within", tmp_path / "first" / "pairs.csv")
    assert set(again) <= set(rows)


def test_sets_that_are_no_pairs_are_compared_as_sets_alone(
    trained: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for number, file in enumerate(sorted(folders.val_photos.iterdir())):
        shutil.copy(file, others / f"no_partner_{number}.png")
    words = ("evaluate", trained, "--a", others, "--b", folders.labels, "--extractor", "descriptor", "--device", "cpu")
    assert diptych(*words, "--unpaired", "--out", tmp_path / "scores") == 0
    record = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert record["scores"] == {}
    assert (record["sets"]["n_real"], record["sets"]["n_generated"]) == (12, 4)
    assert record["sets"]["fid"] > 0
    assert len(list((tmp_path / "scores" / "translations").iterdir())) == 4
    assert "no pairs: sets alone" in capsys.readouterr().out
    assert diptych(*words) == 2  # without --unpaired the names must agree
    said = capsys.readouterr().err
    assert "no file of the same stem" in said
    assert "--unpaired" in said
