"""Near-duplicates, grey pictures and swapped sides, by descriptors."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diptych.checking import neighbours
from diptych.checking.neighbours import grey, nearest, sides_of
from diptych.checking.survey import Place, Rows, Survey, survey


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def surveyed(tmp_path: Path, features: NDArray[np.float32]) -> Survey:
    """A survey whose pictures have these descriptors `(N, D)`."""
    found = Survey(Place("train", "a", tmp_path), Rows(features.shape[1]), Rows(1, np.int8))
    found.traits.add(list(features))
    return found


def saved(folder: Path, pictures: dict[str, NDArray[np.uint8]], side: str = "a") -> Survey:
    folder.mkdir(parents=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    return survey(Place("train", side, folder), lambda done, total: None, lambda text: None)


def test_the_nearest_one_in_parts_is_the_nearest_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "AT_ONCE", 3)
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(11, 5)).astype(np.float32)
    mine[2] = theirs[10]
    found = nearest(surveyed(tmp_path, mine), surveyed(tmp_path, theirs))
    distances = np.linalg.norm(mine[:, None] - theirs, axis=2)  # (7, 11)
    assert found.rows.tolist() == distances.argmin(1).tolist()
    assert found.distances == pytest.approx(distances.min(1), abs=2e-3)
    assert found.rows[2] == 10


def test_within_a_folder_no_picture_is_its_own_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "AT_ONCE", 3)
    mine = surveyed(tmp_path, np.array([[0], [10], [21], [1], [12], [40], [20.5]], np.float32))
    found = nearest(mine, mine)
    assert found.rows.tolist() == [3, 4, 6, 0, 1, 2, 2]
    assert found.distances == pytest.approx([1, 2, 0.5, 1, 2, 19, 0.5], abs=2e-3)
    assert np.isinf(nearest(alone := surveyed(tmp_path, np.ones((1, 5), np.float32)), alone).distances).all()


def test_grey_is_what_holds_no_colour_however_it_is_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    light = rng.integers(0, 256, (80, 80), dtype=np.uint8)
    tinted = np.stack([light] * 3, axis=2)
    tinted[:40, :40, 2] = 0  # a quarter of it lacks blue
    board = np.full((64, 64, 3), 125, np.uint8)  # reddish and greenish by turns, grey on average
    odd = np.indices((64, 64)).sum(0) % 2 == 1
    board[odd, :2], board[~odd, :2] = (150, 100), (100, 150)
    found = saved(
        tmp_path / "images",
        {"a_mode_l.png": light, "b_rgb.png": np.stack([light] * 3, axis=2), "c_rgb.jpg": np.stack([light] * 3, axis=2)}
        | {"d_board.png": board, "e_tinted.png": tinted}
        | {"f_sepia.png": np.stack([light // 2 + 60, light // 2 + 40, light // 2 + 20], axis=2)}
        | {"g_colour.png": rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)},
    )
    assert grey(found).tolist() == [True, True, True, False, False, False, False]


def test_a_picture_on_the_wrong_side_looks_like_the_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)

    def dark() -> NDArray[np.uint8]:
        return rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)

    def light() -> NDArray[np.uint8]:
        return rng.integers(190, 255, (64, 64, 3), dtype=np.uint8)

    a = {f"{i:03d}.png": dark() for i in range(100)} | {"100.png": light()}
    b = {f"{i:03d}.png": light() for i in range(100)} | {"100.png": dark()}
    left, right = saved(tmp_path / "a", a), saved(tmp_path / "b", b, "b")
    sides = sides_of(left, right)
    assert sides is not None
    assert np.flatnonzero(sides.like_b(left)).tolist() == [100]
    assert np.flatnonzero(~sides.like_b(right)).tolist() == [100]


def test_sides_that_look_alike_say_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = (surveyed(tmp_path, rng.normal(size=(50, 5)).astype(np.float32)) for _ in "ab")
    assert sides_of(a, b) is None
