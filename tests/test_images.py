"""Image files to arrays and back, class maps and colours, and what is said of files that are no images."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from diptych.bands import Bands, Header
from diptych.errors import DiptychError
from diptych.images import (
    RGB,
    Classes,
    PixelFormat,
    Pixels,
    UnreadableImageError,
    class_map_of,
    convertible,
    header_of,
    list_images,
    open_image,
    pixels_of,
    read_class_map,
    read_classes,
    read_pixels,
    read_view,
    resize_pixels,
    rgb,
    to_float,
    to_image,
    to_pixels,
    view,
    write_pixels,
)

# Ids that are not 0, 1, 2, so that ids and rows cannot be confused unnoticed.
STREET = Classes(
    (0, 7, 20, 255),
    ("sky", "road", "car", "void"),
    np.array([(70, 130, 180), (128, 64, 128), (200, 0, 0), (0, 0, 0)], np.uint8),
    void=3,
)
ROWS = np.array([[0, 0, 1, 3, 2], [1, 2, 2, 0, 3]], np.uint8)  # rows of STREET, (2, 5)
IDS = np.array([[0, 0, 7, 255, 20], [7, 20, 20, 0, 255]], np.uint8)


def distinct(width: int, height: int) -> Pixels:
    """No two pixels alike, no channel like another."""
    y, x = np.mgrid[:height, :width]
    return np.stack([10 * x, 10 * y, 200 - x - y], -1).astype(np.uint8)


def palette(image: Image.Image, colours: list[tuple[int, int, int]]) -> Image.Image:
    image.putpalette([value for colour in colours for value in colour])
    return image


# --- numbers


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_to_pixels_undoes_to_float(pixels: Pixels) -> None:
    values = to_float(pixels)
    assert values.shape == (pixels.shape[2], pixels.shape[0], pixels.shape[1])
    assert values.min() >= -1
    assert values.max() <= 1
    assert np.array_equal(to_pixels(values), pixels)


def test_every_byte_survives_to_float_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(to_pixels(to_float(every)), every)


def test_every_sixteen_bits_survive_to_float_and_back() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    values = to_float(every)
    assert values.min() == -1
    assert values.max() == 1
    assert np.array_equal(to_pixels(values, 16), every)
    assert to_pixels(values, 16).dtype == np.uint16


def test_to_float_worked_by_hand() -> None:
    values = to_float(np.array([[[0, 51, 255], [255, 102, 0]]], np.uint8))
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    # 51 / 127.5 - 1 = -0.6 and 102 / 127.5 - 1 = -0.2.
    np.testing.assert_allclose(values, [[[-1, 1]], [[-0.6, -0.2]], [[1, -1]]], atol=1e-6)


def test_to_pixels_rounds_and_clips() -> None:
    # (v + 1) * 127.5 = 100.4, 100.6, above 255, below 0, 127.5 exactly (to even).
    values = np.array([100.4 / 127.5 - 1, 100.6 / 127.5 - 1, 1.7, -3.0, 0.0], np.float32).reshape(1, 1, 5)
    assert to_pixels(values).ravel().tolist() == [100, 101, 255, 0, 128]


# --- pictures


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_rgb_files_keep_every_pixel_in_place(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(distinct(7, 4)).save(path, **({"lossless": True} if suffix == "webp" else {}))
    pixels = read_pixels(path)
    assert pixels.shape == (4, 7, 3)
    assert np.array_equal(pixels, distinct(7, 4))


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = np.array([[0, 80, 255], [7, 8, 9]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert np.array_equal(read_pixels(tmp_path / "x.png"), np.stack([grey] * 3, -1))


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    image = palette(Image.fromarray(np.array([[0, 1, 2]], np.uint8)), [(9, 8, 7), (255, 0, 1), (3, 200, 4)])
    image.save(tmp_path / "x.png")
    assert read_pixels(tmp_path / "x.png").tolist() == [[[9, 8, 7], [255, 0, 1], [3, 200, 4]]]


UPRIGHT_PICTURE = [[10, 20, 30], [40, 50, 60]]
STORED = {  # orientation -> the rows as a camera stores them: which visual side its first row and column are
    1: [[10, 20, 30], [40, 50, 60]],  # top, left
    2: [[30, 20, 10], [60, 50, 40]],  # top, right
    3: [[60, 50, 40], [30, 20, 10]],  # bottom, right
    4: [[40, 50, 60], [10, 20, 30]],  # bottom, left
    5: [[10, 40], [20, 50], [30, 60]],  # left, top
    6: [[30, 60], [20, 50], [10, 40]],  # right, top
    7: [[60, 30], [50, 20], [40, 10]],  # right, bottom
    8: [[40, 10], [50, 20], [60, 30]],  # left, bottom
}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.array(STORED[orientation], np.uint8)).save(path, exif=tags)
    assert open_image(path).size == (3, 2)
    assert read_pixels(path)[..., 0].tolist() == UPRIGHT_PICTURE


def test_odd_exif_tags_do_not_hinder(tmp_path: Path) -> None:
    # Orientation 6, and an image description stored as a float, which Pillow reads but refuses to write again.
    entries = struct.pack("<HHLHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHLf", 0x010E, 11, 1, 1.5)
    tags = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + entries + struct.pack("<L", 0)
    Image.fromarray(np.array(STORED[6], np.uint8)).save(tmp_path / "x.png", exif=tags)
    assert read_pixels(tmp_path / "x.png")[..., 0].tolist() == UPRIGHT_PICTURE


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    # 65535 / 255 = 257.
    for expected in ([0, 1, 128, 255], [3, 200, 150, 100]):
        Image.fromarray(np.array([expected], np.uint16) * 257).save(tmp_path / "x.png")
        assert read_pixels(tmp_path / "x.png")[0].tolist() == [[v, v, v] for v in expected]


def test_sixteen_bits_have_one_scale_whatever_the_brightest(tmp_path: Path) -> None:
    # 128 / 257 = 0.498, 129 / 257 = 0.502: a dark file stays dark.
    Image.fromarray(np.array([[0, 128, 129, 255, 514]], np.uint16)).save(tmp_path / "x.png")
    assert read_pixels(tmp_path / "x.png")[0, :, 0].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint32, np.int16, np.int8, np.float64])
def test_samples_of_unknown_scale_are_refused_and_the_way_out_is_said(tmp_path: Path, kind: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 1, 100]], kind))
    with pytest.raises(DiptychError, match=r"x\.tif: holds .* samples.*save all files as 16 bits unsigned"):
        read_pixels(tmp_path / "x.tif")


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = np.array([[(255, 0, 0, 0), (255, 0, 0, 255), (255, 0, 0, 128)]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "x.png")
    # Half of red on white: 255 (1 - 128 / 255) = 127 in green and blue.
    assert read_pixels(tmp_path / "x.png")[0].tolist() == [[255, 255, 255], [255, 0, 0], [255, 127, 127]]


def test_transparent_grey_and_palette_entries_lie_on_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[(50, 0), (50, 255)]], np.uint8)).save(tmp_path / "grey.png")
    assert read_pixels(tmp_path / "grey.png")[0].tolist() == [[255, 255, 255], [50, 50, 50]]
    image = palette(Image.fromarray(np.array([[0, 1]], np.uint8)), [(9, 8, 7), (1, 2, 3)])
    image.save(tmp_path / "palette.png", transparency=0)
    assert read_pixels(tmp_path / "palette.png")[0].tolist() == [[255, 255, 255], [1, 2, 3]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.array([[(255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]], np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "x.tif")
    assert read_pixels(tmp_path / "x.tif")[0].tolist() == [[0, 255, 255], [255, 0, 0], [0, 0, 0], [255, 255, 255]]
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert abs(read_pixels(tmp_path / "x.jpg").astype(int) - (0, 255, 255)).max() <= 3


def test_size_is_width_then_height() -> None:
    image = Image.fromarray(distinct(8, 6))
    assert pixels_of(image, (4, 3)).shape == (3, 4, 3)
    assert np.array_equal(pixels_of(image, (8, 6)), distinct(8, 6))


def test_shrinking_averages_instead_of_picking() -> None:
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    inside = pixels_of(Image.fromarray(board), (8, 8))[2:-2, 2:-2]
    assert inside.min() >= 120
    assert inside.max() <= 135


# --- channels and bits

KNOWN = [1, 2, 3, 4]  # grey, grey and alpha, RGB, RGBA


def in_form(pixels: Pixels, channels: int, bits: int = 8) -> Pixels:
    """`(H, W, C)` in another form; 2 and 4 channels end in alpha."""
    return pixels_of(Bands(pixels, alpha=pixels.shape[2] in (2, 4)), form=PixelFormat(channels, bits))


@given(arrays(np.uint8, (3, 4, 3)))
def test_colour_becomes_the_grey_of_pillow(pixels: Pixels) -> None:
    assert np.array_equal(in_form(pixels, 1)[..., 0], np.asarray(Image.fromarray(pixels).convert("L")))


@given(arrays(np.uint16, (2, 3, 3)))
def test_deep_colour_becomes_the_luma_of_itu_r_601(pixels: Pixels) -> None:
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(in_form(pixels, 1, 16)[..., 0] - luma).max() < 1  # its weights are whole numbers of 65536


@pytest.mark.parametrize("top", [255, 65535])
def test_alpha_lies_on_white(top: int) -> None:
    kind = np.uint8 if top == 255 else np.uint16
    # Nothing is white, everything the colour itself, and a fifth of black leaves four fifths of white.
    pixels = np.array([[[9, 7, 5, 0], [9, 7, 5, top], [0, 0, top, top // 5]]], kind)
    expected = [[top] * 3, [9, 7, 5], [top - top // 5, top - top // 5, top]]
    assert in_form(pixels, 3, 8 if top == 255 else 16)[0].tolist() == expected


@given(arrays(np.uint8, (3, 4, 4)))
def test_alpha_lies_on_white_as_in_pillow(pixels: Pixels) -> None:
    image = Image.fromarray(pixels)
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert np.array_equal(in_form(pixels, 3), np.asarray(expected))
    assert np.array_equal(in_form(pixels, 1), in_form(np.asarray(expected), 1))


def test_grey_is_repeated_and_what_has_no_alpha_is_opaque() -> None:
    grey = np.array([[[1], [200]]], np.uint8)
    assert in_form(grey, 3)[0].tolist() == [[1, 1, 1], [200, 200, 200]]
    assert in_form(grey, 4)[0].tolist() == [[1, 1, 1, 255], [200, 200, 200, 255]]
    assert in_form(grey, 2)[0].tolist() == [[1, 255], [200, 255]]
    assert in_form(np.array([[[1, 9]]], np.uint16), 4, 16)[0].tolist() == [[1, 1, 1, 9]]
    assert in_form(np.array([[[50, 50, 50, 9]]], np.uint8), 2)[0].tolist() == [[50, 9]]
    assert in_form(np.array([[[1, 2, 3]]], np.uint16), 4, 16)[0].tolist() == [[1, 2, 3, 65535]]


def test_bits_by_hand() -> None:
    assert in_form(np.array([[[0], [1], [255]]], np.uint8), 1, 16).ravel().tolist() == [0, 257, 65535]
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 65406 / 257 = 254.498.
    deep = np.array([[[128], [129], [65406], [65407], [65535]]], np.uint16)
    assert in_form(deep, 1).ravel().tolist() == [0, 1, 254, 255, 255]


@given(arrays(np.uint8, (2, 3, 4)), st.sampled_from(KNOWN))
def test_more_bits_and_back_changes_nothing(pixels: Pixels, channels: int) -> None:
    own = pixels[..., :channels]
    assert np.array_equal(in_form(in_form(own, channels, 16), channels), own)


@given(arrays(np.uint8, (2, 3, 1)), st.sampled_from(KNOWN))
def test_grey_into_any_form_and_back_changes_nothing(pixels: Pixels, channels: int) -> None:
    assert np.array_equal(in_form(in_form(pixels, channels), 1), pixels)


def test_which_images_become_which() -> None:
    for channels in KNOWN:
        assert all(convertible(Header((1, 1), stored, 8, stored in (2, 4)), channels) for stored in KNOWN)
        # Bands that nobody calls alpha are what they are.
        assert not any(convertible(Header((1, 1), n, 8, False), channels) for n in (2, 4, 5) if n != channels)
        assert convertible(Header((1, 1), channels, 8, False), channels)
    assert not any(convertible(Header((1, 1), n, 8, n in (2, 4)), 5) for n in KNOWN)


def test_other_bands_are_refused_by_name(tmp_path: Path) -> None:
    write_pixels(tmp_path / "x.tif", np.zeros((4, 5, 5), np.uint16))
    with pytest.raises(DiptychError, match=r"x\.tif: has 5 bands where 3 are wanted; .*--a-channels.* 5$"):
        read_pixels(tmp_path / "x.tif")
    Image.new("L", (5, 4)).save(tmp_path / "x.png")
    with pytest.raises(DiptychError, match=r"x\.png: has 1 band where 5 are wanted"):
        read_pixels(tmp_path / "x.png", form=PixelFormat(5, 8))


@pytest.mark.parametrize(
    ("mode", "channels", "bits"),
    [
        ("1", 1, 8),
        ("L", 1, 8),
        ("LA", 2, 8),
        ("P", 3, 8),
        ("RGB", 3, 8),
        ("RGBA", 4, 8),
        ("CMYK", 3, 8),
        ("I;16", 1, 16),
    ],
)
def test_headers(mode: str, channels: int, bits: int) -> None:
    assert header_of(Image.new(mode, (4, 3))) == Header((4, 3), channels, bits, channels in (2, 4))


def test_every_kind_of_file_in_its_own_form(tmp_path: Path) -> None:
    def read(channels: int) -> list[list[int]]:
        return read_pixels(tmp_path / "x.png", form=PixelFormat(channels))[0].tolist()  # type: ignore[no-any-return]

    image = palette(Image.fromarray(np.array([[0, 1]], np.uint8)), [(9, 8, 7), (1, 2, 3)])
    image.save(tmp_path / "x.png", transparency=0)
    assert read(4) == [[9, 8, 7, 0], [1, 2, 3, 255]]
    Image.fromarray(np.array([[0, 5]], np.uint8)).save(tmp_path / "x.png", transparency=5)
    assert read(2) == [[0, 255], [5, 0]]
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "x.png")
    assert read(1) == [[0], [255]]
    Image.fromarray(np.array([[7, 300]], np.uint16)).save(tmp_path / "x.png", transparency=300)
    assert read_pixels(tmp_path / "x.png", form=PixelFormat(2, 16))[0].tolist() == [[7, 65535], [300, 0]]


@given(
    st.integers(0, 65535),
    st.sampled_from([8, 16]),
    st.integers(1, 6),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([Image.Resampling.BICUBIC, Image.Resampling.NEAREST]),
)
def test_resizing_keeps_constants(
    value: int, bits: int, channels: int, width: int, height: int, resample: Image.Resampling
) -> None:
    kind = np.uint8 if bits == 8 else np.uint16
    constant = (value % 2**bits + np.arange(channels)).clip(max=2**bits - 1).astype(kind)
    resized = resize_pixels(np.broadcast_to(constant, (7, 9, channels)), (width, height), resample)
    assert resized.dtype == kind
    assert resized.shape == (height, width, channels)
    assert (resized == constant).all()


@given(arrays(np.uint8, (9, 11, 4), elements=st.integers(90, 165)), st.integers(1, 20), st.integers(1, 20))
def test_sixteen_bits_are_resized_like_eight(pixels: Pixels, width: int, height: int) -> None:
    shallow = resize_pixels(pixels, (width, height), Image.Resampling.BICUBIC)
    deep = resize_pixels(in_form(pixels, 4, 16), (width, height), Image.Resampling.BICUBIC)
    assert np.abs(deep / 257 - shallow).max() < 1.5  # 8 bits are rounded after either axis


@given(arrays(np.uint16, (5, 6, 1), elements=st.integers(20000, 40000)), st.integers(1, 12), st.integers(1, 12))
def test_resized_sixteen_bits_are_rounded(pixels: Pixels, width: int, height: int) -> None:
    exact = Image.fromarray(pixels[..., 0].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    resized = resize_pixels(pixels, (width, height), Image.Resampling.BICUBIC)[..., 0]
    assert np.abs(resized - np.asarray(exact, np.float64)).max() <= 0.5


def test_shrinking_sixteen_bits_averages(tmp_path: Path) -> None:
    board = (np.indices((32, 32)).sum(0) % 2 * 60000).astype(np.uint16)[..., None]
    inside = resize_pixels(board, (8, 8), Image.Resampling.BICUBIC)[2:-2, 2:-2]
    assert abs(inside.astype(int) - 30000).max() < 1500


def test_a_view_is_rgb_of_eight_bits(tmp_path: Path) -> None:
    assert view(np.array([[[257, 514, 771, 9, 9]]], np.uint16)).tolist() == [[[1, 2, 3]]]
    assert view(np.array([[[5, 9]]], np.uint8)).tolist() == [[[5, 5, 5]]]
    write_pixels(tmp_path / "x.tif", np.array([[[257, 514, 771, 9, 9]]], np.uint16))
    assert read_view(tmp_path / "x.tif").tolist() == [[[1, 2, 3]]]
    assert rgb(open_image(tmp_path / "x.tif")).getpixel((0, 0)) == (1, 2, 3)


def test_what_pillow_holds_and_what_it_does_not() -> None:
    for channels, kind, mode in (
        (1, np.uint8, "L"),
        (2, np.uint8, "LA"),
        (4, np.uint8, "RGBA"),
        (1, np.uint16, "I;16"),
    ):
        assert to_image(np.zeros((3, 4, channels), kind)).mode == mode
    for channels, kind in ((3, np.uint16), (5, np.uint8)):
        with pytest.raises(DiptychError, match=f"no image of {channels} bands"):
            to_image(np.zeros((3, 4, channels), kind))


def test_rgb_is_the_form_unless_said(tmp_path: Path) -> None:
    assert PixelFormat(3, 8) == RGB
    assert read_pixels_of(tmp_path, Image.new("RGBA", (2, 2), (1, 2, 3, 255))).tolist() == [[[1, 2, 3]] * 2] * 2


def read_pixels_of(folder: Path, image: Image.Image) -> Pixels:
    image.save(folder / "x.png")
    return read_pixels(folder / "x.png")


def test_colour_bands_are_class_maps_of_colours_and_one_band_of_ids() -> None:
    assert np.array_equal(class_map_of(Bands(STREET.colours[ROWS]), STREET, "x"), ROWS)
    assert np.array_equal(class_map_of(Bands(IDS[..., None].astype(np.uint16)), STREET, "x"), ROWS)
    for shape, kind in (((2, 5, 3), np.uint16), ((2, 5, 5), np.uint8)):
        with pytest.raises(DiptychError, match=r"x: has \d bands of \d+ bits; a class map has one band"):
            class_map_of(Bands(np.zeros(shape, kind)), STREET, "x")


# --- class maps


def grey_ids() -> Image.Image:
    return Image.fromarray(IDS)


def palette_ids() -> Image.Image:
    colours = [(0, 0, 0)] * 256
    for id_, colour in zip(STREET.ids, STREET.colours.tolist(), strict=True):
        colours[id_] = tuple(colour)
    return palette(Image.fromarray(IDS), colours)


def rgb_colours() -> Image.Image:
    return Image.fromarray(STREET.colours[ROWS])


def rgba_colours() -> Image.Image:
    return rgb_colours().convert("RGBA")


def sixteen_bit_ids() -> Image.Image:
    return Image.fromarray(IDS.astype(np.uint16))


def ids_with_alpha() -> Image.Image:
    return Image.fromarray(np.stack([IDS, np.full_like(IDS, 255)], -1))


def ids_under_a_palette_of_other_colours() -> Image.Image:
    return palette(Image.fromarray(IDS), [(i, 255 - i, 99) for i in range(256)])


def quantised_colours() -> Image.Image:
    # Entry n of the palette is whatever colour came n-th: the values of the file are no ids.
    colours = [tuple(STREET.colours[row]) for row in (2, 3, 0, 1)]
    return palette(Image.fromarray(np.array([2, 3, 0, 1], np.uint8)[ROWS]), colours)


@pytest.mark.parametrize(
    "make",
    [
        grey_ids,
        palette_ids,
        rgb_colours,
        rgba_colours,
        sixteen_bit_ids,
        ids_with_alpha,
        ids_under_a_palette_of_other_colours,
        quantised_colours,
    ],
)
def test_class_maps_of_every_kind_give_the_same_rows(tmp_path: Path, make: Callable[[], Image.Image]) -> None:
    make().save(tmp_path / "x.png")
    rows = read_class_map(tmp_path / "x.png", STREET)
    assert rows.dtype == np.uint8
    assert rows.tolist() == ROWS.tolist()


def test_a_quantised_palette_overrules_even_where_its_indices_are_ids() -> None:
    classes = Classes((0, 1), ("sky", "road"), np.array([(70, 130, 180), (128, 64, 128)], np.uint8), None)
    swapped = palette(Image.fromarray(np.array([[0, 1, 1]], np.uint8)), [(128, 64, 128), (70, 130, 180)])
    assert class_map_of(swapped, classes, "x").tolist() == [[1, 0, 0]]
    # Also where only one of the entries is left after shrinking.
    assert class_map_of(swapped, classes, "x", (1, 1)).tolist() == [[0]]


def test_a_single_palette_entry_is_an_id_whatever_it_shows() -> None:
    # Void's black is also the colour of an unset palette entry.
    image = palette(Image.fromarray(np.array([[7, 7]], np.uint8)), [(0, 0, 0)] * 8)
    assert class_map_of(image, STREET, "x").tolist() == [[1, 1]]


def test_a_palette_of_which_one_entry_shows_no_class_does_not_overrule() -> None:
    colours = [(0, 0, 0)] * 21
    colours[0], colours[7], colours[20] = (128, 64, 128), (70, 130, 180), (1, 2, 3)
    image = palette(Image.fromarray(np.array([[0, 7, 20]], np.uint8)), colours)
    assert class_map_of(image, STREET, "x").tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(("ids", "stray"), [([0, 7, 3], "3"), ([0, 3, 4], "3, 4")])
def test_stray_ids_that_show_voids_black_are_still_unknown(ids: list[int], stray: str) -> None:
    colours = [(0, 0, 0)] * 8
    colours[0], colours[7] = (70, 130, 180), (128, 64, 128)
    image = palette(Image.fromarray(np.array([ids], np.uint8)), colours)
    with pytest.raises(DiptychError, match=f"the ids {stray},"):
        class_map_of(image, STREET, "x")


SEVERAL = Classes(
    tuple(range(9)),
    (*"abcdefgh", "void"),
    np.array([(30 * row, 255 - 20 * row, 60) for row in range(8)] + [(0, 0, 0)], np.uint8),
    8,
)


@given(present=st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True), data=st.data())
def test_colours_that_were_quantised_are_read_rightly_or_refused(present: list[int], data: st.DataObject) -> None:
    rows = np.array([data.draw(st.permutations(present)) for _ in range(2)])
    colours = Image.fromarray(SEVERAL.colours[rows])
    quantised = colours.convert("P", palette=Image.Palette.ADAPTIVE)
    try:
        read = class_map_of(quantised, SEVERAL, "x").tolist()
    except DiptychError as problem:
        event(str(problem))
    else:
        assert read == rows.tolist()


@given(present=st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True))
def test_ids_under_their_own_palette_are_ids(present: list[int]) -> None:
    image = palette(Image.fromarray(np.array([present], np.uint8)), [tuple(c) for c in SEVERAL.colours.tolist()])
    assert class_map_of(image, SEVERAL, "x").tolist() == [present]


@pytest.mark.parametrize("ids", [[1], [0, 1], [0, 2, 1]])
def test_one_entry_that_shows_another_class_cannot_be_told(ids: list[int]) -> None:
    colours = SEVERAL.colours.tolist()
    colours[1] = colours[5]
    image = palette(Image.fromarray(np.array([ids], np.uint8)), [tuple(colour) for colour in colours])
    with pytest.raises(
        DiptychError, match=r"^x: its palette shows f for id 1, which is b in the classes file; save it"
    ):
        class_map_of(image, SEVERAL, "x")


def test_a_single_palette_entry_that_is_no_id_is_a_colour() -> None:
    image = palette(Image.fromarray(np.array([[0, 0]], np.uint8)), [(70, 130, 180)])
    classes = Classes((1, 7), ("road", "sky"), np.array([(128, 64, 128), (70, 130, 180)], np.uint8), None)
    assert class_map_of(image, classes, "x").tolist() == [[1, 1]]


def test_palette_with_alpha_holds_ids() -> None:
    image = palette_ids().convert("PA")
    assert class_map_of(image, STREET, "x").tolist() == ROWS.tolist()


def test_a_one_bit_mask_holds_the_ids_0_and_1() -> None:
    classes = Classes((1, 0), ("thing", "ground"), np.array([(9, 9, 9), (0, 0, 0)], np.uint8), None)
    mask = Image.fromarray(np.array([[True, False, False]]))
    assert mask.mode == "1"
    assert class_map_of(mask, classes, "x").tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("make", [grey_ids, palette_ids, rgb_colours])
def test_class_maps_are_resized_without_blending(make: Callable[[], Image.Image]) -> None:
    doubled = class_map_of(make(), STREET, "x", (10, 4))
    assert doubled.tolist() == ROWS.repeat(2, 0).repeat(2, 1).tolist()


def test_unknown_ids_are_named() -> None:
    image = Image.fromarray(np.array([[0, 3, 99], [7, 3, 255]], np.uint8))
    with pytest.raises(DiptychError, match=r"^maps/x\.png: holds the ids 3, 99, not in the classes file; [^\n]*$"):
        class_map_of(image, STREET, "maps/x.png")


def test_ids_above_8_bits_are_named_not_wrapped() -> None:
    # 263 = 256 + 7 would be the road.
    with pytest.raises(DiptychError, match="the ids 263,"):
        class_map_of(Image.fromarray(np.array([[0, 263]], np.uint16)), STREET, "x.png")


def test_unknown_colours_are_named_three_at_most() -> None:
    colours = [(70, 130, 180), (1, 2, 3), (1, 2, 4), (1, 3, 3), (250, 0, 0), (70, 130, 181)]
    image = Image.fromarray(np.array([colours], np.uint8))
    with pytest.raises(DiptychError, match=r"the colours \(1, 2, 3\), \(1, 2, 4\), \(1, 3, 3\) and 2 more, not in"):
        class_map_of(image, STREET, "x.png")


def test_read_class_map_names_the_file(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 5).save(tmp_path / "odd.png")
    with pytest.raises(DiptychError, match=r"odd\.png: holds the ids 5,"):
        read_class_map(tmp_path / "odd.png", STREET)


# --- colours


def test_nearest_colour_worked_by_hand() -> None:
    colours = [
        (180, 20, 20),  # car
        (100, 100, 150),  # sky is 30² + 30² + 30² = 2700 away, road 28² + 36² + 22² = 2564
        (99, 101, 150),  # sky 29² + 29² + 30² = 2582, road 29² + 37² + 22² = 2694
        (0, 0, 0),  # void's own; road 128² + 64² + 128² = 36864 beats car 200² = 40000
    ]
    values = to_float(np.array([colours], np.uint8))
    assert STREET.nearest(values).tolist() == [[2, 1, 0, 1]]


def test_nearest_takes_values_outside_the_range() -> None:
    assert STREET.nearest(np.array([9.0, -9.0, -9.0], np.float32).reshape(3, 1, 1)).tolist() == [[2]]


@given(
    arrays(np.uint8, (5, 3), unique=False),
    arrays(np.uint8, (3, 4, 3)),
    st.one_of(st.none(), st.integers(0, 4)),
)
def test_nearest_is_nearest_and_never_void(colours: Pixels, pixels: Pixels, void: int | None) -> None:
    classes = Classes(tuple(range(5)), tuple("abcde"), colours, void)
    rows = classes.nearest(to_float(pixels))
    assert rows.shape == (3, 4)
    assert rows.dtype == np.uint8
    distance = ((pixels[:, :, None].astype(int) - colours.astype(int)) ** 2).sum(-1)  # (3, 4, 5)
    allowed = [row for row in range(5) if row != void]
    assert set(rows.ravel().tolist()) <= set(allowed)
    taken = np.take_along_axis(distance, rows[..., None].astype(int), -1)[..., 0]
    assert np.array_equal(taken, distance[..., allowed].min(-1))


def test_paint_gives_the_colours_of_the_rows() -> None:
    assert STREET.paint(np.array([[2, 0]], np.uint8)).tolist() == [[[200, 0, 0], [70, 130, 180]]]


def test_to_image_shows_colours_and_holds_ids(tmp_path: Path) -> None:
    STREET.to_image(ROWS).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), IDS)
        assert np.array_equal(np.asarray(image.convert("RGB")), STREET.colours[ROWS])
    assert read_class_map(tmp_path / "x.png", STREET).tolist() == ROWS.tolist()


@given(st.data())
def test_to_image_is_read_back_whatever_the_ids(data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, 255), min_size=2, max_size=6, unique=True))
    colour = st.tuples(*[st.integers(0, 255)] * 3)
    colours = data.draw(st.lists(colour, min_size=len(ids), max_size=len(ids), unique=True))
    classes = Classes(tuple(ids), tuple(map(str, ids)), np.array(colours, np.uint8), None)
    rows = data.draw(arrays(np.uint8, (2, 3), elements=st.integers(0, len(ids) - 1)))
    assert class_map_of(classes.to_image(rows), classes, "x").tolist() == rows.tolist()


# --- classes.csv

HEADER = "id,name,red,green,blue\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_read_classes(tmp_path: Path) -> None:
    classes = read_classes(write(tmp_path / "c.csv", HEADER + "11, sky ,70,130,180\n255,Void,0,0,0\n3,road,1,2,3\n"))
    assert classes.ids == (11, 255, 3)
    assert classes.names == ("sky", "Void", "road")
    assert classes.colours.tolist() == [[70, 130, 180], [0, 0, 0], [1, 2, 3]]
    assert classes.void == 1
    assert len(classes) == 3


def test_read_classes_takes_columns_by_name_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeffname,blue,green,red,id\r\nsky,3,2,1,9\r\n"
    classes = read_classes(write(tmp_path / "c.csv", text))
    assert (classes.ids, classes.names, classes.void) == ((9,), ("sky",), None)
    assert classes.colours.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no class"),
        (HEADER, "names no class"),
        (HEADER + "0,void,0,0,0\n", "names no class"),
        ("id,name,red,green\n1,sky,2,3\n", "line 2 is not id,name,red,green,blue"),
        ("id,label,red,green,blue\n1,sky,2,3,4\n", "line 2 is not id,name,red,green,blue"),
        (HEADER + "1,sky,2,3,4\n2,road,5,6\n", "line 3 is not"),
        (HEADER + "1,sky,2.5,3,4\n", "line 2 is not"),
        (HEADER + "1,sky,2,3,256\n", "line 2 has a value outside 0..255"),
        (HEADER + "-1,sky,2,3,4\n", "line 2 has a value outside 0..255"),
        (HEADER + "1,sky,2,3,4\n1,road,5,6,7\n", "the id 1 stands there twice"),
        (HEADER + "1,sky,2,3,4\n2,road,2,3,4\n", "the colour (2, 3, 4) stands there twice"),
        (HEADER + "1,sky,2,3,4\n2,sky,5,6,7\n", "the name sky stands there twice"),
        (HEADER + "1,sky,2,3,4\n2,void,5,6,7\n3,ignore,8,9,10\n", "more than one void class (void, ignore)"),
        (HEADER.encode() + b"1,stra\xdfe,2,3,4\n", "cannot be read"),
    ],
)
def test_read_classes_says_what_is_wrong(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = write(tmp_path / "c.csv", text)
    with pytest.raises(DiptychError) as problem:
        read_classes(path)
    message = str(problem.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message


def test_read_classes_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match=r"none\.csv: cannot be read"):
        read_classes(tmp_path / "none.csv")


# --- files that are no images


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def half_of(suffix: str, folder: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = folder / f"whole.{suffix}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    return data[: len(data) // 2]


BAD: dict[str, Callable[[Path], bytes]] = {
    "bomb.png": lambda _: png_that_claims(30_000, 30_000),
    "large.png": lambda _: png_that_claims(10_000, 9_000),
    "half.jpg": lambda folder: half_of("jpg", folder),
    "half.png": lambda folder: half_of("png", folder),
    "half.webp": lambda folder: half_of("webp", folder),
    "half.tif": lambda folder: half_of("tif", folder),
    "text.png": lambda _: b"this is no image\n",
    "empty.png": lambda _: b"",
}


@pytest.mark.parametrize("name", BAD)
def test_unreadable_images_are_named_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name](tmp_path))
    with pytest.raises(UnreadableImageError) as problem:
        open_image(path)
    message = str(problem.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(("take it out of the folder", "or raise --max-megapixels of diptych translate"))
    assert "\n" not in message


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (10_000, 9_000)])
def test_bombs_are_called_bombs(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "x.png").write_bytes(png_that_claims(width, height))
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        open_image(tmp_path / "x.png")


def test_a_tiff_whose_strips_start_nowhere_is_unreadable(tmp_path: Path) -> None:
    # The tag StripOffsets (0x0111) as the text "a" instead of a number.
    tags = [(0x0100, 3, 1, 2), (0x0101, 3, 1, 2), (0x0102, 3, 1, 8), (0x0106, 3, 1, 1), (0x0111, 2, 2, ord("a"))]
    body = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<LH", 8, len(tags)) + body + struct.pack("<L", 0))
    with pytest.raises(UnreadableImageError, match=r"x\.tif: "):
        open_image(tmp_path / "x.tif")


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"gone\.png: no such file"):
        open_image(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UnreadableImageError, match=r"folder\.png: "):
        open_image(tmp_path / "folder.png")


# --- folders


def test_list_images_is_sorted_relative_and_leaves_out_the_hidden(tmp_path: Path) -> None:
    names = ["b.png", "a.JPG", "z/y.tiff", "z/.y.png", ".hidden.png", ".cache/x.png", "notes.txt", "A/b/c.webp", "png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["A/b/c.webp", "a.JPG", "b.png", "z/y.tiff"]


def test_a_hidden_folder_may_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / ".photos").mkdir()
    (tmp_path / ".photos" / "x.png").touch()
    assert list_images(tmp_path / ".photos") == ["x.png"]


def test_list_images_of_a_missing_folder_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    for path in (tmp_path / "nowhere", tmp_path / "x.png"):
        with pytest.raises(DiptychError, match=r": (no such folder|is a file); [^\n]*$"):
            list_images(path)


def test_list_images_of_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DiptychError, match=r": holds no images \([^\n]*\.png[^\n]*$"):
        list_images(tmp_path)


def test_classes_are_decided_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Classes((0, 1, 2), ("red", "green", "void"), np.array([[255, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8), 2)
    values = np.random.default_rng(0).uniform(-1, 1, (3, 7, 9)).astype(np.float32)
    expected = (values[1] > values[0]).astype(np.uint8)
    monkeypatch.setattr("diptych.images.PIXELS_AT_ONCE", 5)
    assert np.array_equal(table.nearest(values), expected)


def test_a_photo_in_place_of_a_class_map_is_called_one(tmp_path: Path) -> None:
    table = Classes((0, 1), ("red", "green"), np.array([[255, 0, 0], [0, 255, 0]], np.uint8), None)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    with pytest.raises(DiptychError, match=r"photo\.png: \d+ of its colours .* sides swapped"):
        read_class_map(tmp_path / "photo.png", table)
