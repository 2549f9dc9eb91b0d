from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.errors import DiptychError
from diptych.images import read_class_map, read_classes, read_pixels
from diptych.scenes import CLASSES, KINDS, Scene, draw_scene, write_scenes


@pytest.fixture(scope="module")
def sixty() -> list[Scene]:
    return [draw_scene(0, index) for index in range(60)]


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.sampled_from([(96, 64), (33, 41), (50, 37)]))
@settings(max_examples=15, deadline=None)
def test_same_arguments_give_the_same_pixels(seed: int, index: int, size: tuple[int, int]) -> None:
    one, two = draw_scene(seed, index, size), draw_scene(seed, index, size)
    assert one.photo.tobytes() == two.photo.tobytes()
    assert one.classes.tobytes() == two.classes.tobytes()
    assert one.kind == two.kind


def test_every_index_and_every_seed_is_another_scene(sixty: list[Scene]) -> None:
    others = [draw_scene(1, index) for index in range(5)]
    assert len({scene.photo.tobytes() for scene in sixty + others}) == 65
    assert len({scene.classes.tobytes() for scene in sixty + others}) == 65


@given(st.integers(0, 99), st.integers(32, 160), st.integers(32, 160))
@settings(max_examples=40, deadline=None)
@example(3, 96, 64)
@example(3, 33, 200)
@example(3, 200, 33)
def test_shapes_and_types_at_every_size(index: int, width: int, height: int) -> None:
    scene = draw_scene(3, index, (width, height))
    assert scene.photo.shape == (height, width, 3)
    assert scene.classes.shape == (height, width)
    assert scene.photo.dtype == scene.classes.dtype == np.uint8
    assert scene.photo.flags.c_contiguous
    assert scene.classes.max() < len(CLASSES) == 7
    assert scene.kind in KINDS


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_too_small_a_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DiptychError, match="32x32 or more"):
        draw_scene(0, 0, size)


def test_a_scene_shows_the_same_things_at_every_size() -> None:
    for index in range(8):
        small, large = draw_scene(4, index, (96, 64)), draw_scene(4, index, (192, 128))
        assert small.kind == large.kind
        assert (small.classes == large.classes[::2, ::2]).mean() > 0.9


def test_photo_and_class_map_share_their_edges(sixty: list[Scene]) -> None:
    # Between neighbours of different classes the photo steps more than between any others, so the steps summed over the
    # class edges are largest where the map lies on the photo exactly, and fall as it is moved off by single pixels.
    def steps_on_edges(down: int, right: int) -> float:
        total = 0.0
        for scene in sixty:
            classes = np.roll(scene.classes, (down, right), (0, 1))[4:-4, 4:-4]
            photo = scene.photo[4:-4, 4:-4].astype(float)
            for axis in (0, 1):
                edges = np.diff(classes.astype(int), axis=axis) != 0
                total += np.abs(np.diff(photo, axis=axis)).sum(2)[edges].sum()
        return total

    aligned = steps_on_edges(0, 0)
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        assert steps_on_edges(down, right) < 0.9 * aligned
        assert steps_on_edges(3 * down, 3 * right) < 0.8 * aligned


def test_every_class_occurs(sixty: list[Scene]) -> None:
    counts = np.bincount(np.concatenate([scene.classes.ravel() for scene in sixty]), minlength=7)
    assert (counts / counts.sum() > 0.003).all(), dict(zip(CLASSES.names, counts, strict=True))


def test_sky_lies_above_the_road_and_both_are_large(sixty: list[Scene]) -> None:
    rows = np.arange(64)[:, None]
    for scene in sixty:
        sky, road = scene.classes == 0, scene.classes == 1
        assert sky.mean() > 0.01
        assert road.mean() > 0.05
        assert (rows * sky).max() < (rows * road).max()


def test_kinds_come_as_often_as_stated() -> None:
    drawn = Counter(draw_scene(2, index, (32, 32)).kind for index in range(300))
    stated = {
        "day-town": 0.34,
        "day-country": 0.22,
        "dusk-town": 0.16,
        "night-town": 0.12,
        "dusk-country": 0.10,
        "night-country": 0.06,
    }
    assert set(KINDS) == set(stated)
    for kind, share in stated.items():
        assert drawn[kind] / 300 == pytest.approx(share, abs=4 * (share * (1 - share) / 300) ** 0.5)


def test_night_is_darker_than_dusk_and_dusk_than_day(sixty: list[Scene]) -> None:
    day, dusk, night = (
        np.mean([scene.photo.mean() for scene in sixty if scene.kind.startswith(time)])
        for time in ("day", "dusk", "night")
    )
    assert night + 20 < dusk < day - 20


def test_town_has_houses_and_country_has_open_ground(sixty: list[Scene]) -> None:
    def share(place: str, row: int) -> float:
        return float(np.mean([(scene.classes == row).mean() for scene in sixty if scene.kind.endswith(place)]))

    assert share("town", 3) > 3 * share("country", 3)
    assert share("country", 2) > share("town", 2)


def test_a_class_has_no_one_colour(sixty: list[Scene]) -> None:
    # Even among scenes of one time of day, the mean colour of a class differs from scene to scene.
    days = [scene for scene in sixty if scene.kind == "day-town"]
    for row, name in enumerate(CLASSES.names):
        means = [scene.photo[scene.classes == row].mean(0) for scene in days if (scene.classes == row).sum() > 20]
        assert np.std(means, axis=0).max() > 8, name
    # And within a scene a class is textured, not flat.
    for scene in sixty:
        assert scene.photo[scene.classes == 1].std(0).min() > 2


def test_write_scenes_round_trip(tmp_path: Path) -> None:
    write_scenes(tmp_path / "set", 3, seed=5, size=(48, 40))
    classes = read_classes(tmp_path / "set" / "classes.csv")
    assert (classes.ids, classes.names, classes.void) == (CLASSES.ids, CLASSES.names, None)
    np.testing.assert_array_equal(classes.colours, CLASSES.colours)
    kinds = ["file,kind"]
    for index in range(3):
        name, scene = f"000{index}.png", draw_scene(5, index, (48, 40))
        np.testing.assert_array_equal(read_class_map(tmp_path / "set" / "labels" / name, classes), scene.classes)
        np.testing.assert_array_equal(read_pixels(tmp_path / "set" / "photos" / name), scene.photo)
        kinds.append(f"{name},{scene.kind}")
    assert (tmp_path / "set" / "kinds.csv").read_text().splitlines() == kinds
    with Image.open(tmp_path / "set" / "labels" / "0000.png") as label:
        assert label.mode == "P"
        painted = np.asarray(label.convert("RGB"))
    np.testing.assert_array_equal(painted, CLASSES.colours[draw_scene(5, 0, (48, 40)).classes])
