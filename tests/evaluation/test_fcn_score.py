"""The FCN-score against numbers worked by hand: a segmenter that reads colours, a generator that paints them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from conftest import Folders
from diptych.errors import DiptychError
from diptych.evaluation import fcn_score as module
from diptych.evaluation.fcn_score import fcn_score
from diptych.evaluation.scoring import LabelledFiles, labelled_files
from diptych.images import Classes, to_float
from diptych.translator import Translator, TranslatorSpec

CLASSES = Classes(
    (255, 10, 20, 30),
    ("void", "red", "green", "blue"),
    np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8),
    0,
)


class Paints(nn.Module):
    """Answers with the colours that it sees, but what is green comes out blue."""

    size_multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red, green, blue = x.split(1, dim=1)
        return torch.cat([red, torch.full_like(green, -1), torch.maximum(green, blue)], dim=1)


class ReadsColours:
    """Perfect on photos in the classes' own colours; remembers the photos it read."""

    names = ("Blue", "RED", "pink", "green")
    identity = "reads colours"

    def __init__(self) -> None:
        self.seen: list[Image.Image] = []

    def read(self, image: Image.Image) -> NDArray[np.int64]:
        self.seen.append(image)
        colours = Classes(
            (0, 1, 2, 3), self.names, np.array([[0, 0, 255], [255, 0, 0], [255, 128, 255], [0, 255, 0]]), None
        )
        return colours.nearest(to_float(np.asarray(image))).astype(np.int64)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> ReadsColours:
    segmenter = ReadsColours()
    monkeypatch.setattr(module, "load_segmenter", lambda name, device: segmenter)
    return segmenter


def painter(size: tuple[int, int], classes: Classes | None = CLASSES) -> Translator:
    spec = TranslatorSpec({"b_to_a": {"generator": "resnet"}}, size, "b_to_a", {"a": None, "b": classes}, False)
    return Translator({"b_to_a": Paints()}, spec)


def save(root: Path, stem: str, rows: list[list[int]], photo: NDArray[np.uint8] | None = None) -> None:
    """Class rows as blocks of 4x4 pixels, and a photo: the classes' own colours unless another is given."""
    whole = np.array(rows, np.uint8).repeat(4, 0).repeat(4, 1)
    for name in ("labels", "photos"):
        (root / name).mkdir(exist_ok=True)
    CLASSES.to_image(whole).save(root / "labels" / f"{stem}.png")
    Image.fromarray(CLASSES.paint(whole) if photo is None else photo).save(root / "photos" / f"{stem}.png")


def files_of(root: Path) -> LabelledFiles:
    return labelled_files(root / "labels", root / "photos")


RED, GREEN, BLUE, VOID = 1, 2, 3, 0


def test_two_images_by_hand(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, GREEN], [BLUE, VOID]])
    save(tmp_path, "y", [[RED, RED], [GREEN, BLUE]])
    told: list[tuple[int, int]] = []
    found = fcn_score(
        "name", painter((8, 8)), "b_to_a", files_of(tmp_path), mapping=None, progress=lambda *at: told.append(at)
    )
    # In blocks: red 3 (right), green 2 (read as blue), blue 2 (right); void is not scored.
    generated = found["generated"]
    assert generated["pixel_accuracy"] == pytest.approx(5 / 7)
    assert generated["class_accuracy"] == pytest.approx((1 + 0 + 1) / 3)
    assert generated["mean_iou"] == pytest.approx((1 + 0 + 2 / 4) / 3)
    assert generated["per_class"]["blue"] == {"accuracy": 1.0, "iou": pytest.approx(0.5), "pixels": 32}
    ceiling = found["ceiling"]
    assert (ceiling["pixel_accuracy"], ceiling["class_accuracy"], ceiling["mean_iou"]) == (1, 1, 1)
    assert (found["segmenter"], found["identity"], found["n"]) == ("name", "reads colours", 2)
    assert (found["outside"], found["left_out"]) == (["pink"], [])
    assert told == [(1, 2), (2, 2)]
    assert "8x8" in found["protocol"]
    assert "void ignored" in found["protocol"]
    assert {image.size for image in reader.seen} == {(8, 8)}


def test_an_absent_class_is_left_out_of_the_means_and_zero_in_the_papers_convention(
    tmp_path: Path, reader: ReadsColours
) -> None:
    save(tmp_path, "x", [[RED, BLUE]])
    generated = fcn_score("", painter((8, 4)), "b_to_a", files_of(tmp_path), mapping=None)["generated"]
    assert generated["mean_iou"] == pytest.approx(1)
    assert generated["mean_iou_absent_as_0"] == pytest.approx(2 / 3)
    assert generated["class_accuracy_absent_as_0"] == pytest.approx(2 / 3)


def test_an_answer_outside_the_classes_is_wrong(tmp_path: Path, reader: ReadsColours) -> None:
    pink = np.full((4, 8, 3), (255, 128, 255), np.uint8)
    pink[:, 4:] = (0, 0, 255)
    save(tmp_path, "x", [[RED, BLUE]], pink)
    ceiling = fcn_score("", painter((8, 4)), "b_to_a", files_of(tmp_path), mapping=None)["ceiling"]
    assert ceiling["pixel_accuracy"] == pytest.approx(1 / 2)
    assert ceiling["per_class"]["red"]["iou"] == 0
    assert ceiling["mean_iou"] == pytest.approx((0 + 1) / 2)


def test_real_photos_are_shrunk_to_the_generator_and_enlarged_as_its_photos_are(
    tmp_path: Path, reader: ReadsColours
) -> None:
    stripes = np.zeros((8, 16, 3), np.uint8)
    stripes[:, ::2, 0] = 255  # red and blue columns, which a generator at a quarter of the size cannot draw
    stripes[:, 1::2, 2] = 255
    save(tmp_path, "x", [[RED] * 4, [RED] * 4], stripes)
    fcn_score("", painter((4, 2)), "b_to_a", files_of(tmp_path), mapping=None)
    generated, real = reader.seen
    assert generated.size == real.size == (16, 8)
    mixed = np.asarray(real, int)[:, 4:12]
    assert np.abs(mixed[..., 0] - 127.5).max() < 8  # purple everywhere: the columns are gone
    assert np.abs(mixed[..., 2] - 127.5).max() < 8
    assert np.asarray(generated)[..., 0].min() == 255


class Draws(nn.Module):
    """Answers with one picture, uint8 `(H, W, 3)`, whatever it sees."""

    size_multiple = 4

    def __init__(self, picture: Image.Image) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.from_numpy(to_float(np.asarray(picture)))[None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = self.picture.shape[2:]
        return nn.functional.pad(self.picture, (0, x.shape[3] - width, 0, x.shape[2] - height))


def test_a_generator_that_draws_the_shrunk_real_photo_reaches_the_ceiling(tmp_path: Path, reader: ReadsColours) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    save(tmp_path, "x", [[RED, GREEN, BLUE, VOID] * 4] * 8, noise)
    drawing = Draws(Image.fromarray(noise).resize((16, 12), Image.Resampling.BICUBIC))
    translator = Translator({"b_to_a": drawing}, painter((16, 12)).spec)
    found = fcn_score("", translator, "b_to_a", files_of(tmp_path), mapping=None)
    generated, real = (np.asarray(image) for image in reader.seen)
    assert np.array_equal(generated, real)
    assert generated.std() > 10
    assert found["generated"] == found["ceiling"]
    assert found["intervals"] == {}  # one image says nothing about others


def test_intervals_are_drawn_over_images(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, RED]])
    save(tmp_path, "y", [[GREEN, GREEN]])
    arguments = ("", painter((8, 4)), "b_to_a", files_of(tmp_path))
    found = fcn_score(*arguments, mapping=None, resamples=200)
    assert found["generated"]["pixel_accuracy"] == pytest.approx(1 / 2)
    assert found["intervals"]["fcn_pixel_accuracy"] == [0, 1]  # x twice, or y twice, in a quarter of the draws each
    assert found["intervals"]["ceiling_pixel_accuracy"] == [1, 1]
    assert found["intervals"]["ceiling_mean_iou"] == [1, 1]
    assert fcn_score(*arguments, mapping=None, resamples=0)["intervals"] == {}


def test_a_mapping_says_which_class_is_which(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, GREEN]])
    mapping = tmp_path / "mine.csv"
    mapping.write_text("segmenter,class\nblue,green\ngreen,blue\n")
    found = fcn_score("", painter((8, 4)), "b_to_a", files_of(tmp_path), mapping=mapping)
    assert found["generated"]["pixel_accuracy"] == 1  # green comes out blue, which now counts as green
    assert found["ceiling"]["pixel_accuracy"] == pytest.approx(1 / 2)
    assert "mine.csv" in found["protocol"]


def test_a_class_left_out_is_not_scored(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, GREEN]])
    mapping = tmp_path / "mine.csv"
    mapping.write_text("segmenter,class\n,green\n")
    found = fcn_score("", painter((8, 4)), "b_to_a", files_of(tmp_path), mapping=mapping)
    assert found["generated"]["pixel_accuracy"] == 1
    assert found["generated"]["pixels"] == 16
    assert list(found["generated"]["per_class"]) == ["red", "blue"]
    assert found["left_out"] == ["green"]
    assert "void and green ignored" in found["protocol"]


def test_classes_without_a_match_are_told(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, GREEN]])
    reader.names = ("blue", "crimson", "pink", "green")
    with pytest.raises(DiptychError, match=r"no class called red;.*--mapping.*crimson"):
        fcn_score("", painter((8, 4)), "b_to_a", files_of(tmp_path), mapping=None)


def test_a_label_map_of_another_shape_than_its_photo_is_refused(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, GREEN]], np.zeros((4, 9, 3), np.uint8))
    with pytest.raises(
        DiptychError, match=r"x\.png \(8x4\) and its photo .*x\.png \(9x4\) have different shapes"
    ) as told:
        fcn_score("", painter((8, 4)), "b_to_a", files_of(tmp_path), mapping=None)
    assert "\n" not in str(told.value)


def test_only_photos_made_from_class_maps_have_an_fcn_score(tmp_path: Path, reader: ReadsColours) -> None:
    save(tmp_path, "x", [[RED, GREEN]])
    with pytest.raises(DiptychError, match="b_to_a does not make"):
        fcn_score("", painter((8, 4), classes=None), "b_to_a", files_of(tmp_path), mapping=None)
    both = painter((8, 4))
    spec = TranslatorSpec(both.spec.architectures, (8, 4), "b_to_a", {"a": CLASSES, "b": CLASSES}, False)
    with pytest.raises(DiptychError, match="b_to_a does not make"):
        fcn_score("", Translator(both.generators, spec), "b_to_a", files_of(tmp_path), mapping=None)


def test_a_run_reads_the_photos_of_a_run(folders: Folders, trained: Path) -> None:
    translator = Translator.from_pretrained(trained)
    files = labelled_files(folders.val_labels, folders.val_photos)
    found = fcn_score(str(trained), translator, "b_to_a", files, mapping=None, resamples=20)
    assert found["n"] == 4
    assert found["outside"] == []
    # The ceiling, by the way of `Translator`: real photos through the training size and back, against the label map.
    right = scored = 0
    for label, photo in zip(files.inputs, files.truths, strict=True):
        shrunk = Image.open(photo).convert("RGB").resize((32, 24), Image.Resampling.BICUBIC)
        grown = torch.nn.functional.interpolate(
            torch.from_numpy(np.array(shrunk)).permute(2, 0, 1)[None].float(), (32, 48), mode="bilinear"
        )
        seen = Image.fromarray(grown[0].permute(1, 2, 0).round().byte().numpy())
        truth, answer = np.asarray(Image.open(label)), np.asarray(translator(seen, "a_to_b"))
        scored += int((truth != 255).sum())
        right += int(((truth == answer) & (truth != 255)).sum())
    assert found["ceiling"]["pixel_accuracy"] == pytest.approx(right / scored, abs=2e-3)
    assert found["ceiling"]["pixels"] == scored
