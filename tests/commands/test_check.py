"""`diptych check`: what is planted in a dataset is found, and nothing is found where nothing is planted."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import diptych, said_one_line, tree

SIZE = (112, 96)
CLASSES = (
    "id,name,red,green,blue\n0,sky,70,130,180\n1,road,128,64,128\n2,car,200,0,0\n3,sign,220,220,0\n255,void,0,0,0\n"
)
COLOURS = np.array([[70, 130, 180], [128, 64, 128], [200, 0, 0], [220, 220, 0]], np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def class_rows(rng: np.random.Generator, classes: int) -> np.ndarray:
    """Rectangles of classes, `(H, W)`."""
    width, height = SIZE
    rows = np.full((height, width), rng.integers(classes), np.uint8)
    for _ in range(14):
        left, top = rng.integers(0, width - 8), rng.integers(0, height - 8)
        rows[top : top + rng.integers(6, 50), left : left + rng.integers(6, 50)] = rng.integers(classes)
    return rows


def photo_of(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same scene under light of its own, `(H, W, 3)`."""
    shades = np.array([[200, 220, 250], [90, 90, 100], [160, 40, 50], [40, 120, 60]]) * rng.uniform(0.5, 1)
    return (shades[rows] + rng.normal(0, 6, (*rows.shape, 3))).clip(0, 255).astype(np.uint8)


def make(root: Path, as_maps: bool = False) -> Path:
    """train and val below `root`: photos in a, and in b the same scenes in flat colours, or as class ids."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 8)):
        for side in "ab":
            (root / split / side).mkdir(parents=True)
        for scene in range(count):
            rows = class_rows(rng, 4)
            Image.fromarray(photo_of(rows, rng)).save(root / split / "a" / f"{scene:02d}.png")
            b = Image.fromarray(rows if as_maps else COLOURS[rows])
            b.save(root / split / "b" / f"{scene:02d}.png")
    if as_maps:
        (root / "b_classes.csv").write_text(CLASSES)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("maps") / "data", as_maps=True)


def copy(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "data"))


def found(out: Path) -> dict[str, Any]:
    """Kind -> severity and files of the findings, files named by the end of their paths."""
    record = json.loads((out / "check.json").read_text())
    return {
        finding["kind"]: (finding["severity"], ["/".join(Path(file).parts[-3:]) for file in finding["files"]])
        for finding in record["findings"]
    }


@pytest.mark.parametrize("kind", ["pictures", "maps"])
def test_nothing_is_found_where_nothing_is_wrong(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = request.getfixturevalue(kind)
    before = tree(data)
    assert diptych("check", data, "--out", tmp_path / "out") == 0
    assert found(tmp_path / "out") == {}
    assert capsys.readouterr().out == f"0 errors, 0 warnings, 0 notes. Look at {tmp_path / 'out' / 'check.html'}\n"
    assert tree(data) == before
    record = json.loads((tmp_path / "out" / "check.json").read_text())
    assert {name: folder["images"] for name, folder in record["folders"].items()} == {
        "a": 40,
        "b": 40,
        "val_a": 8,
        "val_b": 8,
    }
    assert record["folders"]["a"]["sizes"] == {"112x96": 40}
    assert record["folders"]["a"]["kinds"] == {"RGB": 40}
    assert record["pairs"]["train"]["pairs"] == 40
    if kind == "maps":
        counts = [np.asarray(Image.open(file)) for file in (data / "train" / "b").iterdir()]
        cars = record["folders"]["b"]["classes"]["car"]
        assert cars["images"] == sum((rows == 2).any() for rows in counts)
        assert cars["pixels"] == pytest.approx(sum((rows == 2).sum() for rows in counts), abs=2)


def cut(data: Path) -> None:
    file = data / "train" / "a" / "03.png"
    file.write_bytes(file.read_bytes()[:2000])


def resized(data: Path) -> None:
    Image.open(data / "train" / "b" / "04.png").resize((56, 48)).save(data / "train" / "b" / "04.png")


def copied_bytes(data: Path) -> None:
    for side in "ab":
        shutil.copy(data / "train" / side / "05.png", data / "train" / side / "40.png")


def leaked(data: Path) -> None:
    shutil.copy(data / "train" / "a" / "06.png", data / "val" / "a" / "90.png")


def nearly_leaked(data: Path) -> None:
    image = Image.open(data / "train" / "a" / "07.png").resize((80, 70), Image.Resampling.BICUBIC)
    image.resize(SIZE, Image.Resampling.BICUBIC).save(data / "val" / "a" / "91.jpg", quality=70)


def saved_again(data: Path) -> None:
    (data / "train" / "a" / "25.png").unlink()
    Image.open(data / "train" / "a" / "07.png").save(data / "train" / "a" / "25.jpg", quality=60)


def mirrored(data: Path) -> None:
    file = data / "train" / "b" / "08.png"
    Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)


def shifted(data: Path) -> None:
    file = data / "train" / "b" / "09.png"
    Image.fromarray(np.roll(np.asarray(Image.open(file)), 14, 1)).save(file)


def exchanged(data: Path) -> None:
    files = [data / "train" / "b" / f"{scene}.png" for scene in (10, 20)]
    first, second = (file.read_bytes() for file in files)
    files[0].write_bytes(second)
    files[1].write_bytes(first)


def greyed(data: Path) -> None:
    Image.open(data / "train" / "a" / "11.png").convert("L").save(data / "train" / "a" / "11.png")


def lonely(data: Path) -> None:
    (data / "train" / "b" / "12.png").unlink()


def cased(data: Path) -> None:
    (data / "train" / "a" / "13.png").rename(data / "train" / "a" / "x.png")
    (data / "train" / "b" / "13.png").rename(data / "train" / "b" / "x.png")
    for side in "ab":
        (data / "train" / side / "14.png").rename(data / "train" / side / "X.png")


def tiny(data: Path) -> None:
    for side in "ab":
        file = data / "train" / side / "15.png"
        Image.open(file).resize((28, 24), Image.Resampling.BOX).save(file)


def paletted(data: Path) -> None:
    Image.open(data / "train" / "a" / "16.png").quantize(200).save(data / "train" / "a" / "16.png")


def on_both_sides(data: Path) -> None:
    shutil.copy(data / "val" / "a" / "03.png", data / "val" / "b" / "03.png")


@pytest.mark.parametrize(
    ("plant", "kind", "severity", "files"),
    [
        (cut, "unreadable", "error", ["train/a/03.png"]),
        (resized, "size", "error", ["train/a/04.png", "train/b/04.png"]),
        (copied_bytes, "duplicate", "warning", ["train/b/05.png", "train/b/40.png"]),
        (leaked, "leak", "warning", ["train/a/06.png", "val/a/90.png"]),
        (nearly_leaked, "near-duplicate", "warning", ["val/a/91.jpg", "train/a/07.png"]),
        (saved_again, "alike", "note", ["train/a/07.png", "train/a/25.jpg"]),
        (mirrored, "mirrored", "warning", ["train/a/08.png", "train/b/08.png"]),
        (shifted, "shifted", "warning", ["train/a/09.png", "train/b/09.png"]),
        (exchanged, "strange", "warning", [f"train/{side}/{scene}.png" for scene in (10, 20) for side in "ab"]),
        (greyed, "grey", "warning", ["train/a/11.png"]),
        (lonely, "alone", "warning", ["train/a/12.png"]),
        (cased, "case", "warning", ["train/b/X.png", "train/b/x.png"]),
        (tiny, "small", "warning", ["train/b/15.png"]),
        (paletted, "palette", "warning", ["train/a/16.png"]),
        (on_both_sides, "both sides", "warning", ["val/a/03.png", "val/b/03.png"]),
    ],
)
def test_what_is_planted_is_found(
    plant: Callable[[Path], None],
    kind: str,
    severity: str,
    files: list[str],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = copy(pictures, tmp_path)
    plant(data)
    assert diptych("check", data, "--out", tmp_path / "out") == (1 if severity == "error" else 0)
    answer = found(tmp_path / "out")
    assert kind in answer
    answer[kind] = (answer[kind][0], sorted(answer[kind][1]) if kind == "strange" else answer[kind][1])
    assert answer[kind] == (severity, sorted(files) if kind == "strange" else files)
    # What follows from it may be told too: a resized partner is small; a picture twice lacks its second partner.
    follows = {
        "unreadable": set(),
        "size": {"small", "shape"},
        "leak": {"alone"},
        "near-duplicate": {"alone"},
        "alike": {"strange"},
        "both sides": {"strange", "shape"},
    }
    assert answer.keys() - {kind} <= follows.get(kind, set())
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(severity) for line in lines) >= 1
    assert any(Path(files[0]).name in line for line in lines)


def test_a_folder_that_is_trained_on_and_scored_on_is_a_leak(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pictures / "train")
    for place in (pictures / "train", tmp_path / "link"):
        out = tmp_path / f"out-{place.name}"
        sides = (
            "--a",
            pictures / "train/a",
            "--b",
            pictures / "train/b",
            "--val-a",
            place / "a",
            "--val-b",
            place / "b",
        )
        assert diptych("check", *sides, "--out", out) == 0
        severity, files = found(out)["leak"]
        assert severity == "warning"
        assert len(files) == 2 * len(list((pictures / "train/a").iterdir()))


def test_class_maps_with_unknown_ids_rare_and_missing_classes(maps: Path, tmp_path: Path) -> None:
    data = copy(maps, tmp_path)
    for file in (data / "val" / "b").iterdir():
        rows = np.asarray(Image.open(file)).copy()
        rows[rows == 3] = 0  # no sign in validation
        Image.fromarray(rows).save(file)
    Image.fromarray(np.full(SIZE[::-1], 77, np.uint8)).save(data / "train" / "b" / "02.png")
    assert diptych("check", data, "--out", tmp_path / "out") == 1
    answer = found(tmp_path / "out")
    assert answer.keys() == {"unfit", "absent class"}
    assert answer["unfit"] == ("error", ["train/b/02.png"])
    record = json.loads((tmp_path / "out" / "check.json").read_text())
    texts = {finding["kind"]: finding["text"] for finding in record["findings"]}
    assert "77" in texts["unfit"]
    assert "sign" in texts["absent class"]


def test_bands_and_depths_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(5)
    folder = tmp_path / "bands"
    folder.mkdir()
    for name, bands, dtype in (("five.tif", 5, np.uint8), ("deep.png", 1, np.uint16), ("rgb.png", 3, np.uint8)):
        values = rng.integers(0, np.iinfo(dtype).max, (80, 90, bands)).astype(dtype)
        if name.endswith("tif"):
            tifffile.imwrite(folder / name, values, photometric="minisblack", planarconfig="contig")
        else:
            Image.fromarray(values.squeeze()).save(folder / name)
    assert diptych("check", "--a", folder, "--out", tmp_path / "out") == 1
    answer = found(tmp_path / "out")
    assert answer["unfit"] == ("error", [f"{tmp_path.name}/bands/five.tif"])
    assert answer["bits"] == ("warning", [])
    assert "five.tif: has 5 bands" in capsys.readouterr().out
    kinds = json.loads((tmp_path / "out" / "check.json").read_text())["folders"]["a"]["kinds"]
    assert sum(kinds.values()) == 2
    assert kinds["RGB"] == 1
    assert sum(count for kind, count in kinds.items() if kind.endswith("of 16 bits")) == 1


def test_side_by_side_images(pictures: Path, tmp_path: Path) -> None:
    for split, count in (("train", 40), ("val", 8)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for scene in range(count):
            sides = [np.asarray(Image.open(pictures / split / side / f"{scene:02d}.png")) for side in "ab"]
            if scene == 9 and split == "train":
                sides[1] = sides[1][:, ::-1]
            Image.fromarray(np.concatenate(sides, axis=1)).save(tmp_path / "data" / split / f"{scene:02d}.png")
    assert diptych("check", tmp_path / "data", "--out", tmp_path / "out") == 0
    assert found(tmp_path / "out") == {"mirrored": ("warning", ["data/train::left/09.png", "data/train::right/09.png"])}


def test_swapped_sides_of_a_few_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for side in "ab":
        (tmp_path / "data" / "train" / side).mkdir(parents=True)
    for scene in range(120):
        rows = class_rows(rng, 4)
        sides = [photo_of(rows, rng) // 3, 255 - COLOURS[rows] // 4]  # dark photos, light drawings
        for side, picture in zip("ab", reversed(sides) if scene == 7 else sides, strict=True):
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "data" / "train" / side / f"{scene:03d}.png")
    assert diptych("check", tmp_path / "data", "--out", tmp_path / "out") == 0
    assert found(tmp_path / "out") == {"swapped": ("warning", ["train/a/007.png", "train/b/007.png"])}


def test_unpaired_folders_and_images_that_only_share_their_names(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy(pictures, tmp_path)
    b = data / "train" / "b"
    for scene in range(40):
        (b / f"{scene:02d}.png").rename(b / f"other{(scene + 20) % 40:02d}.png")
    sides = ["--a", data / "train" / "a", "--b", b]
    assert diptych("check", *sides, "--out", tmp_path / "unpaired") == 0
    assert found(tmp_path / "unpaired") == {"pairs": ("note", [])}
    for file in list(b.iterdir()):
        file.rename(b / file.name.removeprefix("other"))
    assert diptych("check", *sides, "--out", tmp_path / "named") == 0
    assert found(tmp_path / "named") == {"no pairs": ("warning", [])}
    assert "--pairs none" in capsys.readouterr().out


def test_the_second_time_nothing_is_decoded_and_the_answer_is_the_same(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert diptych("check", maps, "--out", tmp_path / "one") == 0

    def never(*_: object) -> None:
        raise AssertionError("looked at again")

    monkeypatch.setattr("diptych.checking.survey.read_whole", never)
    assert diptych("check", maps, "--out", tmp_path / "two") == 0
    assert (tmp_path / "two" / "check.json").read_bytes() == (tmp_path / "one" / "check.json").read_bytes()


@pytest.mark.parametrize(("width", "told"), [(111, False), (200, True)])
def test_another_shape_is_noted_and_a_pixel_of_rounding_is_not(
    width: int, told: bool, pictures: Path, tmp_path: Path
) -> None:
    data = copy(pictures, tmp_path)
    for side in "ab":
        file = data / "val" / side / "02.png"
        Image.open(file).resize((width, 96)).save(file)
    assert diptych("check", data, "--out", tmp_path / "out") == 0
    assert found(tmp_path / "out") == ({"shape": ("note", [])} if told else {})


def test_which_way_and_how_far_to_move_is_said(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy(pictures, tmp_path)
    shifted(data)  # 14 of 112 pixels to the right
    for file in (data / "val" / "b").iterdir():
        Image.fromarray(np.roll(np.asarray(Image.open(file)), -9, 0)).save(file)  # 9 of 96 pixels up
    assert diptych("check", data, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "1 pair, such as" in said
    assert "(12 % to the left)" in said
    assert "all pairs together fit better with b moved 9 % down" in said


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1)])
def test_pairs_of_one_pixel_side(size: tuple[int, int], tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        Image.new("RGB", size, "red").save(tmp_path / side / "thin.png")
        Image.new("RGB", (48, 40), "red").save(tmp_path / side / "x.png")
    assert diptych("check", "--a", tmp_path / "a", "--b", tmp_path / "b", "--out", tmp_path / "out") == 0


def test_the_page_needs_nothing_but_itself(pictures: Path, tmp_path: Path) -> None:
    data = copy(pictures, tmp_path)
    mirrored(data)
    assert diptych("check", data, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "check.html").read_text()
    sources = re.findall(r'src="([^"]{0,23})', page)
    assert len(sources) > 20
    assert set(sources) == {"data:image/jpeg;base64,"}
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)
    assert "b mirrored would fit better in 1 pair" in page


def test_a_check_that_is_there_is_kept(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "check.json").write_text("mine")
    assert diptych("check", pictures, "--out", tmp_path / "out") == 2
    assert "--overwrite" in said_one_line(capsys)
    assert (tmp_path / "out" / "check.json").read_text() == "mine"
    assert diptych("check", pictures, "--out", tmp_path / "out", "--overwrite") == 0
    assert found(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "check needs DATA, or --a"),
        (["--swap", "--a", "{data}/train/a"], "--swap is about DATA"),
        (["--a", "{data}/nowhere"], "no such folder"),
        (["{data}", "--out", "{data}/train/a/out"], "lies among the images"),
    ],
)
def test_wrong_words(
    words: list[str], says: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(pictures)
    given = [word.format(data=pictures) for word in words]
    out = [] if "--out" in given else ["--out", tmp_path / "out"]
    assert diptych("check", *given, *out) == 2
    assert says in said_one_line(capsys)
    assert tree(pictures) == before
    assert not (tmp_path / "out").exists()
