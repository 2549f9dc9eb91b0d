"""Scores against numbers worked by hand."""

from math import log10
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.errors import DiptychError
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.pictures import PictureScores
from diptych.evaluation.scoring import labelled_files, score_folder
from diptych.images import Classes, to_float

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
    assert (result["n"], result["pixels"]) == (2, 5)


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
    assert result["n"] == 1


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


def test_a_folder_of_ids_and_a_folder_of_colours_score_the_same(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 3, (12, 16)).astype(np.uint8)
    guess = np.where(np.random.default_rng(1).random((12, 16)) < 0.7, truth, 0).astype(np.uint8)
    save(tmp_path / "truth", "x.png", CLASSES.to_image(truth))
    save(tmp_path / "ids", "x.png", CLASSES.to_image(guess))
    save(tmp_path / "colours", "x.png", Image.fromarray(CLASSES.paint(guess)))
    by_id, by_colour = (score_folder(tmp_path / name, tmp_path / "truth", CLASSES) for name in ("ids", "colours"))
    assert by_id["scores"] == by_colour["scores"]
    assert by_id["scores"]["pixel_accuracy"] == pytest.approx((guess == truth).mean())
    assert by_id["n"] == 1


def test_continuous_colours_are_resized_before_they_are_classified(tmp_path: Path) -> None:
    save(tmp_path / "truth", "x.png", CLASSES.to_image(np.array([[0, 0, 0, 2, 2, 2]], np.uint8).repeat(4, 0)))
    small = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(4, 0)
    save(tmp_path / "generated", "x.png", Image.fromarray(small))
    record = score_folder(tmp_path / "generated", tmp_path / "truth", CLASSES)
    assert record["scores"]["pixel_accuracy"] == 1
    assert "bilinear" in record["filter"]


def test_every_input_needs_its_truth(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    save(tmp_path / "in", "x.png", picture)
    save(tmp_path / "in", "y.png", picture)
    save(tmp_path / "truth", "x.jpg", picture)
    with pytest.raises(DiptychError, match=r"for y\.png"):
        labelled_files(tmp_path / "in", tmp_path / "truth")
