"""`diptych evaluate`, end to end at a tiny size."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import CLASSES, Folders, diptych, said_one_line, scores_of, tiny, tree


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
        "precision": json.loads((trained / "run.json").read_text())["precision"],
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
    shutil.copy(others / "no_partner_1.png", others / "no_partner_1.bmp")
    assert diptych(*words, "--unpaired", "--out", tmp_path / "twice") == 2
    assert "no_partner_1: two inputs have this stem, and their translations one name" in said_one_line(capsys)


def test_a_run_on_exchanged_folders_is_not_scored_the_wrong_way_round(
    trained: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"a": folders.photos, "b": folders.labels, "val_a": folders.val_photos, "val_b": folders.val_labels}
    exchanged = {"a": own["b"], "b": own["a"], "val_a": own["val_b"], "val_b": own["val_a"]}
    for name, sides in (("own", own), ("exchanged", exchanged)):
        (tmp_path / name).mkdir()
        lines = [f"{key}: {json.dumps(str(path))}\n" for key, path in sides.items()]
        (tmp_path / name / "dataset.yaml").write_text("".join(lines))
    evaluate = ("evaluate", trained, "--resamples", "0", "--out")
    assert diptych(*evaluate, tmp_path / "1", "--data", tmp_path / "own") == 0
    assert diptych(*evaluate, tmp_path / "2", "--data", tmp_path / "exchanged", "--swap") == 0
    assert scores_of(tmp_path / "1")["scores"] == scores_of(tmp_path / "2")["scores"]
    capsys.readouterr()
    for words, mend in (((tmp_path / "exchanged",), "give --swap"), ((tmp_path / "own", "--swap"), "take --swap out")):
        assert diptych(*evaluate, tmp_path / "3", "--data", *words) == 2
        assert mend in said_one_line(capsys)
    assert not (tmp_path / "3").exists()
    # Who names both folders means them.
    sides = ("--a", folders.val_photos, "--b", folders.val_labels)
    assert diptych(*evaluate, tmp_path / "4", "--data", tmp_path / "exchanged", *sides) == 0


def test_truths_without_an_input_are_told_of(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(min(folders.val_labels.iterdir()), few)
    words = ("evaluate", "--b", folders.val_labels, "--b-classes", folders.classes)
    assert diptych(*words, "--generated", few, "--out", tmp_path / "scores") == 0
    note = f"3 images of {folders.val_labels} have no input and are not scored"
    assert scores_of(tmp_path / "scores")["scored"]["note"] == note
    assert f"Note: {note}." in capsys.readouterr().out
    assert diptych(*words, "--generated", folders.val_labels, "--out", tmp_path / "all") == 0
    assert "note" not in scores_of(tmp_path / "all")["scored"]


def test_translations_that_evaluate_did_not_make_stay(
    trained: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "out" / "translations"
    shutil.copytree(folders.val_labels, mine)
    before = tree(mine)
    words = ("--b", folders.val_labels, "--resamples", "0", "--out", tmp_path / "out")
    capsys.readouterr()
    assert diptych("evaluate", trained, "--a", folders.val_photos, *words) == 2
    assert f"{mine} is there, and its scores are not" in said_one_line(capsys)
    assert diptych("evaluate", "--generated", mine, *words) == 2
    capsys.readouterr()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    below = tmp_path / "below"
    below.symlink_to(mine)
    assert diptych("evaluate", "--generated", below, *words, "--overwrite") == 2
    assert "which is read, would be replaced" in said_one_line(capsys)
    assert tree(mine) == before
    picture = tmp_path / "other" / "confusion.png"
    picture.parent.mkdir()
    picture.write_bytes(b"mine")
    assert diptych("evaluate", trained, "--a", folders.val_photos, *words[:-1], picture.parent) == 2
    assert f"{picture} is there, and its scores are not" in said_one_line(capsys)


def test_writing_over_leaves_the_new_translations_and_nothing_of_the_old(
    trained: Path, folders: Folders, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "confusion-of-mine.png").write_bytes(b"mine")
    sides = ("--a", folders.val_photos, "--b", folders.val_labels, "--resamples", "0", "--out", out)
    several = ("evaluate", trained, trained, *sides, "--extractor", "descriptor")
    assert diptych(*several) == 0
    first = set(tree(out))
    assert {f"confusion-{trained.name}.png", f"confusion-{trained.name}-2.png"} < first
    assert sum(name.startswith("translations/") and name.endswith(".png") for name in first) == 8
    for _ in range(2):
        assert diptych(*several, "--overwrite") == 0
        assert set(tree(out)) == first
    assert diptych("evaluate", trained, *sides, "--overwrite") == 0
    assert set(tree(out)) == {"metrics.json", "confusion.png", "confusion-of-mine.png"}


def test_what_is_written_over_leaves_no_picture_of_other_scores(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    maps = ("--generated", folders.val_labels, "--b", folders.val_labels, "--b-classes", folders.classes)
    assert diptych("evaluate", *maps, "--out", out) == 0
    assert (out / "confusion.png").exists()
    photos = ("--generated", folders.val_photos, "--b", folders.val_photos)
    assert diptych("evaluate", *photos, "--out", out, "--overwrite") == 0
    assert set(tree(out)) == {"metrics.json"}
