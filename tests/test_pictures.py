import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diptych import pictures
from diptych.images import Classes, Pixels
from diptych.pictures import confusion_matrix, contact_sheet, grid, principal_plane, reduced, selection_map

RED, GREEN, BLUE = (200, 30, 20), (20, 180, 40), (10, 60, 220)
ORANGE = (209, 96, 42)  # the colour of the chosen


def plain(colour: tuple[int, int, int], width: int = 96, height: int = 64) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def count(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(-1).sum())


def test_contact_sheet_is_as_large_as_its_tiles_gaps_and_captions() -> None:
    sheet = contact_sheet([plain(RED), plain(GREEN), plain(BLUE)], ["one", "two", "three"], columns=2, tile=48)
    # Thumbnails of 48x32; a gap of 12 around each, 22 for a caption: 12 + 2 (48 + 12) by 12 + 2 (32 + 22 + 12).
    assert sheet.size == (132, 144)
    assert sheet.getpixel((12, 12)) == RED
    assert sheet.getpixel((12 + 60 + 47, 12 + 31)) == GREEN
    assert sheet.getpixel((12, 12 + 66)) == BLUE
    assert [count(sheet, colour) for colour in (RED, GREEN, BLUE)] == [48 * 32] * 3


def test_contact_sheet_sets_pictures_of_one_row_on_one_line() -> None:
    sheet = contact_sheet([plain(RED, 40, 20), plain(GREEN, 40, 80)], ["", ""], columns=2, tile=40)
    assert sheet.size == (12 + 2 * 52, 12 + 80 + 22 + 12)
    assert sheet.getpixel((12, 12 + 79)) == RED
    assert sheet.getpixel((12, 12 + 59)) not in (RED, GREEN)


@pytest.mark.parametrize(("pictures", "columns"), [(1, 1), (2, 2), (6, 3), (12, 4), (24, 6)])
def test_contact_sheet_is_landscape_of_its_own_accord(pictures: int, columns: int) -> None:
    # Tiles of 192x150 with their captions: the columns are sqrt(1.5 * pictures * 150 / 192), rounded up.
    sheet = contact_sheet([plain(RED, 96, 64)] * pictures, ["x"] * pictures)
    assert sheet.width == 12 + columns * 204


def test_contact_sheet_keeps_long_captions_in_their_column() -> None:
    long, short = "a/very/long/folder/" * 20 + "0001.png", "0001"
    sheet = np.asarray(contact_sheet([plain(RED), plain(GREEN)], [long, short], columns=2, tile=96))
    gap = sheet[:, 12 + 96 : 12 + 96 + 12]
    assert (gap == gap[0, 0]).all()
    captions = sheet[12 + 64 + 1 :, 12 : 12 + 96]
    assert (captions != gap[0, 0]).any()


def test_contact_sheet_draws_accented_letters_and_survives_line_breaks() -> None:
    accented, circumflex, broken = (
        np.asarray(contact_sheet([plain(RED)], [caption])) for caption in ("é", "ê", "\n e \n")
    )
    assert (accented != circumflex).any()
    assert broken.shape == accented.shape


def test_sheets_refuse_missing_pictures_and_captions() -> None:
    with pytest.raises(ValueError, match="zip"):
        contact_sheet([plain(RED)], ["one", "two"])
    with pytest.raises(ValueError, match="zero"):
        contact_sheet([], [])
    with pytest.raises(ValueError, match="zip"):
        grid([[plain(RED)]], ["input", "truth"])
    with pytest.raises(ValueError, match="one size, here 96x64"):
        grid([[plain(RED), plain(RED, 64, 96)]], ["input", "truth"])


def test_grid_enlarges_small_pictures_by_a_whole_number() -> None:
    picture = plain(RED)
    picture[63, 95] = BLUE
    sheet = grid([[picture, plain(GREEN)]] * 3, ["input", "translation"])
    # 96 pixels become 288, the first multiple that reaches 200; 22 for the titles.
    assert sheet.size == (12 + 2 * 300, 12 + 22 + 3 * (192 + 12))
    assert sheet.getpixel((12, 34)) == RED
    assert sheet.getpixel((312, 34 + 2 * 204)) == GREEN
    assert count(sheet, BLUE) == 3 * 9
    assert count(sheet, GREEN) == 3 * 288 * 192


def test_grid_leaves_large_pictures_alone_and_takes_a_scale() -> None:
    assert grid([[plain(RED, 256, 200)]], ["input"]).size == (12 + 268, 34 + 212)
    assert grid([[plain(RED, 10, 20)]], ["input"], scale=4).size == (12 + 52, 34 + 92)


def test_principal_plane_of_points_on_a_cross() -> None:
    # Along the first axis +-4, along the third +-3: 32 and 18 of the 50.
    features = np.array([[5, 1, 2], [-3, 1, 2], [1, 1, 5], [1, 1, -1]], np.float32)
    points, share = principal_plane(features)
    np.testing.assert_allclose(np.abs(points), [[4, 0], [4, 0], [0, 3], [0, 3]], atol=1e-6)
    np.testing.assert_allclose(share, [0.64, 0.36], atol=1e-6)
    assert points[0, 0] == pytest.approx(-points[1, 0])


def test_principal_plane_keeps_the_distances_of_features_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    for rows, dimensions in ((50, 6), (5, 60)):
        plane = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, dimensions))
        points, share = principal_plane((plane + 7).astype(np.float32))
        wanted = np.linalg.norm(plane[:, None] - plane, axis=-1)
        np.testing.assert_allclose(np.linalg.norm(points[:, None] - points, axis=-1), wanted, atol=1e-4)
        assert share.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "features",
    [
        np.ones((1, 5), np.float32),
        np.array([[1, 2, 3]], np.float32),
        np.array([[0.0, 0.0], [1.0, 5.0]], np.float32),
        np.full((6, 4), 3, np.float32),
        np.array([[1.0], [2.0], [4.0]], np.float32),
    ],
    ids=["one", "one of few dimensions", "two", "all the same", "one dimension"],
)
def test_selection_map_shows_even_the_smallest_sets(features: NDArray[np.float32]) -> None:
    picture = selection_map(features, [0], ["first.png"], [plain(GREEN)])
    assert picture.mode == "RGB"
    assert picture.size == (1200, 820 + 22 + 12)
    assert count(picture, ORANGE) > 100
    assert count(picture, GREEN) > 1000


def test_selection_map_gives_duplicates_a_thumbnail_each() -> None:
    features = np.zeros((10, 3), np.float32)
    features[0] = 1
    colours = [RED, GREEN, BLUE]
    picture = np.asarray(selection_map(features, [1, 2, 3], ["a", "b", "c"], [plain(colour) for colour in colours]))
    spans = []
    for colour in colours:
        rows, columns = np.nonzero((picture == colour).all(-1))
        assert 0.8 * 84 * 56 < len(rows) <= 84 * 56
        spans.append((rows.min(), rows.max(), columns.min(), columns.max()))
    for index, (top, bottom, left, right) in enumerate(spans):
        for other in spans[:index]:
            assert bottom < other[0] or top > other[1] or right < other[2] or left > other[3]


def test_selection_map_hides_no_thumbnail_behind_a_chosen_dot() -> None:
    # The outer two make one unit a pixel; a thumbnail near the middle dot would then lie under one of the eight around.
    around = [(63 * np.cos(angle), 63 * np.sin(angle)) for angle in np.arange(8) * np.pi / 4]
    features = np.array([(0, 0), *around, (-507, 0), (507, 0)], np.float32)
    thumbnails = [plain(GREEN)] + [plain(BLUE)] * 8
    picture = selection_map(features, list(range(9)), ["x"] * 9, thumbnails)
    # The number in its corner takes some 110 of its pixels; a dot would take 200 more.
    assert count(picture, GREEN) > 84 * 56 - 200


def test_selection_map_of_more_than_find_room_is_still_drawn() -> None:
    features = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    names = [f"{index:04}.png" for index in range(300)]
    picture = selection_map(features, list(range(300)), names, [plain(GREEN)] * 300)
    assert picture.size == (1200, 820 + 15 * 22 + 12)  # sixty lines in four columns


def test_selection_map_says_of_how_many_it_shows_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    original = pictures._part_label
    monkeypatch.setattr(pictures, "_part_label", lambda *of: labels.append(original(*of)) or labels[-1])
    features = np.eye(4, dtype=np.float32)
    whole = selection_map(features, [2], ["third"], [plain(GREEN)])
    part = selection_map(features, [2], ["third"], [plain(GREEN)], (1_000_000, 2_000))
    assert labels == ["all images (4)", "chosen (1)", "all images (4 drawn of 1,000,000)", "chosen (1 drawn of 2,000)"]
    assert whole.size == part.size


def test_a_picture_is_reduced_to_the_width_of_a_sheet() -> None:
    assert reduced(plain(GREEN, 400, 300)).shape == (144, 192, 3)
    small = plain(GREEN, 192, 500)
    assert reduced(small) is small


def test_selection_map_of_nothing_chosen_shows_only_dots() -> None:
    picture = selection_map(np.eye(4, dtype=np.float32), [], [], [])
    assert picture.size == (1200, 832)


def test_selection_map_leaves_the_thumbnails_it_was_given_alone() -> None:
    thumbnail = plain(GREEN, 84, 56)
    selection_map(np.eye(4, dtype=np.float32), [2], ["third"], [thumbnail])
    assert (thumbnail == GREEN).all()


def test_confusion_matrix_shows_shares_of_the_truth() -> None:
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    classes = Classes((0, 1, 2, 3), ("void", "sky", "a road with $ and _ in its name", "car"), colours, 0)
    # Sky is right, of road half is taken for void, there is no car.
    counts = np.array([[0, 0, 0, 0], [0, 6000, 0, 0], [5, 0, 2, 3], [0, 0, 0, 0]])
    picture = confusion_matrix(counts, classes)
    cells = np.asarray(picture.crop(_frame(picture)))
    assert cells.shape == (90, 90, 3)  # void has no cells
    shown = cells[3::30, 3::30].astype(int)  # the corner of each cell, beside its number
    white = (shown == 255).all(-1)
    assert white.tolist() == [[False, True, True], [True, False, False], [True, True, True]]
    darkness = 765 - shown.sum(-1)
    assert darkness[0, 0] > darkness[1, 2] > darkness[1, 1] > 0  # 1, .3 and .2
    counts[2] = 0, 7, 0, 3
    again = confusion_matrix(counts, classes)
    same = np.asarray(again.crop(_frame(again)))[3::30, 3::30].astype(int)
    assert (same[1, 2] == shown[1, 2]).all()  # .3 of what is true, void or not


def _frame(picture: Image.Image) -> tuple[int, int, int, int]:
    """The box of nine cells of 30 pixels; only cells are white."""
    white = (np.asarray(picture) == 255).all(-1)
    rows, columns = np.nonzero(white.sum(1) > 20)[0], np.nonzero(white.sum(0) > 20)[0]
    left, top = columns.min(), rows.min()
    return int(left), int(top), int(left) + 90, int(top) + 90


def test_confusion_matrix_of_many_classes_stays_of_a_size_that_can_be_opened() -> None:
    names = tuple(f"class {index}" for index in range(150))
    colours = np.random.default_rng(0).integers(0, 256, (150, 3)).astype(np.uint8)
    picture = confusion_matrix(np.eye(150, dtype=np.int64), Classes(tuple(range(150)), names, colours, None))
    assert 150 * 13 < picture.width < 2500
    assert 150 * 13 < picture.height < 2500


def test_pictures_import_neither_torch_nor_matplotlib() -> None:
    check = "import sys, diptych.pictures; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", check], env=paths, check=False).returncode == 0
