"""`diptych translate --at native --tile`, end to end at a tiny size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import diptych, said_one_line, tree

NATIVE = ("--at", "native")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Colours that run over 150x70 pixels, an odd number of tiles."""
    rows, columns = np.mgrid[0:70, 0:150]
    pixels = np.stack([rows * 3, columns, 255 - columns], 2).astype(np.uint8)
    file = tmp_path / "wide.png"
    Image.fromarray(pixels).save(file)
    return file


def pixels(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.int64)


def test_tiles_give_the_same_image_and_leave_nothing_else(
    trained: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diptych("translate", trained, wide, "--out", tmp_path / "whole", "--raw", *NATIVE) == 0
    assert "tiles" not in capsys.readouterr().err
    assert diptych("translate", trained, wide, "--out", tmp_path / "tiled", "--raw", *NATIVE, "--tile", 32) == 0
    said = capsys.readouterr().err
    assert f"wide.png: in tiles of 32, with 0.0 GB of scratch files in {tmp_path / 'tiled'}" in said
    assert list(tree(tmp_path / "tiled")) == ["wide.png"]
    difference = np.abs(pixels(tmp_path / "whole" / "wide.png") - pixels(tmp_path / "tiled" / "wide.png"))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert pixels(tmp_path / "whole" / "wide.png").std() > 1


def test_a_class_map_in_tiles_is_a_palette_image(trained: Path, wide: Path, tmp_path: Path) -> None:
    for name, more in (("whole", ()), ("tiled", ("--tile", 40))):
        assert diptych("translate", trained, wide, "--out", tmp_path / name, *NATIVE, *more) == 0
    whole, tiled = (Image.open(tmp_path / name / "wide.png") for name in ("whole", "tiled"))
    assert (tiled.mode, tiled.size, tiled.getpalette()) == (whole.mode, whole.size, whole.getpalette())
    assert (np.asarray(tiled) != np.asarray(whole)).mean() < 0.005


def test_images_within_one_tile_are_seen_at_once(
    trained: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diptych("translate", trained, wide, "--out", tmp_path / "out", *NATIVE, "--tile", 150) == 0
    assert "in tiles" not in capsys.readouterr().err


def test_where_memory_would_not_do_it_takes_tiles_by_itself(
    trained: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.tiling.memory.free_memory", lambda _: 10_000.0)
    assert diptych("translate", trained, wide, "--out", tmp_path / "out", "--raw", *NATIVE) == 0
    said = capsys.readouterr().err
    assert "wide.png: 150x70 at once would take about 0.0 GB of memory and 0.0 GB are free, so in tiles of 512" in said
    assert diptych("translate", trained, wide, "--out", tmp_path / "small", "--raw") == 0
    assert "tiles" not in capsys.readouterr().err  # at the training size there is no need


def test_tile_without_native_is_refused(
    trained: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diptych("translate", trained, wide, "--out", tmp_path / "out", "--tile", 64) == 2
    assert "--tile is for images seen at their own size; give --at native" in said_one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_disk_without_room_is_refused_before_the_work(
    trained: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    assert diptych("translate", trained, wide, "--out", tmp_path / "out", *NATIVE, "--tile", 64) == 2
    assert "150x70 in tiles takes 0.0 GB of scratch files" in said_one_line(capsys)
    assert tree(tmp_path / "out") == {}


def test_larger_images_than_the_limit_need_a_word(
    trained: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """150x70 pixels are 0.0105 megapixels."""
    limit = Image.MAX_IMAGE_PIXELS
    words = ["translate", trained, wide, *NATIVE, "--max-megapixels"]
    assert diptych(*words, 0.0104, "--out", tmp_path / "refused") == 2
    assert "150x70 pixels would decode to more than 0 megapixels" in said_one_line(capsys)
    assert diptych(*words, 0.0105, "--out", tmp_path / "out") == 0
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_default_limit_can_be_raised(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond twice its limit Pillow itself refuses; the limit is lowered here, as 179 megapixels take a while."""
    monkeypatch.setattr("diptych.images.MAX_PIXELS", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (60, 40)).save(tmp_path / "large.png")
    words = ["translate", trained, tmp_path / "large.png", "--out", tmp_path / "out"]
    assert diptych(*words) == 2
    assert "raise --max-megapixels of diptych translate" in said_one_line(capsys)
    assert diptych(*words, "--max-megapixels", 0.003) == 0
