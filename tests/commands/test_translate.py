"""`diptych translate`, end to end at a tiny size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import CLASSES, Folders, diptych, said_one_line, tree

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
