"""Scores against numbers worked by hand, and against other implementations of the same definitions."""

import subprocess
import sys
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sklearn_metrics
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from diptych.errors import DiptychError
from diptych.evaluation import record
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.pictures import PictureScores
from diptych.evaluation.record import comparison_rows, differences, flat_intervals, flat_scores, table_rows
from diptych.evaluation.scoring import labelled_files, score_folder
from diptych.images import Classes, PixelFormat, read_pixels, to_float, write_pixels

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
CLASSES = Classes((10, 20, 30, 99), ("red", "green", "blue", "void"), COLOURS, 3)


def rows(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_confusion_matrix_scores() -> None:
    scores = ClassScores(CLASSES)
    scores.add_map(rows(0, 0, 1, 1), rows(0, 1, 1, 3))  # the last pixel is void in the truth
    scores.add_map(rows(1, 0), rows(1, 0))
    result = scores.result()
    # truth: red 2 (both right), green 3 (2 right, 1 called red), blue nowhere
    assert scores.confusion[:3, :3].tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert result["pixel_accuracy"] == pytest.approx(4 / 5)
    assert result["class_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["mean_iou"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert result["per_class"]["blue"] == {"accuracy": None, "iou": None, "pixels": 0}
    assert "void" not in result["per_class"]
    assert (len(scores), result["pixels"]) == (2, 5)


def test_a_class_predicted_but_absent_counts_zero_in_the_iou_only() -> None:
    scores = ClassScores(CLASSES)
    scores.add_map(rows(0, 2), rows(0, 0))
    result = scores.result()
    assert result["class_accuracy"] == pytest.approx(0.5)
    assert result["mean_iou"] == pytest.approx((0.5 + 0) / 2)


def test_continuous_colours_take_the_nearest_class_never_void() -> None:
    scores = ClassScores(CLASSES)
    colours = np.array([[[200, 40, 0], [10, 12, 14], [0, 90, 200]]], np.uint8)
    scores.add(to_float(colours), rows(0, 2, 2))
    assert scores.result()["pixel_accuracy"] == 1


def test_void_in_the_prediction_is_wrong_but_no_class_of_its_own() -> None:
    scores = ClassScores(CLASSES)
    scores.add_map(rows(0, 0, 0, 3, 1), rows(0, 0, 0, 0, 1))
    result = scores.result()
    assert result["pixel_accuracy"] == pytest.approx(4 / 5)
    assert result["mean_iou"] == pytest.approx((3 / 4 + 1) / 2)


def test_nothing_but_void_has_no_score() -> None:
    scores = ClassScores(CLASSES)
    scores.add_map(rows(0, 1), rows(3, 3))
    result = scores.result()
    assert (result["pixel_accuracy"], result["class_accuracy"], result["mean_iou"]) == (None, None, None)


def test_picture_scores() -> None:
    scores = PictureScores()
    truth = np.full((16, 16, 3), 100, np.uint8)
    off = truth.copy()
    off[:8, :, 0] += 19  # half of the pixels off by less than the tolerance in one channel
    off[0, 0, 1] += 20  # one of them no longer
    scores.add_pixels(off, truth)
    result = scores.result()
    summed = 128 * 19 + 20
    assert result["l1"] == pytest.approx(summed / 768 / 255)
    assert result["psnr"] == pytest.approx(-10 * log10((128 * 19**2 + 20**2) / 768 / 255**2))
    assert result["tolerance_accuracy"] == pytest.approx(255 / 256)
    assert len(scores) == 1


def test_sixteen_bits_are_scored_as_sixteen_bits() -> None:
    scores = PictureScores(PixelFormat(5, 16))
    truth = np.zeros((2, 2, 5), np.uint16)
    off = truth.copy()
    off[0, 0, 4], off[0, 1, 0] = 20 * 257, 20 * 257 - 1  # the first is no longer within the tolerance
    scores.add_pixels(off, truth)
    result = scores.result()
    assert result["l1"] == pytest.approx((2 * 5140 - 1) / 20 / 65535)
    assert result["psnr"] == pytest.approx(-10 * log10((5140**2 + 5139**2) / 20 / 65535**2))
    assert result["tolerance_accuracy"] == pytest.approx(3 / 4)
    assert "rounded to 16 bits, 5 channels of 16 bits compared" in scores.protocol
    assert "5140 of 65535" in scores.protocol


def test_a_sixteen_bit_truth_is_met_to_the_last_bit() -> None:
    truth = np.random.default_rng(0).integers(0, 65536, (16, 16, 2)).astype(np.uint16)
    scores = PictureScores(PixelFormat(2, 16))
    scores.add(to_float(truth), truth)
    assert scores.result() == {"l1": 0, "psnr": 100, "ssim": pytest.approx(1), "tolerance_accuracy": 1}


def test_folders_are_compared_in_the_truths_depth_and_bands(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 60000, (12, 13, 6)).astype(np.uint16)
    for name, bands in (("deep", 6), ("grey", 1)):
        for folder, pixels in (("ours", truth[..., :bands] + 257), ("theirs", truth[..., :bands])):
            (tmp_path / name / folder).mkdir(parents=True)
            write_pixels(tmp_path / name / folder / "x.tif", pixels)
        files = labelled_files(tmp_path / name / "ours", tmp_path / name / "theirs")
        scored = score_folder(files, None, keep=tmp_path / name / "kept")
        assert scored.scores is not None
        assert scored.form == PixelFormat(6 if bands == 6 else 3, 16)
        assert scored.scores.result()["l1"] == pytest.approx(257 / 65535)
        kept = read_pixels(scored.generated[0], form=scored.form)
        assert np.array_equal(kept[..., 0], truth[..., 0] + 257)


def test_means_are_over_images() -> None:
    scores = PictureScores()
    truth = np.zeros((16, 16, 3), np.uint8)
    scores.add_pixels(truth, truth)
    scores.add_pixels(truth + 51, truth)
    assert scores.result()["l1"] == pytest.approx(0.1)
    assert scores.rows[0]["psnr"] == 100
    assert scores.rows[0]["ssim"] == pytest.approx(1)
    assert scores.rows[0]["tolerance_accuracy"] == 1
    assert scores.rows[1]["tolerance_accuracy"] == 0


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    scores = PictureScores()
    scores.add_pixels(np.full((16, 16, 3), 255, np.uint8), np.full((16, 16, 3), 128, np.uint8))
    x, y = 1.0, 128 / 255  # values in 0..1: c1 = 0.01^2
    expected = (2 * x * y + 0.0001) / (x * x + y * y + 0.0001)
    assert scores.rows[0]["ssim"] == pytest.approx(expected, abs=1e-4)


def test_pictures_below_the_window_have_no_ssim() -> None:
    scores = PictureScores()
    scores.add_pixels(np.zeros((4, 16, 3), np.uint8), np.zeros((4, 16, 3), np.uint8))
    assert scores.result()["ssim"] is None
    assert scores.result()["l1"] == 0


def save(folder: Path, name: str, image: Image.Image) -> None:
    folder.mkdir(exist_ok=True)
    image.save(folder / name)


def scored(generated: Path, truth: Path) -> dict[str, Any]:
    return score_folder(labelled_files(generated, truth), CLASSES).record()


def test_a_folder_of_ids_and_a_folder_of_colours_score_the_same(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 3, (12, 16)).astype(np.uint8)
    guess = np.where(np.random.default_rng(1).random((12, 16)) < 0.7, truth, 0).astype(np.uint8)
    save(tmp_path / "truth", "x.png", CLASSES.to_image(truth))
    save(tmp_path / "ids", "x.png", CLASSES.to_image(guess))
    save(tmp_path / "colours", "x.png", Image.fromarray(CLASSES.paint(guess)))
    by_id, by_colour = (scored(tmp_path / name, tmp_path / "truth") for name in ("ids", "colours"))
    assert by_id["scores"] == by_colour["scores"]
    assert by_id["scores"]["pixel_accuracy"] == pytest.approx((guess == truth).mean())
    assert by_id["n"] == 1


def test_continuous_colours_are_resized_before_they_are_classified(tmp_path: Path) -> None:
    save(tmp_path / "truth", "x.png", CLASSES.to_image(np.array([[0, 0, 0, 2, 2, 2]], np.uint8).repeat(4, 0)))
    small = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(4, 0)
    save(tmp_path / "generated", "x.png", Image.fromarray(small))
    record = scored(tmp_path / "generated", tmp_path / "truth")
    assert record["scores"]["pixel_accuracy"] == 1
    assert "bilinear" in record["filter"]


def test_every_input_needs_its_truth(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    save(tmp_path / "in", "x.png", picture)
    save(tmp_path / "in", "y.png", picture)
    save(tmp_path / "truth", "x.jpg", picture)
    with pytest.raises(DiptychError, match=r"for y\.png"):
        labelled_files(tmp_path / "in", tmp_path / "truth")


def test_absent_classes_may_count_as_0_as_in_the_papers() -> None:
    scores = ClassScores(CLASSES)
    scores.add_map(rows(0, 0, 1, 1), rows(0, 0, 1, 0))  # blue is nowhere
    result = scores.result()
    assert result["class_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert result["class_accuracy_absent_as_0"] == pytest.approx((2 / 3 + 1) / 3)
    assert result["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["mean_iou_absent_as_0"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    nothing = ClassScores(CLASSES)
    nothing.add_map(rows(0), rows(3))
    assert (nothing.result()["class_accuracy_absent_as_0"], nothing.result()["mean_iou_absent_as_0"]) == (None, None)


@pytest.mark.parametrize("absent", [False, True])
def test_class_maps_agree_with_scikit_learn_and_torchmetrics(absent: bool) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2 if absent else 4, (3, 20, 30)).astype(np.uint8)  # row 3 is void
    guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 2 if absent else 3, truth.shape))
    guess = np.where(guess == 3, 0, guess).astype(np.uint8)
    scores = ClassScores(CLASSES)
    for one, other in zip(guess, truth, strict=True):
        scores.add_map(one, other)
    result = scores.result()

    seen = truth != 3
    true, predicted = truth[seen], guess[seen]
    assert (
        scores.confusion[:3, :3].tolist()
        == sklearn_metrics.confusion_matrix(true, predicted, labels=[0, 1, 2]).tolist()
    )
    assert result["pixel_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted), abs=1e-9)
    assert result["class_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(true, predicted), abs=1e-9)
    there = [0, 1] if absent else [0, 1, 2]
    ious = sklearn_metrics.jaccard_score(true, predicted, labels=there, average=None)
    assert [result["per_class"][CLASSES.names[row]]["iou"] for row in there] == pytest.approx(ious.tolist(), abs=1e-9)
    assert result["mean_iou"] == pytest.approx(ious.mean(), abs=1e-9)
    # torchmetrics gives a class that is in neither 0 and counts it: the papers' convention.
    index = MulticlassJaccardIndex(num_classes=3, ignore_index=3, average="none")
    theirs = index(torch.from_numpy(guess).long(), torch.from_numpy(truth).long())
    assert result["mean_iou_absent_as_0"] == pytest.approx(float(theirs.mean()), abs=1e-5)
    assert (result["per_class"]["blue"]["iou"] is None) == absent


def test_pictures_agree_with_torchmetrics() -> None:
    rng = np.random.default_rng(6)
    truths = rng.integers(0, 256, (4, 24, 32, 3)).astype(np.uint8)
    guesses = (truths + rng.normal(0, 25, truths.shape)).clip(0, 255).astype(np.uint8)
    scores = PictureScores()
    for guess, truth in zip(guesses, truths, strict=True):
        scores.add_pixels(guess, truth)
    ours, theirs = (torch.from_numpy(images / 255.0).permute(0, 3, 1, 2) for images in (guesses, truths))
    psnr = PeakSignalNoiseRatio(data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)
    result = scores.result()
    assert result["psnr"] == pytest.approx(float(psnr(ours, theirs)), abs=1e-4)
    assert result["ssim"] == pytest.approx(float(ssim(ours, theirs)), abs=1e-4)
    assert result["l1"] == pytest.approx(float((ours - theirs).abs().mean()), abs=1e-9)
    within = ((ours - theirs).abs().amax(1) * 255 < 20 - 1e-6).double().mean()
    assert result["tolerance_accuracy"] == pytest.approx(float(within), abs=1e-9)


def test_psnr_is_the_mean_over_images_not_of_all_pixels() -> None:
    scores = PictureScores()
    truth = np.zeros((16, 16, 3), np.uint8)
    scores.add_pixels(truth + 255, truth)  # 0 dB
    scores.add_pixels(truth + 51, truth)  # a fifth of the range: -20 log10(1/5)
    assert scores.result()["psnr"] == pytest.approx(20 * log10(5) / 2)


@pytest.mark.parametrize("family", [ClassScores(CLASSES), PictureScores()])
def test_images_that_count_twice_are_images_seen_twice(family: ClassScores | PictureScores) -> None:
    rng = np.random.default_rng(7)
    twice = ClassScores(CLASSES) if isinstance(family, ClassScores) else PictureScores()
    for times in (2, 0, 1):
        if isinstance(family, ClassScores):
            guess, truth = rng.integers(0, 4, (2, 6, 6)).astype(np.uint8)
            family.add_map(guess, truth)
            for _ in range(times):
                twice.add_map(guess, truth)
        else:
            guess, truth = rng.integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
            family.add_pixels(guess, truth)
            for _ in range(times):
                twice.add_pixels(guess, truth)
    counted, seen = family.metrics(np.array([[2.0, 0, 1]])), twice.metrics(np.ones((1, 3)))
    assert {name: value[0] for name, value in counted.items()} == pytest.approx(
        {name: value[0] for name, value in seen.items()}
    )


def test_what_is_kept_is_what_was_scored(tmp_path: Path) -> None:
    truth = np.array([[0, 0, 3, 2]], np.uint8).repeat(2, 0)
    save(tmp_path / "truth", "x.png", CLASSES.to_image(truth))
    save(tmp_path / "generated", "x.png", Image.fromarray(np.array([[[255, 9, 0], [0, 0, 200]]], np.uint8)))
    files = labelled_files(tmp_path / "generated", tmp_path / "truth")
    kept = score_folder(files, CLASSES, keep=tmp_path / "kept")
    assert kept.generated == (tmp_path / "kept" / "translations" / "x.png",)
    with Image.open(kept.generated[0]) as translation, Image.open(kept.real[0]) as real:
        assert translation.size == (4, 2)
        assert translation.getpixel((0, 0)) == (255, 0, 0)  # its class, as translate would write it
        assert (np.asarray(real) == CLASSES.paint(truth)).all()
    photos = score_folder(files, None, keep=tmp_path / "again")
    assert photos.real == (tmp_path / "truth" / "x.png",)


CLASS_RECORD = {
    "scores": {
        "mean_iou": 0.5,
        "pixel_accuracy": None,
        "pixels": 9,
        "per_class": {"sky": {"accuracy": 0.25, "iou": None}},
    },
    "intervals": {"mean_iou": [0.4, 0.6]},
    "sets": {
        "fid": 3.0,
        "kid": 0.5,
        "kid_se": None,
        "precision": 1.0,
        "recall": 0.0,
        "k": 3,
        "intervals": {"fid": [2, 4]},
    },
    "fcn_score": {"generated": {"mean_iou": 0.1}, "ceiling": {"mean_iou": 0.2, "pixels": 9}, "intervals": {}},
}


def test_flat_scores_are_every_single_number() -> None:
    assert flat_scores(CLASS_RECORD) == {
        **{"mean_iou": 0.5, "fid": 3.0, "kid": 0.5, "precision": 1.0, "recall": 0.0},
        **{"fcn_mean_iou": 0.1, "ceiling_mean_iou": 0.2},
    }
    assert flat_intervals(CLASS_RECORD) == {"mean_iou": [0.4, 0.6], "fid": [2, 4]}
    assert flat_scores({"scores": {"l1": 0.5}}) == {"l1": 0.5}


def test_reading_records_needs_no_torch() -> None:
    script = "import sys; import diptych.evaluation.record; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_differences_are_to_the_first_and_paired() -> None:
    def record(iou: float, accuracy: float | None) -> dict[str, Any]:
        return {"scores": {"mean_iou": iou, "per_class": {"sky": {"accuracy": accuracy, "iou": None}}}}

    first = {"mean_iou": np.array([0.4, 0.5, 0.6])}
    other = {"mean_iou": np.array([0.5, 0.6, 0.7])}
    found = differences(record(0.6, 0.5), record(0.5, 0.75), other, first)
    assert found.keys() == {"mean_iou", "accuracy sky"}
    assert found["mean_iou"]["difference"] == pytest.approx(0.1)
    assert found["mean_iou"]["interval"] == pytest.approx([0.1, 0.1])
    assert found["accuracy sky"] == {"difference": -0.25, "interval": None}
    assert differences(record(0.6, None), record(0.5, 0.75), other, first).keys() == {"mean_iou"}


def test_tables_show_both_conventions_only_where_they_differ() -> None:
    def labels(scores: dict[str, Any]) -> list[str]:
        return [row[0] for row in table_rows({"scores": scores})]

    alike = {"mean_iou": 0.5, "mean_iou_absent_as_0": 0.5}
    apart = {"mean_iou": 0.5, "mean_iou_absent_as_0": 0.25}
    assert labels(alike) == ["mean iou"]
    assert labels(apart) == ["mean iou", "mean iou absent as 0"]
    records = {"x": {"scores": alike}, "y": {"scores": apart}}
    compared = {"y": {"mean_iou": {"difference": 0.0, "interval": [-0.5, 0.5]}}}
    assert comparison_rows(records, compared) == [
        ["mean iou", "0.5000", "0.5000", "+0.0000 [-0.5000, 0.5000]"],
        ["mean iou absent as 0", "0.5000", "0.2500", ""],
    ]


def test_the_names_a_study_may_ask_for_are_those_that_records_have() -> None:
    of_classes, of_pictures = ClassScores(CLASSES), PictureScores()
    of_classes.add_map(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    of_pictures.add(np.zeros((3, 16, 16), np.float32), np.zeros((16, 16, 3), np.uint8))
    classes = [name for name in of_classes.metrics(np.ones((1, 1))) if " " not in name]
    assert tuple(classes) == record.OF_CLASSES
    assert set(of_pictures.metrics(np.ones((1, 1)))) == set(record.OF_PICTURES)
    assert set(flat_scores(CLASS_RECORD)) <= set(record.NAMES)
