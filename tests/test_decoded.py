"""Decoded images within a budget, in memory or on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Folders, diptych, tiny
from diptych.decoded import Decoded, InMemory, OnDisk, Shelf
from diptych.errors import DiptychError

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 4, 3),  # RGB
    np.arange(60000, 60024, dtype=np.uint16).reshape(3, 4, 2),  # 16 bits, grey and alpha
    np.arange(42, dtype=np.uint8).reshape(2, 3, 7),  # seven bands
    np.arange(6, dtype=np.uint8).reshape(2, 3),  # class rows
    np.arange(12, dtype=np.uint8).reshape(2, 6)[:, ::2],  # not of one piece
]


@pytest.fixture(params=["memory", "disk"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return InMemory() if request.param == "memory" else OnDisk(tmp_path / "shelf")


def never() -> np.ndarray:
    raise AssertionError("decoded again")


def give(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def test_what_is_kept_comes_back_as_it_was(shelf: Shelf) -> None:
    decoded = Decoded(10**6, shelf)
    for key, array in enumerate(ARRAYS):
        assert decoded.get(key, give(array)) is array
    for key, array in reversed(list(enumerate(ARRAYS))):
        again = decoded.get(key, never)
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)


def test_what_does_not_fit_is_decoded_each_time_and_what_does_is_kept(shelf: Shelf) -> None:
    decoded = Decoded(10, shelf)
    large, small, last = (np.zeros(size, np.uint8) for size in (7, 4, 3))
    decoded.get("large", give(large))
    decoded.get("small", give(small))  # 7 + 4 > 10
    decoded.get("last", give(last))  # 7 + 3 fill it
    np.testing.assert_array_equal(decoded.get("large", never), large)
    np.testing.assert_array_equal(decoded.get("last", never), last)
    with pytest.raises(AssertionError, match="decoded again"):
        decoded.get("small", never)


def test_nothing_of_the_file_can_be_seen(tmp_path: Path) -> None:
    decoded = Decoded(10**6, OnDisk(tmp_path / "new" / "folder"))
    decoded.get(0, give(ARRAYS[0]))
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_what_is_on_disk_is_not_in_memory_too(tmp_path: Path) -> None:
    decoded = Decoded(10**6, OnDisk(tmp_path))
    array = np.zeros(1000, np.uint8)
    decoded.get(0, give(array))
    assert isinstance(decoded.get(0, never), np.memmap)
    cells = decoded.kept[0].__closure__ or ()
    assert all(cell.cell_contents is not array for cell in cells)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    shelf = OnDisk(tmp_path)
    full = pytest.raises(DiptychError, match=r"no room .*--cache-gib")
    with Path("/dev/full").open("wb", buffering=0) as shelf.file, full:
        Decoded(10**6, shelf).get(0, give(ARRAYS[0]))


def test_a_disk_that_will_not_do_is_told_before(tmp_path: Path) -> None:
    shelf = OnDisk(tmp_path)
    shelf.reserve(1)
    with pytest.raises(DiptychError, match=r"no room .*--cache-gib"):
        shelf.reserve(2 * shutil.disk_usage(tmp_path).total)


def test_a_training_is_the_same_whatever_is_kept_where(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes]
    weights, said = [], []
    for place, cache in (
        ("memory", []),
        ("disk", ["--cache", "disk"]),
        ("part", ["--cache", "disk", "--cache-gib", 10 * 36 * 27 * 3 / 2**30]),
    ):
        run = tmp_path / place
        assert diptych("train", "supervised", *sides, *tiny("supervised"), *cache, "--out", run) == 0
        weights.append(next(run.rglob("model.safetensors")).read_bytes())
        said.append(capsys.readouterr().err)
    assert weights[1:] == weights[:1] * 2
    assert "decoded images fit" not in said[0] + said[1]
    # 12 photos and 12 class maps at 32x24 times 286/256, which is 36x27: ten photos fill the budget.
    assert "part: 10 of 24 decoded images fit" in said[2]
