"""Outlines: which pictures show the same scene, whatever their colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.checking.outlines import CELL, SIDE, Outlines, fits_of, judge, outline, strangers, unpacked

WIDE = SIDE * CELL


def blocks(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of coloured rectangles, uint8 `(WIDE, WIDE, 3)`."""
    picture = np.full((WIDE, WIDE, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(15):
        left, top = rng.integers(0, WIDE - 5, 2)
        wide, high = rng.integers(5, 30, 2)
        picture[top : top + high, left : left + wide] = rng.integers(0, 256, 3)
    return picture


def drawn(pictures: list[NDArray[np.uint8]]) -> Outlines:
    return unpacked(np.stack([outline(picture) for picture in pictures]))


def pairs(count: int) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Pictures, and the same ones in other colours, noisy."""
    rng = np.random.default_rng(0)
    a = [blocks(rng) for _ in range(count)]
    b = [(255 - x[..., ::-1] // 2 + rng.integers(-40, 40, x.shape)).clip(0, 255).astype(np.uint8) for x in a]
    return a, b


@pytest.mark.parametrize(
    ("picture", "angle"),
    [
        ([[0, 255], [0, 255]], 0),  # an upright edge: the gradient points across, twice 0 degrees
        ([[255, 0], [255, 0]], 0),
        ([[0, 0], [255, 255]], 180),  # a level edge: twice 90 degrees
    ],
)
def test_the_direction_of_an_edge(picture: list[list[int]], angle: float) -> None:
    halves = np.kron(np.array(picture), np.ones((WIDE // 2, WIDE // 2))).astype(np.uint8)
    real, imaginary = outline(np.stack([halves] * 3, axis=2)).astype(int)
    across, down = slice(SIDE // 2 - 1, SIDE // 2 + 1), slice(None)
    edge = (down, across) if angle == 0 else (across, down)
    assert (real[edge] == (127 if angle == 0 else -127)).all()
    assert (np.count_nonzero(real), np.count_nonzero(imaginary)) == (2 * SIDE, 0)


def test_a_slanting_edge_turns_by_twice_its_angle() -> None:
    down, across = np.indices((WIDE, WIDE))
    for ramp, sign in ((down + across, 1), (down + WIDE - across, -1)):  # the gradient at 45 degrees, and at 135
        real, imaginary = outline(np.stack([ramp] * 3, axis=2).astype(np.uint8)).astype(int)
        assert np.abs(real).max() < 20
        assert (sign * imaginary[1:-1, 1:-1] > 60).all()


@given(st.integers(0, 2**32 - 1))
def test_a_mirrored_picture_has_the_mirrored_outline(seed: int) -> None:
    picture = blocks(np.random.default_rng(seed))
    real, imaginary = outline(picture).astype(int)
    mirrored_real, mirrored_imaginary = outline(picture[:, ::-1]).astype(int)
    assert np.abs(mirrored_real - real[:, ::-1]).max() <= 1
    assert np.abs(mirrored_imaginary + imaginary[:, ::-1]).max() <= 1


def test_a_negative_has_the_same_outline() -> None:
    picture = blocks(np.random.default_rng(1))
    assert np.abs(outline(picture).astype(int) - outline(255 - picture)).max() <= 1


def test_outlines_have_length_one_and_a_blank_has_none() -> None:
    a = drawn([blocks(np.random.default_rng(2)), np.full((WIDE, WIDE, 3), 7, np.uint8)])
    assert (np.abs(a) ** 2).sum((1, 2)) == pytest.approx([1, 0], abs=1e-5)
    assert a.sum((1, 2)) == pytest.approx(0, abs=1e-4)


def test_strangers_leave_the_own_partner_out() -> None:
    a = drawn([blocks(np.random.default_rng(seed)) for seed in range(4)])
    apart = strangers(a, a)
    assert apart.shape == (12,)
    assert apart.max() < 0.9  # each is 1 with itself


def test_where_the_best_shift_is() -> None:
    rng = np.random.default_rng(3)
    wide = np.tile(blocks(rng), (2, 2, 1))
    a = drawn([wide[8 : 8 + WIDE, 16 : 16 + WIDE]])
    b = drawn([wide[:WIDE, :WIDE]])  # what is in a lies 8 pixels lower and 16 further to the right
    at = fits_of(a, b).at[0]
    assert np.unravel_index(at.argmax(), at.shape) == (8 + 4, 8 + 8)


def test_a_mirrored_partner_fits_mirrored_whatever_the_angles_of_its_edges() -> None:
    cells = np.random.default_rng(4).integers(0, 256, (8, 8, 3))
    smooth = np.kron(cells, np.ones((8, 8, 1))).astype(np.float32)
    for shift in range(1, 6):  # edges of all angles
        smooth = (smooth + np.roll(smooth, (shift, shift), (0, 1)) + np.roll(smooth, (shift, -shift), (0, 1))) / 3
    picture = smooth.astype(np.uint8)
    fits = fits_of(drawn([picture]), drawn([picture[:, ::-1]]))
    assert fits.mirrored[0] > 0.95
    assert fits.mirrored[0] > fits.at.max() + 0.3


def test_a_pair_of_which_a_quarter_fits_is_left_alone() -> None:
    a, b = pairs(60)
    b[7][:, WIDE // 4 :] = b[8][:, WIDE // 4 :]
    found = judge([(drawn(a), drawn(b))])
    assert found.kinds == [""] * 60
    assert 2 < found.lying[7] < 5.5 < np.median(found.lying)


def test_pairs_that_fit_are_left_alone() -> None:
    a, b = pairs(60)
    found = judge([(drawn(a), drawn(b))])
    assert (found.kinds, found.telling, found.whole) == ([""] * 60, True, "")
    assert np.median(found.lying) > 5


def test_planted_faults_are_found_and_nothing_else() -> None:
    a, b = pairs(60)
    b[5] = b[5][:, ::-1].copy()
    b[10] = np.roll(b[10], 8, 1)  # an eighth of the width
    b[20], b[30] = b[30], b[20]
    found = judge([(drawn(a[:31]), drawn(b[:31])), (drawn(a[31:]), drawn(b[31:]))])
    assert {pair: kind for pair, kind in enumerate(found.kinds) if kind} == {
        5: "mirrored",
        10: "shifted",
        20: "strange",
        30: "strange",
    }
    assert found.shift[10].tolist() == [0, 4]
    assert (found.telling, found.whole) == (True, "")


def test_a_fault_of_all_pairs_is_one_of_the_whole() -> None:
    a, b = pairs(40)
    mirrored = judge([(drawn(a), drawn([picture[:, ::-1].copy() for picture in b]))])
    assert (mirrored.telling, mirrored.whole) == (True, "mirrored")
    shifted = judge([(drawn(a), drawn([np.roll(picture, -6, 0) for picture in b]))])
    assert (shifted.telling, shifted.whole, shifted.whole_shift) == (True, "shifted", (-3, 0))


def test_of_a_set_that_fits_nowhere_no_pair_is_named() -> None:
    a, b = pairs(60)
    found = judge([(drawn(a), drawn(b[30:] + b[:30]))])
    assert (found.telling, found.kinds) == (False, [""] * 60)


def test_a_single_pair_has_no_strangers() -> None:
    a, b = pairs(1)
    with pytest.raises(ValueError, match="single pair"):
        judge([(drawn(a), drawn(b))])
