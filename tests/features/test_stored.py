import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.errors import DiptychError
from diptych.features import stored
from diptych.features.stored import check_numbers, names_of_rows, open_features

NAMES = ["a.png", "b.png", "c/d.png"]
FOLDER = Path("photos")


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_rows_are_mapped_as_they_were_saved(dtype: type, tmp_path: Path) -> None:
    array = np.arange(12, dtype=dtype).reshape(4, 3)
    features = open_features(saved(tmp_path / "f.npy", array))
    assert isinstance(features, np.memmap)
    assert features.dtype == dtype
    assert features.tolist() == array.tolist()
    assert not features.flags.writeable


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 2)), "holds float64 of the shape (3, 2)"),
        (np.zeros((3, 2), ">f4"), "holds >f4 of the shape"),
        (np.zeros((3, 2), np.int32), "holds int32"),
        (np.zeros(3, np.float32), "of the shape (3,)"),
        (np.zeros((3, 2, 1), np.float32), "of the shape (3, 2, 1)"),
        (np.zeros((0, 2), np.float32), "of the shape (0, 2)"),
        (np.asfortranarray(np.zeros((3, 2), np.float32)), "column by column"),
        (np.array([[{}, 1]], object), "holds object"),
        (np.zeros(2, [("x", "f4")]), "holds [('x', '<f4')]"),
    ],
)
def test_other_arrays_are_refused(array: NDArray[Any], words: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "f.npy", array)
    with pytest.raises(DiptychError, match=re.escape(f"{path}: ") + ".*" + re.escape(words)):
        open_features(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x06\x00garbag", b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}"],
)
def test_what_is_no_such_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.npy"
    path.write_bytes(data)
    with pytest.raises(DiptychError, match=r"f\.npy: .*numpy\.save an array"):
        open_features(path)
    with pytest.raises(DiptychError, match="cannot be read as features"):
        open_features(tmp_path / "none.npy")


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.npy", np.zeros((3, 2), np.float32))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DiptychError, match="is cut short, 23 bytes"):
        open_features(path)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "harm").touch, ()

    path = tmp_path / "f.npy"
    np.save(path, np.array([[Harm()]], object), allow_pickle=True)
    with pytest.raises(DiptychError, match="holds object"):
        open_features(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("part", [1, 4, 7, 100])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 3, 9])
def test_numbers_that_are_none_are_found(
    row: int, wrong: float, dtype: type, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PART", part)
    features = np.ones((10, 3), dtype)
    told: list[tuple[int, int]] = []
    check_numbers(Path("f.npy"), features, lambda *now: told.append(now))
    assert told[-1] == (10, 10)
    features[row, 2] = wrong
    with pytest.raises(DiptychError, match=rf"f\.npy: row {row} \(counted from 0\) holds NaN, infinity"):
        check_numbers(Path("f.npy"), features)


def test_numbers_whose_squares_are_infinite_are_found() -> None:
    with pytest.raises(DiptychError, match=r"row 1 .* beyond 1e"):
        check_numbers(Path("f.npy"), np.array([[1e14], [-1e16]], np.float32))


def test_without_a_list_the_rows_are_all_images(tmp_path: Path) -> None:
    assert names_of_rows(tmp_path / "f.npy", 3, NAMES, FOLDER) == NAMES
    with pytest.raises(DiptychError, match=r"f\.npy: has 2 rows for the 3 images of photos; .*f\.txt, one a line"):
        names_of_rows(tmp_path / "f.npy", 2, NAMES, FOLDER)


@pytest.mark.parametrize(
    "text", ["c/d.png\na.png", "c/d.png\na.png\n", "c/d.png\r\na.png\r\n", "\ufeffc/d.png\na.png\n"]
)
def test_a_list_names_the_rows(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(text.encode())
    assert names_of_rows(tmp_path / "f.npy", 2, NAMES, FOLDER) == ["c/d.png", "a.png"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png\n", r"f\.txt: has 1 lines for the 2 rows"),
        ("a.png\nb.png\n\n", r"f\.txt: has 3 lines for the 2 rows"),
        ("a.png\nx.png\n", r"f\.txt: x\.png is not in photos"),
        ("a.png\na.png\n", r"f\.txt: a\.png is there twice"),
    ],
)
def test_lists_that_do_not_fit(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text(text)
    with pytest.raises(DiptychError, match=words):
        names_of_rows(tmp_path / "f.npy", 2, NAMES, FOLDER)


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DiptychError, match=r"f\.txt: cannot be read .* one a line"):
        names_of_rows(tmp_path / "f.npy", 1, NAMES, FOLDER)
