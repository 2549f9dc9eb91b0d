"""Every dataset in miniature, laid out and named exactly as its authors do, through `diptych import`."""

import errno
import os
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from conftest import diptych, said_one_line
from diptych.config import Dataset
from diptych.images import read_class_map, read_classes
from diptych.importers import IMPORTERS, camvid, cityscapes
from diptych.importers.labelled import BEGUN
from diptych.importers.mapillary import cityscapes_class
from diptych.layouts import FILE, read_layout
from miniatures import (
    HEIGHT,
    MINIATURES,
    VISTAS,
    WIDTH,
    ids,
    make_camvid,
    make_cityscapes,
    make_cyclegan,
    make_gta5,
    make_mapillary,
    make_synscapes,
    photo,
)

VOID = 19  # the row of void


def imported(name: str, tmp_path: Path) -> Path:
    MINIATURES[name](tmp_path / "source")
    assert diptych("import", name, tmp_path / "source", "--out", tmp_path / "out") == 0
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_command_knows_every_importer() -> None:
    assert set(IMPORTERS) == set(MINIATURES) == set(get_args(Dataset))


def test_official_cityscapes_table() -> None:
    """Facts of the official table, written out a second time."""
    assert cityscapes.CLASSES.ids == (*range(19), 255)
    assert [int(cityscapes.ROWS[id_]) for id_ in range(36)] == [
        *[VOID] * 7, 0, 1, VOID, VOID, 2, 3, 4, VOID, VOID, VOID, 5, VOID, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        VOID, VOID, 16, 17, 18, -1, -1,
    ]  # fmt: skip
    by_name = dict(zip(cityscapes.CLASSES.names, cityscapes.CLASSES.colours.tolist(), strict=True))
    assert by_name["sidewalk"] == [244, 35, 232]
    assert by_name["traffic light"] == [250, 170, 30]
    assert by_name["bicycle"] == [119, 11, 32]
    assert by_name["void"] == [0, 0, 0]
    assert len({tuple(colour) for colour in by_name.values()}) == 20


def test_cityscapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = imported("cityscapes", tmp_path)
    assert names(out / "train" / "photos") == names(out / "train" / "labels")
    assert names(out / "val" / "photos") == ["munster_000000_000019.png", "munster_000001_000019.png"]
    assert not (out / "test").exists()
    link = out / "train" / "photos" / "aachen_000001_000019.png"
    assert link.is_symlink()
    original = tmp_path / "source/leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png"
    assert link.read_bytes() == original.read_bytes()
    label = out / "train" / "labels" / "aachen_000001_000019.png"
    assert np.asarray(Image.open(label))[0].tolist() == [0, 1, 13, 18, 255, 255, 16, 255]
    assert not label.is_symlink()
    classes = read_classes(out / "classes.csv")
    assert classes.names == cityscapes.CLASSES.names
    assert classes.void == VOID
    assert read_class_map(label, classes)[0].tolist() == [0, 1, 13, 18, VOID, VOID, 16, VOID]
    assert Image.open(label).convert("RGB").getpixel((3, 0)) == (119, 11, 32)
    layout = read_layout(out)
    assert (layout.a, layout.val_b, layout.test_a) == (out / "train/photos", out / "val/labels", None)
    assert layout.b_classes == out / "classes.csv"
    assert names(out) == [".lock", "classes.csv", "dataset.yaml", "train", "val"]
    assert "Next: diptych train shukla --data" in capsys.readouterr().out


def test_cityscapes_links_train_ids_that_are_there(tmp_path: Path) -> None:
    make_cityscapes(tmp_path / "source")
    stem = "gtFine/train/aachen/aachen_000000_000019_gtFine"
    ready = ids(tmp_path / "source" / f"{stem}_labelTrainIds.png", [0, 18, 255])
    assert diptych("import", "cityscapes", tmp_path / "source", "--out", tmp_path / "out") == 0
    label = tmp_path / "out/train/labels/aachen_000000_000019.png"
    assert label.is_symlink()
    assert label.resolve() == ready.resolve()
    assert not (tmp_path / "out/train/labels/aachen_000001_000019.png").is_symlink()


def test_what_a_mac_leaves_beside_files_is_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_cityscapes(source)
    for file in list(source.rglob("*.png")):
        file.with_name(f"._{file.name}").write_bytes(b"attributes")
    assert diptych("import", "cityscapes", source, "--out", tmp_path / "out") == 0
    assert len(names(tmp_path / "out/train/photos")) == 3


def test_an_out_folder_may_be_moved(tmp_path: Path) -> None:
    out = imported("cityscapes", tmp_path)
    out.rename(tmp_path / "elsewhere")
    layout = read_layout(tmp_path / "elsewhere")
    assert layout.a == tmp_path / "elsewhere" / "train" / "photos"
    assert Image.open(layout.a / "aachen_000000_000019.png").size == (WIDTH, HEIGHT)


def test_camvid(tmp_path: Path) -> None:
    out = imported("camvid", tmp_path)
    layout = read_layout(out)
    assert (layout.val_a, layout.test_b) == (out / "val/photos", out / "test/labels")
    assert (out / "test/labels/0001TP_000001.png").is_symlink()
    classes = read_classes(out / "classes.csv")
    assert (out / "classes.csv").read_text().splitlines() == [
        "id,name,red,green,blue",
        "0,sky,128,128,128",
        "1,building,128,0,0",
        "2,pole,192,192,128",
        "3,road,128,64,128",
        "4,pavement,60,40,222",
        "5,tree,128,128,0",
        "6,sign,192,128,128",
        "7,fence,64,64,128",
        "8,car,64,0,128",
        "9,pedestrian,64,64,0",
        "10,bicyclist,0,128,192",
        "11,void,0,0,0",
    ]
    assert read_class_map(out / "train/labels/0001TP_000000.png", classes)[0].tolist() == [0, 3, 8, 11] * 2


def test_original_camvid(tmp_path: Path) -> None:
    source = tmp_path / "source"
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :4] = (64, 0, 128)
    photo(source / "701_StillsRaw_full" / "0001TP_006690.png")
    (source / "LabeledApproved_full").mkdir()
    Image.fromarray(pixels).save(source / "LabeledApproved_full" / "0001TP_006690_L.png")
    assert diptych("import", "camvid", source, "--out", tmp_path / "out") == 0
    classes = read_classes(tmp_path / "out/classes.csv")
    rows = read_class_map(tmp_path / "out/train/labels/0001TP_006690.png", classes)
    assert [classes.names[row] for row in rows[0]] == ["Car"] * 4 + ["Void"] * 4
    assert len(camvid.ORIGINAL) == len(set(camvid.ORIGINAL.values())) == 32


def test_unknown_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "s" / "701_StillsRaw_full" / "a.png")
    (tmp_path / "s" / "LabeledApproved_full").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(tmp_path / "s" / "LabeledApproved_full" / "a_L.png")
    assert diptych("import", "camvid", tmp_path / "s", "--out", tmp_path / "out") == 2
    assert "(1, 2, 3)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.yaml").exists()


def test_gta5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = imported("gta5", tmp_path)
    assert names(out / "train" / "photos") == [f"{n:05}.png" for n in range(1, 6)]
    assert np.asarray(Image.open(out / "train/labels/00003.png"))[0].tolist() == [0, 1, 13, 255, 255, 0, 1, 13]
    said = capsys.readouterr().err
    assert "left out, photo and labels differ in size: 00006 (10x9 and 8x9)" in said
    assert "void <- unlabeled, ego vehicle" in said
    assert "all of it is for training" in said


def test_gta5_takes_no_class_maps_that_an_import_has_made(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_gta5(source)
    within = source / "streets"
    assert diptych("import", "gta5", source, "--out", within) == 0
    for made in (FILE, BEGUN):  # of a whole one, and of one that was cut off
        (within / FILE).rename(within / made)
        again = tmp_path / made
        assert diptych("import", "gta5", source, "--out", again) == 0
        for name in names(again / "train/labels"):
            assert (again / "train/labels" / name).read_bytes() == (within / "train/labels" / name).read_bytes()
        (within / made).rename(within / FILE)


@pytest.mark.parametrize("how", ["split.mat", "txt"])
def test_gta5_splits(tmp_path: Path, how: str) -> None:
    source = tmp_path / "source"
    make_gta5(source)
    listed = {"train": [1, 4], "val": [2], "test": [3, 5]}
    if how == "txt":
        for split, frames in listed.items():
            (source / f"{split}.txt").write_text("".join(f"{frame:05}.png\n" for frame in frames))
    else:
        (source / "read_mapping").mkdir()
        savemat(source / "read_mapping/split.mat", {f"{s}Ids": np.array([n]).T for s, n in listed.items()})
    assert diptych("import", "gta5", source, "--out", tmp_path / "out") == 0
    found = {split: names(tmp_path / "out" / split / "labels") for split in listed}
    assert found == {split: [f"{frame:05}.png" for frame in frames] for split, frames in listed.items()}
    assert read_layout(tmp_path / "out").test_a == tmp_path / "out/test/photos"


def test_gta5_lists_name_a_frame_on_each_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    for name in ("00001", "a frame", "frame"):
        photo(source / "images" / f"{name}.png")
        ids(source / "labels" / f"{name}.png", [7])
    (source / "train.txt").write_bytes(b"\xef\xbb\xbf00001.png\r\n\r\n a frame.png \r\n")
    assert diptych("import", "gta5", source, "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out/train/photos") == ["00001.png", "a frame.png"]
    (source / "val.txt").write_bytes(b"00001\xff.png\n")
    capsys.readouterr()
    assert diptych("import", "gta5", source, "--out", tmp_path / "out2") == 2
    said = said_one_line(capsys)
    assert f"{source}/val.txt: cannot be read" in said
    assert "a line each" in said


def test_gta5_in_parts_as_downloaded(tmp_path: Path) -> None:
    for part, frame in ((1, 1), (2, 2501)):
        photo(tmp_path / "s" / f"{part:02}_images" / "images" / f"{frame:05}.png")
        ids(tmp_path / "s" / f"{part:02}_labels" / "labels" / f"{frame:05}.png", [7])
    assert diptych("import", "gta5", tmp_path / "s", "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out/train/photos") == ["00001.png", "02501.png"]


def test_synscapes(tmp_path: Path) -> None:
    out = imported("synscapes", tmp_path)
    assert (out / "train/photos/2.png").resolve() == (tmp_path / "source/Synscapes/img/rgb/2.png").resolve()
    assert np.asarray(Image.open(out / "train/labels/2.png"))[0].tolist() == [0, 10, 255, 255] * 2


@pytest.mark.parametrize("version", ["v1.2", "v2.0", ""])
def test_mapillary(tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_mapillary(tmp_path / "source", version)
    if version == "v2.0":
        make_mapillary(tmp_path / "source", "v1.2")
    assert diptych("import", "mapillary-vistas", tmp_path / "source", "--out", tmp_path / "out") == 0
    out = tmp_path / "out"
    assert names(out / "val" / "photos") == ["-a1.jpg", "b_2.jpg"]
    assert np.asarray(Image.open(out / "train/labels/b_2.png"))[0].tolist() == [0, 16, 255, 0, 16, 255, 0, 16]
    said = capsys.readouterr().err
    assert f"config_{version}.json" in said or not version
    assert "rider <- human--rider--bicyclist, human--rider--motorcyclist, human--rider--other-rider\n" in said
    assert "nature--snow" in said.partition("void <- ")[2]


def test_a_mapillary_config_without_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_mapillary(tmp_path / "source")
    (tmp_path / "source/config_v1.2.json").write_text("[" * 200_000)
    assert diptych("import", "mapillary-vistas", tmp_path / "source", "--out", tmp_path / "out") == 2
    assert "config_v1.2.json: missing or damaged" in said_one_line(capsys)


def test_mapillary_classes_find_their_group() -> None:
    assert cityscapes_class("marking--discrete--arrow--left") == "road"
    assert cityscapes_class("human--person--individual") == "person"
    assert cityscapes_class("object--traffic-light--general-upright") == "traffic light"
    assert cityscapes_class("object--traffic-sign--back") is None
    assert cityscapes_class("construction--barrier--guard-rail") is None
    assert cityscapes_class("void--unlabeled") is None
    assert {cityscapes_class(name) for name in VISTAS} == {*cityscapes.CLASSES.names, None} - {"void"}


@pytest.mark.parametrize("name", ["facades", "maps", "edges2shoes"])
def test_side_by_side_datasets_need_an_index_alone(tmp_path: Path, name: str) -> None:
    out = imported(name, tmp_path)
    assert names(out) == [".lock", "dataset.yaml"]
    layout = read_layout(out)
    assert layout.a == tmp_path / "source" / "train::left"
    assert layout.val_b == tmp_path / "source" / "val::right"
    assert layout.test_a == tmp_path / "source" / "test::left"


def test_horse2zebra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = read_layout(imported("horse2zebra", tmp_path))
    assert "Next: diptych train cyclegan --data" in capsys.readouterr().out
    assert (layout.a, layout.test_b) == (tmp_path / "source/trainA", tmp_path / "source/testB")
    assert layout.val_a is None


@pytest.mark.parametrize("name", ["facades", "maps", "edges2shoes", "horse2zebra"])
def test_another_dataset_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    other, wanted = ("maps", "trainA and trainB") if name == "horse2zebra" else ("horse2zebra", "side-by-side images")
    MINIATURES[other](tmp_path / "source")
    assert diptych("import", name, tmp_path / "source", "--out", tmp_path / "out") == 2
    assert f"{tmp_path / 'source'}: holds no folder" in (said := said_one_line(capsys))
    assert wanted in said
    assert not (tmp_path / "out/dataset.yaml").exists()


def test_photos_and_labels_in_train_are_not_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("a", "b"):
        photo(tmp_path / "source" / "train" / side / "1.png", (20, 9))
    assert diptych("import", "maps", tmp_path / "source", "--out", tmp_path / "out") == 2
    assert "holds folders a and b in every split, and not side-by-side images" in said_one_line(capsys)


@pytest.mark.parametrize("name", ["facades", "horse2zebra"])
def test_a_dataset_yaml_in_the_source_is_not_followed(tmp_path: Path, name: str) -> None:
    source, private = tmp_path / "source", tmp_path / "private"
    MINIATURES[name](source)
    photo(private / "1.png")
    (source / "dataset.yaml").write_text(f"a: {private}\nb: ../private\n")
    assert diptych("import", name, source, "--out", tmp_path / "out") == 0
    assert "private" not in (tmp_path / "out/dataset.yaml").read_text()
    assert read_layout(tmp_path / "out").a == source / ("train::left" if name == "facades" else "trainA")


def test_a_record_of_a_stopped_import_without_an_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_camvid(tmp_path / "source")
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "import.json").write_text("[" * 200_000)
    assert diptych("import", "camvid", tmp_path / "source", "--out", tmp_path / "out") == 2
    assert "holds something else" in said_one_line(capsys)


def test_a_stopped_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cityscapes(tmp_path / "source")
    bad = tmp_path / "source/gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:40])
    words = ("import", "cityscapes", tmp_path / "source", "--out", tmp_path / "out")
    assert diptych(*words) == 2
    assert not (tmp_path / "out/dataset.yaml").exists()
    made = tmp_path / "out/train/labels/aachen_000000_000019.png"
    before = made.stat().st_mtime_ns
    assert diptych("import", "camvid", *words[2:]) == 2  # another dataset does not go on with it
    bad.write_bytes(good)
    assert diptych(*words) == 0
    assert made.stat().st_mtime_ns == before
    assert (tmp_path / "out/val/photos/munster_000001_000019.png").exists()
    assert not (tmp_path / "out/import.json").exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = imported("facades", tmp_path)
    capsys.readouterr()
    assert diptych("import", "facades", tmp_path / "source", "--out", out) == 2
    assert "a dataset is there already" in said_one_line(capsys)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert diptych("import", "facades", tmp_path / "source", "--out", tmp_path / "full") == 2
    assert "holds something else" in said_one_line(capsys)
    assert names(tmp_path / "full") == ["mine.txt"]


@pytest.mark.parametrize("hard", [True, False])
def test_filesystems_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hard: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    if not hard:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    out = imported("camvid", tmp_path)
    file, source = out / "val/photos/0001TP_000000.png", tmp_path / "source/CamVid/val/0001TP_000000.png"
    assert file.read_bytes() == source.read_bytes()
    assert not file.is_symlink()
    assert file.samefile(source) == hard
    assert f"so there are {'hard links' if hard else 'copies'}" in capsys.readouterr().err
    assert not [path for path in out.rglob("*") if path.name.startswith(".part")]


def test_what_is_wrong_with_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(name: str, *words: object) -> str:
        assert diptych("import", name, *words, "--out", tmp_path / "out" / name) == 2
        return capsys.readouterr().err.splitlines()[-1]

    empty = tmp_path / "empty"
    empty.mkdir()
    for name in IMPORTERS:
        assert str(empty) in answer(name, empty)
    make_cityscapes(tmp_path / "cs")
    (tmp_path / "cs/gtFine/train/aachen/aachen_000002_000019_gtFine_labelIds.png").unlink()
    assert "there is no class map to " in (said := answer("cityscapes", tmp_path / "cs"))
    assert "aachen_000002_000019_leftImg8bit.png" in said
    make_camvid(tmp_path / "cv")
    photo(tmp_path / "cv/CamVid/train/0001TP_000000.png", (4, 4))
    assert "4x4 and 8x9 pixels: no pair" in answer("camvid", tmp_path / "cv")
    make_synscapes(tmp_path / "sy")
    ids(tmp_path / "sy/Synscapes/img/class/2.png", [7, 77])
    assert "img/class/2.png: holds the ids 77, which" in answer("synscapes", tmp_path / "sy")
    photo(tmp_path / "sy/Synscapes/img/class/2.png")
    assert "no map of class ids, but colours" in answer("synscapes", tmp_path / "sy")
    make_mapillary(tmp_path / "mv")
    (tmp_path / "mv/config_v1.2.json").write_text('{"labels": [{"name": "cat"}]}')
    assert "its 1 classes are not those of Mapillary Vistas" in answer("mapillary-vistas", tmp_path / "mv")
    make_gta5(tmp_path / "gt")
    (tmp_path / "gt/split.mat").write_bytes(b"nothing")
    assert "split.mat: holds no lists of frames" in answer("gta5", tmp_path / "gt")
    assert "no such file or folder" in answer("maps", tmp_path / "nowhere")


def test_licensed_datasets_say_where_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, place in (
        ("cityscapes", "register at https://www.cityscapes-dataset.com, and unpack leftImg8bit_trainvaltest.zip"),
        ("mapillary-vistas", "register at https://www.mapillary.com/dataset/vistas"),
        ("synscapes", "https://synscapes.on.liu.se"),
    ):
        assert diptych("import", name, "--out", tmp_path / "out", "--download") == 2
        assert place in said_one_line(capsys)
        assert diptych("import", name, "--out", tmp_path / "out") == 2
        assert place in said_one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_archive_as_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_cyclegan(tmp_path / "made" / "horse2zebra")
    with zipfile.ZipFile(tmp_path / "horse2zebra.zip", "w") as archive:
        for file in sorted((tmp_path / "made").rglob("*.jpg")):
            archive.write(file, file.relative_to(tmp_path / "made"))
    assert diptych("import", "horse2zebra", tmp_path / "horse2zebra.zip", "--out", tmp_path / "out") == 0
    layout = read_layout(tmp_path / "out")
    assert layout.a == tmp_path / "out/download/horse2zebra/horse2zebra/horse2zebra/trainA"
    (tmp_path / "out").rename(tmp_path / "moved")
    assert read_layout(tmp_path / "moved").b.is_dir()
    (tmp_path / "x.jpg").write_bytes(b"")
    capsys.readouterr()
    assert diptych("import", "maps", tmp_path / "x.jpg", "--out", tmp_path / "out") == 2
    assert "is a file" in said_one_line(capsys)
