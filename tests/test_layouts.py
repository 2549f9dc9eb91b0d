"""Which folder is what: halves of side-by-side images, and the layouts that `--data` understands."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import Folders, diptych, said_one_line, scores_of, tiny
from diptych.errors import DiptychError
from diptych.images import UnreadableImageError, list_images, open_image, read_header, read_pixels, real_path
from diptych.layouts import Layout, read_layout, write_layout
from diptych.recipes import load_settings

SPLITS = ("train", "val", "test")


def sides(path: Path, left: int, right: int, size: tuple[int, int] = (4, 3)) -> None:
    """An image whose left half is `left` and whose right half is `right`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], 2 * size[0], 3), left, np.uint8)
    pixels[:, size[0] :] = right
    Image.fromarray(pixels).save(path)


def image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def side_by_side(folders: Folders, tmp_path: Path) -> Path:
    """The scenes of `folders` as pix2pix lays them out, photos left and label colours right."""
    for split, photos, labels in (
        ("train", folders.photos, folders.labels),
        ("val", folders.val_photos, folders.val_labels),
    ):
        (tmp_path / "ab" / split).mkdir(parents=True)
        for name in list_images(photos):
            both = [np.asarray(Image.open(folder / name).convert("RGB")) for folder in (photos, labels)]
            Image.fromarray(np.concatenate(both, axis=1)).save(tmp_path / "ab" / split / name)
    return tmp_path / "ab"


# Halves.


def test_a_half_folder_is_that_half_of_every_image(tmp_path: Path) -> None:
    sides(tmp_path / "ab" / "1.png", 10, 200)
    sides(tmp_path / "ab" / "deep" / "2.png", 30, 40)
    for half, values in (("left", (10, 30)), ("right", (200, 40))):
        folder = tmp_path / f"ab::{half}"
        assert list_images(folder) == ["1.png", "deep/2.png"]
        for name, value in zip(list_images(folder), values, strict=True):
            pixels = read_pixels(folder / name)
            assert pixels.shape == (3, 4, 3)
            assert (pixels == value).all()
            assert read_header(folder / name).size == (4, 3)


@given(st.lists(st.sampled_from(["a", "bc", "d e"]), min_size=1, max_size=4), st.data())
def test_what_is_on_disk_behind_a_half(parts: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(parts) - 1))
    half = data.draw(st.sampled_from(["left", "right"]))
    virtual = Path(*(f"{part}::{half}" if n == place else part for n, part in enumerate(parts)))
    assert real_path(virtual) == (Path(*parts), half)
    assert real_path(Path(*parts)) == (Path(*parts), None)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_halves_side_by_side_are_the_image(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, 2 * width, 3), np.uint8)
    with TemporaryDirectory() as folder:
        Image.fromarray(pixels).save(Path(folder) / "x.png")
        both = [read_pixels(Path(f"{folder}::{half}") / "x.png") for half in ("left", "right")]
    assert (np.concatenate(both, axis=1) == pixels).all()


def test_an_odd_width_is_named_with_its_half(tmp_path: Path) -> None:
    image(tmp_path / "ab" / "odd.png", size=(5, 4))
    with pytest.raises(UnreadableImageError) as problem:
        open_image(tmp_path / "ab::right" / "odd.png")
    assert str(tmp_path / "ab" / "odd.png") in str(problem.value)
    assert "5 pixels wide, an odd number, so it has no right half" in str(problem.value)


def test_messages_name_what_is_on_disk(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match=f"{tmp_path}/no: no such folder"):
        list_images(tmp_path / "no::left")
    with pytest.raises(DiptychError, match=f"{tmp_path}/ab/1.png: no such file"):
        open_image(tmp_path / "ab::left" / "1.png")


def test_halves_do_not_share_features(tmp_path: Path) -> None:
    from diptych.features import extract

    sides(tmp_path / "ab" / "1.png", 10, 200)
    halves = [tmp_path / f"ab::{half}" / "1.png" for half in ("left", "right")]
    both = extract("descriptor", halves, cache=tmp_path / "cache")
    image(tmp_path / "alone.png")
    Image.fromarray(read_pixels(halves[1])).save(tmp_path / "alone.png")
    assert not (both[0] == both[1]).all()
    again = extract("descriptor", [*halves, tmp_path / "alone.png"], cache=tmp_path / "cache")
    assert (again[:2] == both).all()
    np.testing.assert_allclose(again[2], both[1])


def test_halves_through_every_command(
    side_by_side: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, out = f"{side_by_side}/train::left", f"{side_by_side}/train::right", tmp_path / "out"
    words = ("select", a, "--partners", b, "--features", "descriptor", "--budget", "4", "--out", tmp_path / "chosen")
    assert diptych(*words) == 0
    validation = ("--val-a", f"{side_by_side}/val::left", "--val-b", f"{side_by_side}/val::right", "--val-every", "2")
    labels = ("--b-classes", folders.classes)
    pairs = ("--pairs", tmp_path / "chosen" / "pairs.csv")
    flags = [*labels, *pairs, *validation, *tiny("shukla")]
    assert diptych("train", "shukla", "--a", a, "--b", b, *flags, "--out", out) == 0
    assert diptych("resume", out, "--steps", "6") == 0
    scored = ("--a", validation[1], "--b", validation[3], "--extractor", "descriptor", "--resamples", "10")
    assert diptych("evaluate", out, *scored, "--out", tmp_path / "scores") == 0
    assert diptych("translate", out, validation[1], "--out", tmp_path / "there") == 0
    assert list_images(tmp_path / "there") == list_images(folders.val_photos)
    assert Image.open(tmp_path / "there" / "scene100.png").size == (48, 32)
    capsys.readouterr()
    among = side_by_side / "val" / "translations"
    assert diptych("translate", out, validation[1], "--out", among) == 2
    assert "lies among the images" in said_one_line(capsys)
    assert diptych("evaluate", out, *scored, "--out", among) == 2
    assert "lies among the images" in said_one_line(capsys)


def test_halves_give_the_run_that_folders_give(side_by_side: Path, folders: Folders, tmp_path: Path) -> None:
    both = {
        "folders": (folders.photos, folders.labels, folders.val_photos, folders.val_labels),
        "halves": [side_by_side / f"{split}::{half}" for split in ("train", "val") for half in ("left", "right")],
    }
    scores = []
    for name, (a, b, val_a, val_b) in both.items():
        words = ["--a", a, "--b", b, "--b-classes", folders.classes, *tiny("pix2pix"), "--steps", "2"]
        assert diptych("train", "pix2pix", *words, "--out", tmp_path / name) == 0
        scored = ["--a", val_a, "--b", val_b, "--out", tmp_path / f"{name}-scores"]
        assert diptych("evaluate", tmp_path / name, *scored) == 0
        scores.append(scores_of(tmp_path / f"{name}-scores"))
    assert scores[0]["scores"] == scores[1]["scores"]


def test_an_odd_width_stops_a_training_or_is_skipped(
    side_by_side: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(side_by_side / "train" / "odd.png", size=(95, 32))
    words = ("train", "pix2pix", "--data", side_by_side, *tiny("pix2pix"), "--steps", "1")
    assert diptych(*words, "--out", tmp_path / "x") == 2
    assert "train/odd.png: is 95 pixels wide" in capsys.readouterr().err
    assert diptych(*words, "--skip-unreadable", "--out", tmp_path / "x") == 0


# Layouts.


def lay_out(root: Path, *folders: str, names: tuple[str, ...] = ("1.jpg", "2.jpg")) -> None:
    for seed, folder in enumerate(folders):
        for name in names:
            image(root / folder / name, seed)


def paths_of(layout: Layout, root: Path) -> dict[str, str]:
    """What was found, relative to `root`."""
    keys = ("a", "b", "val_a", "val_b", "test_a", "test_b", "a_classes", "b_classes", "pairs")
    found = {key: getattr(layout, key) for key in keys}
    return {key: path.relative_to(root).as_posix() for key, path in found.items() if path is not None}


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (["trainA", "trainB", "testA", "testB"], {"a": "trainA", "b": "trainB", "test_a": "testA", "test_b": "testB"}),
        (["trainA", "trainB", "valA", "valB"], {"a": "trainA", "b": "trainB", "val_a": "valA", "val_b": "valB"}),
        (["TrainA", "trainb"], {"a": "TrainA", "b": "trainb"}),
        (["trainA", "trainB", "testA"], {"a": "trainA", "b": "trainB"}),
        (["a", "b"], {"a": "a", "b": "b"}),
        (["A", "B"], {"a": "A", "b": "B"}),
        (
            ["train/A", "train/B", "val/A", "val/B"],
            {"a": "train/A", "b": "train/B", "val_a": "val/A", "val_b": "val/B"},
        ),
        (
            ["training/a", "training/b", "validation/a", "validation/b", "test/a"],
            {"a": "training/a", "b": "training/b", "val_a": "validation/a", "val_b": "validation/b"},
        ),
        (
            ["A/train", "B/train", "A/test", "B/test"],
            {"a": "A/train", "b": "B/train", "test_a": "A/test", "test_b": "B/test"},
        ),
        (["train"], {"a": "train::left", "b": "train::right"}),
        (
            ["train", "val", "test"],
            {f"{'' if split == 'train' else split + '_'}{side}": f"{split}::{half}"
             for split in SPLITS for side, half in (("a", "left"), ("b", "right"))},
        ),
        (
            ["Train", "Valid"],
            {"a": "Train::left", "b": "Train::right", "val_a": "Valid::left", "val_b": "Valid::right"},
        ),
    ],
)  # fmt: skip
def test_layouts_of_the_field(tmp_path: Path, folders: list[str], found: dict[str, str]) -> None:
    lay_out(tmp_path, *folders)
    layout = read_layout(tmp_path)
    assert paths_of(layout, tmp_path) == found
    for path in found.values():
        assert path in layout.recognised


def test_tables_beside_the_folders(tmp_path: Path, folders: Folders) -> None:
    lay_out(tmp_path, "a", "b")
    for name in ("b_classes.csv", "pairs.csv"):
        (tmp_path / name).write_text("a,b\n")
    assert paths_of(read_layout(tmp_path), tmp_path) == {
        "a": "a", "b": "b", "b_classes": "b_classes.csv", "pairs": "pairs.csv",
    }  # fmt: skip


def test_swapped(tmp_path: Path) -> None:
    lay_out(tmp_path, "train", "val")
    (tmp_path / "b_classes.csv").write_text("")
    assert paths_of(read_layout(tmp_path, swap=True), tmp_path) == {
        "a": "train::right", "b": "train::left", "val_a": "val::right", "val_b": "val::left",
        "a_classes": "b_classes.csv",
    }  # fmt: skip
    (tmp_path / "pairs.csv").write_text("a,b\n1.jpg,1.jpg\n")
    with pytest.raises(DiptychError, match=r"--swap: .*pairs\.csv lists a before b"):
        read_layout(tmp_path, swap=True)


def test_validation_without_pairs(tmp_path: Path) -> None:
    lay_out(tmp_path, "trainA", "trainB", "valA")
    lay_out(tmp_path, "valB", names=("8.jpg", "9.jpg"))
    layout = read_layout(tmp_path)
    assert not layout.val_paired
    assert "no pairs" in layout.recognised
    lay_out(tmp_path, "valB", names=("1.png", "2.png"))
    assert read_layout(tmp_path).val_paired


def test_folders_that_are_not_understood(tmp_path: Path) -> None:
    lay_out(tmp_path, "photos", "labels")
    with pytest.raises(DiptychError, match=r"not understood; what is: dataset\.yaml; trainA, trainB .* --a and --b"):
        read_layout(tmp_path)
    with pytest.raises(DiptychError, match="no such folder"):
        read_layout(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [(8, 9), (8, 8)])
@pytest.mark.parametrize("name", ["train/1.jpg", "val/1.jpg", "train/x/3.jpg"])
def test_images_that_are_not_side_by_side(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    lay_out(tmp_path, "train/x", "val")
    image(tmp_path / name, size=size)
    said = rf"/{name}: 8x{size[1]} pixels are no two .* side-by-side images are wider than high"
    with pytest.raises(DiptychError, match=said):
        read_layout(tmp_path)
    image(tmp_path / name, size=(9, 8))
    assert read_layout(tmp_path).a == tmp_path / "train::left"


def test_dataset_yaml_is_read_as_it_was_written(tmp_path: Path) -> None:
    lay_out(tmp_path, "in/photos", "in/labels", "elsewhere")
    (tmp_path / "in/classes.csv").write_text("")
    layout = Layout(
        tmp_path / "in/photos",
        tmp_path / "in/labels",
        val_a=tmp_path / "elsewhere::left",
        val_b=tmp_path / "elsewhere::right",
        b_classes=tmp_path / "in/classes.csv",
    )
    write_layout(layout, tmp_path / "in", "mine")
    assert (tmp_path / "in/dataset.yaml").read_text() == (
        "about: mine\na: photos\nb: labels\n"
        f"val_a: {tmp_path}/elsewhere::left\nval_b: {tmp_path}/elsewhere::right\nb_classes: classes.csv\n"
    )
    for given_as in (tmp_path / "in", tmp_path / "in/dataset.yaml"):
        assert paths_of(read_layout(given_as), tmp_path) == paths_of(layout, tmp_path)
    shutil.move(tmp_path / "in", tmp_path / "moved")
    assert read_layout(tmp_path / "moved").a == tmp_path / "moved/photos"


def test_what_is_reached_by_way_of_the_folder_is_written_whole(tmp_path: Path) -> None:
    lay_out(tmp_path, "a", "b")
    (tmp_path / "out").mkdir()
    around = tmp_path / "out" / ".." / "a"
    write_layout(Layout(around, tmp_path / "b"), tmp_path / "out", "mine")
    assert read_layout(tmp_path / "out").a == around


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: ../a\nb: b\n", r"a: '\.\./a' leads out of the folder; write the whole path"),
        ("a: a\nb: b/../../b\n", r"b: '.*' leads out of the folder"),
        ("a: a\n", "names no folder of b"),
        ("a: a\nb: b\nvala: c\n", "unknown entry 'vala'; did you mean 'val_a'?"),
        ("a: a\nb: [b]\n", r"b: \['b'\] is no path"),
        ("a: a\nb: gone::left\n", "b: there is no .*gone; mend"),
        ("- a\n", "must hold"),
        ("a: [\n", "no valid YAML"),
    ],
)
def test_a_dataset_yaml_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    lay_out(tmp_path, "a", "b")
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(DiptychError, match=said) as problem:
        read_layout(tmp_path)
    assert str(tmp_path / "dataset.yaml") in str(problem.value)


# --data through the commands.


def test_data_fills_what_is_not_said(
    side_by_side: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folders.classes, side_by_side / "b_classes.csv")
    flags = [*tiny("pix2pix"), "--steps", "2", "--val-every", "2"]
    assert diptych("train", "pix2pix", "--data", side_by_side, *flags, "--out", tmp_path / "x") == 0
    assert "side-by-side images as pix2pix has them, whose left halves are a: train::left" in capsys.readouterr().err
    run = load_settings(tmp_path / "x")
    assert run.a == side_by_side / "train::left"
    assert run.val_b == side_by_side / "val::right"
    assert run.b_classes == side_by_side / "b_classes.csv"
    assert run.data is None
    assert diptych("evaluate", tmp_path / "x", "--data", side_by_side, "--out", tmp_path / "scores") == 0
    assert "mean_iou" in scores_of(tmp_path / "scores")["scores"]
    shutil.copytree(side_by_side / "val", side_by_side / "test")
    (side_by_side / "test" / "scene100.png").unlink()
    assert diptych("evaluate", tmp_path / "x", "--data", side_by_side, "--out", tmp_path / "test") == 0
    assert scores_of(tmp_path / "test")["n"] == 3  # test comes before validation, of which there are 4
    assert diptych("translate", tmp_path / "x", side_by_side / "val::left", "--out", tmp_path / "made") == 0
    (tmp_path / "made" / "scene100.png").unlink()
    assert diptych("evaluate", "--generated", tmp_path / "made", "--data", side_by_side, "--out", tmp_path / "g") == 0
    assert scores_of(tmp_path / "g")["n"] == 3


def test_flags_win_over_data(side_by_side: Path, folders: Folders, tmp_path: Path) -> None:
    words = ["train", "pix2pix", "--data", side_by_side, "--swap", "--b", folders.photos]
    words += ["--val-a", folders.val_photos, *tiny("pix2pix"), "--steps", "1", "--out", tmp_path / "x"]
    assert diptych(*words) == 0
    run = load_settings(tmp_path / "x")
    assert (run.a, run.b) == (side_by_side / "train::right", folders.photos)
    assert (run.val_a, run.val_b) == (folders.val_photos, side_by_side / "val::left")


def test_a_csv_of_pairs_comes_with_data(own_folders: Folders, tmp_path: Path) -> None:
    root = tmp_path / "laid"
    shutil.copytree(own_folders.photos, root / "a")
    shutil.copytree(own_folders.labels, root / "b")
    (root / "pairs.csv").write_text("a,b\nscene000.png,scene003.png\n")
    for method, pairs in (("shukla", str(root / "pairs.csv")), ("cyclegan", None)):
        out = tmp_path / method
        assert diptych("train", method, "--data", root, *tiny(method), "--steps", "1", "--out", out) == 0
        assert load_settings(out).pairs == pairs
    assert diptych("train", "shukla", "--data", root, *tiny("shukla"), "--pairs", "all", "--out", tmp_path / "all") == 0
    assert json.loads((tmp_path / "all" / "data.json").read_text())["pairs"] == [["scene000.png", "scene003.png"]]


def test_a_number_is_not_drawn_among_same_stems_where_a_csv_says_the_pairs(
    own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "laid"
    shutil.copytree(own_folders.photos, root / "a")
    shutil.copytree(own_folders.labels, root / "b")
    (root / "pairs.csv").write_text("a,b\nscene000.png,scene003.png\nscene001.png,scene004.png\n")
    for words in (("train", "shukla", *tiny("shukla")), ("pack",)):
        assert diptych(*words, "--data", root, "--pairs", "1", "--out", tmp_path / "out") == 2
        assert f"--pairs 1: the pairs of --data are those of {root / 'pairs.csv'}; copy" in capsys.readouterr().err
    assert diptych("train", "shukla", "--data", root, *tiny("shukla"), "--pairs", "none", "--out", tmp_path / "no") == 0
    assert json.loads((tmp_path / "no" / "data.json").read_text())["pairs"] == []


def test_a_csv_of_pairs_alone(own_folders: Folders, tmp_path: Path) -> None:
    root = tmp_path / "own"
    shutil.copytree(own_folders.photos, root / "photos")
    shutil.copytree(own_folders.labels, root / "sub" / "maps")
    shutil.copyfile(own_folders.classes, root / "b_classes.csv")
    table = root / "list.csv"
    table.write_text("a,b\nphotos/scene000.png,sub/maps/scene003.png\n")
    out = tmp_path / "run"
    assert diptych("train", "pix2pix", "--data", table, *tiny("pix2pix"), "--steps", "1", "--out", out) == 0
    run = load_settings(out)
    assert (run.a, run.b, run.b_classes) == (root / "photos", root / "sub" / "maps", root / "b_classes.csv")
    assert json.loads((out / "data.json").read_text())["pairs"] == [["scene000.png", "scene003.png"]]
    assert diptych("check", table, "--out", tmp_path / "look") == 0
    assert json.loads((tmp_path / "look" / "check.json").read_text())["pairs"]["train"]["pairs"] == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("1.png,2.png\n", "do not lie in folders apart"),
        ("all/1.png,all/labels/2.png\n", "do not lie in folders apart"),
        ("photos/1.png,\n", "names no image of b"),
        ("", "names no image of a"),
        ("../photos/1.png,maps/1.png\n", "leads out of its folder"),
        ("photos/1.png,maps/1.png\n", "there is no folder"),
    ],
)
def test_a_csv_of_pairs_that_will_not_do(
    tmp_path: Path, rows: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tmp_path / "all" / "labels" / "2.png")
    (tmp_path / "list.csv").write_text(f"a,b\n{rows}")
    assert diptych("train", "pix2pix", "--data", tmp_path / "list.csv", "--out", tmp_path / "x") == 2
    assert said in said_one_line(capsys)


def test_unpaired_data_trains_without_validation(folders: Folders, tmp_path: Path) -> None:
    root = tmp_path / "h2z"
    shutil.copytree(folders.photos, root / "trainA")
    shutil.copytree(folders.labels, root / "trainB")
    shutil.copytree(folders.val_photos, root / "valA")
    shutil.copytree(folders.photos, root / "valB")
    assert diptych("train", "cyclegan", "--data", root, *tiny("cyclegan"), "--out", tmp_path / "x") == 0
    assert load_settings(tmp_path / "x").val_a is None


def test_what_data_does_not_hold(side_by_side: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diptych("train", "pix2pix", "--out", tmp_path / "x") == 2
    assert "train needs --a, the folder of domain a, or --data" in said_one_line(capsys)
    assert diptych("train", "pix2pix", "--swap", "--out", tmp_path / "x") == 2
    assert "--swap is about --data" in said_one_line(capsys)
    assert diptych("evaluate", tmp_path / "x", "--swap") == 2
    assert "--swap is about --data" in said_one_line(capsys)
    shutil.rmtree(side_by_side / "val")
    assert diptych("evaluate", tmp_path / "x", "--data", side_by_side) == 2
    assert "has neither test nor validation images" in said_one_line(capsys)


# Every kind of file and of class map that people have, end to end.


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("labels_as", ["ids", "palette", "rgb"])
def test_files_as_people_have_them(folders: Folders, tmp_path: Path, suffix: str, labels_as: str) -> None:
    """Recursive folders, photos of any kind, class maps of any kind, a CSV of pairs."""
    root = tmp_path / "laid"
    rows = ["a,b"]
    label_suffix = "png" if suffix == "jpg" else suffix
    for n, name in enumerate(list_images(folders.photos)[:6]):
        photo, label = root / "a" / f"day{n % 2}" / f"p{n}.{suffix}", root / "b" / f"l{n}.{label_suffix}"
        photo.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.open(folders.photos / name).save(photo)
        palette = Image.open(folders.labels / name)
        kinds = {"ids": Image.fromarray(np.asarray(palette)), "palette": palette, "rgb": palette.convert("RGB")}
        lossless = {"lossless": True, "exact": True} if suffix == "webp" else {}
        if suffix == "webp" and labels_as != "rgb":
            label = label.with_suffix(".png")
        kinds[labels_as].save(label, **({} if label.suffix == ".png" else lossless))
        rows.append(f"day{n % 2}/p{n}.{suffix},{label.name}")
    (root / "pairs.csv").write_text("\n".join([*rows, ""]))
    shutil.copy(folders.classes, root / "b_classes.csv")
    words = ["train", "shukla", "--data", root, *tiny("shukla"), "--steps", "2", "--out", tmp_path / "x"]
    assert diptych(*words) == 0
    assert (tmp_path / "x" / "checkpoints.json").exists()


def test_photos_and_labels_below_a_split_are_no_halves(tmp_path: Path) -> None:
    for place in ("photos", "labels"):
        (tmp_path / "train" / place).mkdir(parents=True)
        Image.new("RGB", (64, 32)).save(tmp_path / "train" / place / "x.png")
    with pytest.raises(DiptychError, match="not understood"):
        read_layout(tmp_path)


@pytest.mark.parametrize("places", [("photos", "labels"), ("Images", "Masks"), ("satellite", "day2")])
def test_photos_and_labels_of_other_stems_are_no_halves_either(tmp_path: Path, places: tuple[str, str]) -> None:
    for place, name in zip(places, ("x.jpg", "x_L.png"), strict=True):
        (tmp_path / "train" / place).mkdir(parents=True)
        Image.new("RGB", (64, 32)).save(tmp_path / "train" / place / name)
    with pytest.raises(DiptychError, match=r"is called as one domain.*--a .*train::left --b .*train::right"):
        read_layout(tmp_path)
