"""How images of any shape go with a box: laws over all shapes, and a few worked by hand."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diptych.errors import DiptychError
from diptych.fitting import MOST_PIXELS, Fit, Fitted, fitted, in_words, too_small

SIDES = st.integers(1, 5000)
SIZES = st.tuples(SIDES, SIDES)


def covering(image: tuple[int, int], box: tuple[int, int]) -> float:
    """Pixels of `image` scaled to cover `box`, a little more than rounding makes them."""
    factor = max(box[0] / image[0], box[1] / image[1])
    return (image[0] * factor + 1) * (image[1] * factor + 1)


def test_a_crop_out_of_an_endless_strip_is_refused() -> None:
    with pytest.raises(DiptychError, match="1x300 pixels would become 1000x300000, to be cropped to 1000x2"):
        fitted((1, 300), (1000, 2), "crop")


@pytest.mark.parametrize(
    ("image", "fit", "expected"),
    [
        ((640, 480), "stretch", Fitted((256, 256), (256, 256))),
        ((640, 480), "crop", Fitted((341, 256), (341, 256))),  # 640 * 256 / 480 = 341.3
        ((640, 480), "letterbox", Fitted((256, 192), (256, 256), (0, 32))),
        ((480, 640), "letterbox", Fitted((192, 256), (256, 256), (32, 0))),
        ((512, 512), "crop", Fitted((256, 256), (256, 256))),
        ((3000, 1), "letterbox", Fitted((256, 1), (256, 256), (0, 127))),  # 1 * 256 / 3000 is less than a pixel
    ],
)
def test_by_hand(image: tuple[int, int], fit: Fit, expected: Fitted) -> None:
    assert fitted(image, (256, 256), fit) == expected


@given(image=SIZES, box=SIZES)
def test_a_letterbox_holds_the_whole_image_and_touches_it(image: tuple[int, int], box: tuple[int, int]) -> None:
    found = fitted(image, box, "letterbox")
    (above, below), (left, right) = found.bars
    assert min(above, below, left, right) >= 0
    assert (left + found.scaled[0] + right, above + found.scaled[1] + below) == found.canvas == box
    assert found.scaled[0] == box[0] or found.scaled[1] == box[1]
    assert abs(above - below) <= 1  # in the middle
    assert abs(left - right) <= 1


@given(image=SIZES, box=SIZES)
def test_a_crop_covers_the_box_and_touches_it(image: tuple[int, int], box: tuple[int, int]) -> None:
    assume(covering(image, box) < MOST_PIXELS)
    found = fitted(image, box, "crop")
    assert found.canvas == found.scaled
    assert found.scaled[0] >= box[0]
    assert found.scaled[1] >= box[1]
    assert found.scaled[0] == box[0] or found.scaled[1] == box[1]
    assert found.bars == ((0, 0), (0, 0))


@given(image=SIZES, box=SIZES, fit=st.sampled_from(["crop", "letterbox"]))
def test_shapes_are_kept_to_a_pixel(image: tuple[int, int], box: tuple[int, int], fit: Fit) -> None:
    assume(covering(image, box) < MOST_PIXELS)
    width, height = fitted(image, box, fit).scaled
    factor = (max if fit == "crop" else min)(box[0] / image[0], box[1] / image[1])
    assert abs(width - image[0] * factor) <= 1
    assert abs(height - image[1] * factor) <= 1


@given(box=SIZES, factor=st.integers(1, 7))
def test_an_image_of_the_boxs_shape_fills_it_whatever_the_fit(box: tuple[int, int], factor: int) -> None:
    image = box[0] * factor, box[1] * factor
    for fit in ("stretch", "crop", "letterbox"):
        assert fitted(image, box, fit) == Fitted(box, box)  # type: ignore[arg-type]


def test_what_is_too_small() -> None:
    assert not too_small((32, 24), (32, 24), "stretch")
    for fit in ("stretch", "crop"):
        assert too_small((31, 100), (32, 24), fit)  # type: ignore[arg-type]
        assert too_small((100, 23), (32, 24), fit)  # type: ignore[arg-type]
    # Within the box one side is as long as the box's: that side alone must have the pixels.
    assert not too_small((100, 3), (32, 24), "letterbox")
    assert too_small((31, 23), (32, 24), "letterbox")


def test_in_words() -> None:
    assert in_words((32, 24), "stretch") == "to 32x24"
    assert in_words((32, 24), "crop") == "to cover 32x24"
    assert in_words((32, 24), "letterbox") == "to lie within 32x24"
