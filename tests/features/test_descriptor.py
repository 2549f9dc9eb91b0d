from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from diptych.features.descriptor import DIMENSION, describe, describe_files
from diptych.images import to_float
from diptych.scenes import KINDS, draw_scene
from diptych.selection import SELECTORS

LAYOUT, COLOUR, EDGES = slice(0, 96), slice(96, 256), slice(256, 384)


def flat(red: float, green: float, blue: float) -> NDArray[np.float32]:
    return np.broadcast_to(np.array([red, green, blue], np.float32)[:, None, None], (3, 64, 64))


def test_one_white_picture_by_hand() -> None:
    numbers = describe(flat(1, 1, 1))
    assert numbers.shape == (DIMENSION,)
    cells = numbers[LAYOUT].reshape(4, 4, 6)
    # Lightness 1, no hue, no spread, times a quarter.
    np.testing.assert_allclose(cells, np.broadcast_to([0.25, 0, 0, 0, 0, 0], (4, 4, 6)), atol=1e-6)
    # No hue lies in the middle of each axis of four bins, so half in each of the two middle ones: half of the weight is
    # an eighth for each of four bins.
    whole = np.zeros((4, 4, 4))
    whole[3, 1:3, 1:3] = np.sqrt(1 / 8)
    np.testing.assert_allclose(numbers[COLOUR][:64].reshape(4, 4, 4), whole, atol=1e-6)
    histograms = numbers[COLOUR][64:].reshape(2, 2, 3, 8)
    np.testing.assert_allclose(histograms[0, 1, 0], [0] * 7 + [np.sqrt(1 / 24)], atol=1e-6)
    np.testing.assert_allclose(histograms[1, 0, 2], [0, 0, 0, np.sqrt(1 / 48), np.sqrt(1 / 48), 0, 0, 0], atol=1e-6)
    assert not numbers[EDGES].any()


def test_layout_knows_where_and_which_hue() -> None:
    picture = flat(-1, -1, -1).copy()
    picture[2, :, 48:] = 1  # the right quarter is blue
    cells = describe(picture)[LAYOUT].reshape(4, 4, 6) * 4
    np.testing.assert_allclose(cells[:, 0], np.broadcast_to([-1, 0, 0, 0, 0, 0], (4, 6)), atol=1e-6)
    # The last column's cells reach from pixel 40 to 64 with weights that grow over 40..56: to 48 they sum to 2 of 16.
    share = 14 / 16
    mean = -1 * share
    spread = np.sqrt(share - mean**2)
    np.testing.assert_allclose(cells[:, 3, [2, 5]], np.broadcast_to([mean, spread], (4, 2)), atol=1e-5)


@pytest.mark.parametrize(
    ("across", "down", "bin_"), [(1, 0, 0), (1, 1, 2), (0, 1, 4), (-1, 1, 6), (-1, 0, 0), (0, -1, 4)]
)
def test_edges_know_their_orientation_without_sign(across: int, down: int, bin_: int) -> None:
    y, x = np.mgrid[:64, :64] / 32 - 1
    ramp = np.broadcast_to((across * x + down * y).astype(np.float32) / 2, (3, 64, 64))
    cells = describe(ramp)[EDGES].reshape(4, 4, 8)
    assert (cells.argmax(2) == bin_).all()
    assert cells.sum() == pytest.approx(cells[..., bin_].sum(), rel=1e-3)


@given(seed=st.integers(0, 2**32 - 1), contrast=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_no_block_outweighs_the_others(seed: int, contrast: float) -> None:
    rng = np.random.default_rng(seed)
    picture = (contrast * rng.uniform(-1, 1, (3, 64, 64)) + (1 - contrast) * rng.uniform(-1, 1, (3, 1, 1))).astype("f4")
    numbers = describe(picture)
    assert numbers.dtype == np.float32
    assert np.isfinite(numbers).all()
    assert np.linalg.norm(numbers[COLOUR]) == pytest.approx(1, abs=1e-4)  # the root of shares
    assert np.linalg.norm(numbers[EDGES]) <= 1 + 1e-5
    assert np.linalg.norm(numbers[LAYOUT]) <= np.sqrt(3)


def test_kinds_of_scenes_and_crops(tmp_path: Path) -> None:
    scenes = [draw_scene(11, index, (96, 64)) for index in range(120)]
    whole, cropped = [], []
    for index, scene in enumerate(scenes):
        whole.append(tmp_path / f"{index}.png")
        cropped.append(tmp_path / f"{index} cropped.png")
        Image.fromarray(scene.photo).save(whole[-1])
        Image.fromarray(scene.photo[2:-1, 4:-1]).save(cropped[-1])
    features = describe_files(whole)
    kinds = np.array([scene.kind for scene in scenes])

    apart = np.linalg.norm(features[:, None] - features, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(1)] == kinds).mean() > 0.85

    moved = np.linalg.norm(describe_files(cropped) - features, axis=1)
    others = apart[np.isfinite(apart)]
    assert np.median(moved) < 0.5 * np.median(others)

    for seed in range(3):
        chosen = SELECTORS["kmedoids"](features, 8, np.random.default_rng(seed))
        assert len(set(kinds[chosen])) >= len(KINDS) - 1  # by chance it is four or five of the six


def test_descriptor_is_of_the_pixels_as_shown(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(describe_files([tmp_path / "a.png"])[0], describe(to_float(pixels)))
