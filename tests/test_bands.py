"""Files that no mode of Pillow holds come in and go out with every bit in place, and are turned, cut and refused."""

import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from diptych.bands import Bands, Header
from diptych.images import (
    PixelFormat,
    Pixels,
    UnreadableImageError,
    header_of,
    open_image,
    read_header,
    read_pixels,
    write_pixels,
)

UPRIGHT = np.arange(1, 7, dtype=np.uint16).reshape(2, 3) * 9001  # (H, W)
STORED = {  # orientation -> how a camera stores UPRIGHT: which visual side its first row and column are
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: [[9001, 36004], [18002, 45005], [27003, 54006]],
    6: [[27003, 54006], [18002, 45005], [9001, 36004]],
    7: [[54006, 27003], [45005, 18002], [36004, 9001]],
    8: [[36004, 9001], [45005, 18002], [54006, 27003]],
}


def samples(channels: int, bits: int, height: int = 5, width: int = 7) -> Pixels:
    """Noise that uses the whole range, `(H, W, C)`."""
    rng = np.random.default_rng(channels)
    return rng.integers(0, 2**bits, (height, width, channels)).astype(np.uint8 if bits == 8 else np.uint16)


def write_tiff(path: Path, pixels: Pixels, planar: bool = False, **options: Any) -> None:
    """`(H, W, C)` as bands that say nothing of their meaning, unless `options` do."""
    options = {"photometric": "minisblack", "metadata": None} | options
    if pixels.shape[2] == 1:
        tifffile.imwrite(path, pixels[..., 0], **options)
    elif planar:
        tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), planarconfig="separate", **options)
    else:
        tifffile.imwrite(path, pixels, planarconfig="contig", **options)


@st.composite
def any_pixels(draw: st.DrawFn) -> Pixels:
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = (*draw(array_shapes(min_dims=2, max_dims=2, max_side=9)), draw(st.integers(1, 6)))
    return draw(arrays(kind, shape))


@settings(max_examples=60)
@given(pixels=any_pixels(), tiff=st.booleans(), by_bands=st.booleans())
def test_what_is_written_is_read_again_bit_by_bit(pixels: Pixels, tiff: bool, by_bands: bool) -> None:
    pixels = np.asfortranarray(pixels) if by_bands else pixels  # as generators give them
    channels, bits = pixels.shape[2], 8 * pixels.dtype.itemsize
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("x.tif" if tiff or channels > 4 else "x.png")
        write_pixels(path, pixels)
        again = read_pixels(path, form=PixelFormat(channels, bits))
        header = read_header(path)
    assert again.dtype == pixels.dtype
    assert np.array_equal(again, pixels)
    assert (header.size, header.channels, header.bits) == (pixels.shape[1::-1], channels, bits)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("layout", ["interleaved", "planar", "tiled", "big-endian", "BigTIFF"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_layout_of_a_tiff(tmp_path: Path, bits: int, channels: int, layout: str, compression: str | None) -> None:
    options: dict[str, dict[str, Any]] = {
        "interleaved": {},
        "planar": {"planar": True},
        "tiled": {"tile": (16, 32)},
        "big-endian": {"byteorder": ">"},
        "BigTIFF": {"bigtiff": True},
    }
    pixels = samples(channels, bits, 33, 40)
    write_tiff(tmp_path / "x.tif", pixels, compression=compression, **options[layout])
    assert np.array_equal(read_pixels(tmp_path / "x.tif", form=PixelFormat(channels, bits)), pixels)
    assert read_header(tmp_path / "x.tif") == Header((40, 33), channels, bits, False)


def test_nobody_grumbles_about_many_bands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tiff(tmp_path / "x.tif", samples(40, 8))
    assert read_header(tmp_path / "x.tif").channels == 40
    assert np.array_equal(read_pixels(tmp_path / "x.tif", form=PixelFormat(40, 8)), samples(40, 8))
    assert caplog.records == []


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("alpha", "channels"), [(False, 3), (True, 4)])
def test_deep_colour_tiffs_know_their_alpha(tmp_path: Path, planar: bool, alpha: bool, channels: int) -> None:
    pixels = samples(channels, 16)
    extra = {"extrasamples": ["unassalpha"]} if alpha else {}
    write_tiff(tmp_path / "x.tif", pixels, planar, photometric="rgb", **extra)
    image = open_image(tmp_path / "x.tif")
    assert isinstance(image, Bands)
    assert image.alpha is alpha
    assert np.array_equal(image.values, pixels)
    assert read_header(tmp_path / "x.tif") == header_of(image) == Header((7, 5), channels, 16, alpha)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colour_pngs_keep_their_low_bits(tmp_path: Path, channels: int) -> None:
    pixels = samples(channels, 16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(pixels))
    image = open_image(tmp_path / "x.png")
    assert isinstance(image, Bands)
    assert np.array_equal(image.values, pixels)
    assert read_header(tmp_path / "x.png") == header_of(image) == Header((7, 5), channels, 16, channels != 3)


@pytest.mark.parametrize("orientation", STORED)
def test_bands_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    stored = np.array(STORED[orientation], np.uint16)
    pixels = np.stack([stored, stored + 1, stored + 2], axis=2)
    write_tiff(tmp_path / "x.tif", pixels, extratags=[(274, "H", 1, orientation, True)])
    # eXIf is a chunk of its own, here right behind the 33 bytes of signature and header.
    tags = b"II*\0" + struct.pack("<LH", 8, 1) + struct.pack("<HHLHH", 0x0112, 3, 1, orientation, 0) + b"\0" * 4
    chunk = struct.pack(">L", len(tags)) + b"eXIf" + tags + struct.pack(">L", zlib.crc32(b"eXIf" + tags))
    data = imagecodecs.png_encode(pixels)
    (tmp_path / "x.png").write_bytes(data[:33] + chunk + data[33:])
    for name in ("x.tif", "x.png"):
        upright = read_pixels(tmp_path / name, form=PixelFormat(3, 16))
        assert np.array_equal(upright, np.stack([UPRIGHT, UPRIGHT + 1, UPRIGHT + 2], axis=2))
        assert read_header(tmp_path / name).size == (3, 2)


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_halves_of_bands(tmp_path: Path, orientation: int) -> None:
    pixels = samples(5, 16, 4, 6) if orientation == 1 else np.rot90(samples(5, 16, 4, 6)).copy()
    write_tiff(tmp_path / "x.tif", pixels, extratags=[(274, "H", 1, orientation, True)])
    form = PixelFormat(5, 16)
    assert np.array_equal(read_pixels(Path(f"{tmp_path}::left") / "x.tif", form=form), samples(5, 16, 4, 6)[:, :3])
    assert np.array_equal(read_pixels(Path(f"{tmp_path}::right") / "x.tif", form=form), samples(5, 16, 4, 6)[:, 3:])
    assert read_header(Path(f"{tmp_path}::right") / "x.tif").size == (3, 4)


def test_grey_whose_zero_is_white_is_inverted(tmp_path: Path) -> None:
    write_tiff(tmp_path / "x.tif", np.array([[[0], [1], [65535]]], np.uint16), photometric="miniswhite")
    assert read_pixels(tmp_path / "x.tif", form=PixelFormat(1, 16)).ravel().tolist() == [65535, 65534, 0]


def test_big_endian_grey(tmp_path: Path) -> None:
    write_tiff(tmp_path / "x.tif", np.array([[[1], [256], [513]]], np.uint16), byteorder=">")
    assert read_pixels(tmp_path / "x.tif", form=PixelFormat(1, 16)).ravel().tolist() == [1, 256, 513]


def test_four_bands_without_a_meaning_are_no_rgba(tmp_path: Path) -> None:
    pixels = samples(4, 8)
    write_tiff(tmp_path / "x.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(read_pixels(tmp_path / "x.tif", form=PixelFormat(4, 8)), pixels)
    assert not read_header(tmp_path / "x.tif").alpha


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({}, np.float32, "float32 samples"),
        ({}, np.int16, "int16 samples"),
        ({"extrasamples": ["assocalpha"], "photometric": "rgb"}, np.uint16, "multiplied by their alpha"),
        ({"volumetric": True, "tile": (16, 16, 16)}, np.uint16, "no flat image"),
    ],
)
def test_what_bands_cannot_be(tmp_path: Path, options: dict[str, Any], kind: type, said: str) -> None:
    shape = (16, 16, 16, 4) if "volumetric" in options else (4, 5, 4)
    options = {"photometric": "minisblack", "planarconfig": "contig"} | options
    tifffile.imwrite(tmp_path / "x.tif", np.ones(shape, kind), metadata=None, **options)
    for read in (open_image, read_header):
        with pytest.raises(UnreadableImageError, match=rf"x\.tif: .*{said}"):
            read(tmp_path / "x.tif")


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.images.MAX_PIXELS", 1000)
    write_tiff(tmp_path / "x.tif", samples(100, 8, 6, 6), compression="zlib")
    write_tiff(tmp_path / "tile.tif", samples(6, 8, 6, 6), tile=(512, 512), compression="zlib")
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(samples(3, 16, 40, 40)))
    for name, said in (("x.tif", "6x6 pixels of 100 bands"), ("tile.tif", "of 6 bands"), ("x.png", "40x40 pixels")):
        for read in (open_image, read_header):
            with pytest.raises(UnreadableImageError, match=rf"{name}: .*{said}.* would decode to more than"):
                read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_file_cut_short_is_said_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_pixels(path, samples(3, 16, 40, 40))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableImageError, match=rf"^\S+x{suffix}: .*repair it or take it out of the folder$"):
        open_image(path)


def test_ordinary_images_stay_pillows(tmp_path: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        Image.new(mode, (4, 3)).save(tmp_path / "x.png")
        image = open_image(tmp_path / "x.png")
        assert isinstance(image, Image.Image)
        assert image.mode == mode
        assert read_header(tmp_path / "x.png") == header_of(image)
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"):
        Image.new(mode, (4, 3)).save(tmp_path / "x.tif")
        image = open_image(tmp_path / "x.tif")
        assert isinstance(image, Image.Image)
        assert image.mode == mode
        assert read_header(tmp_path / "x.tif") == header_of(image)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("kind", "channels"), [(np.uint8, 1), (np.uint16, 3)])  # Pillow reads one, tifffile the other
def test_a_tiff_of_several_pages_is_refused(tmp_path: Path, kind: type, channels: int, compression: str | None) -> None:
    shape = (3, 20, 30) if channels == 1 else (3, 20, 30, channels)
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(tmp_path / "x.tif", np.zeros(shape, kind), photometric=photometric, compression=compression)
    for read in (open_image, read_header):
        with pytest.raises(UnreadableImageError, match=r"x\.tif: a file of 3 pages.*'separate'") as refused:
            read(tmp_path / "x.tif")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("kind", "channels"), [(np.uint8, 1), (np.uint16, 3)])
def test_smaller_copies_and_masks_are_no_pages(
    tmp_path: Path, kind: type, channels: int, compression: str | None
) -> None:
    pixels = samples(channels, 8 * np.dtype(kind).itemsize, 20, 30)
    photometric = "minisblack" if channels == 1 else "rgb"
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(pixels.squeeze(), photometric=photometric, compression=compression)
        writer.write(pixels[::2, ::2].squeeze(), photometric=photometric, compression=compression, subfiletype=1)
        writer.write(np.ones((20, 30), bool), photometric="mask", subfiletype=4)
    form = PixelFormat(channels, 8 * np.dtype(kind).itemsize)
    assert np.array_equal(read_pixels(tmp_path / "x.tif", form=form), pixels)
    assert read_header(tmp_path / "x.tif").size == (30, 20)


@pytest.mark.parametrize("suffix", ["webp", "png", "jpg"])
def test_of_other_moving_pictures_the_first_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("black", "white")]
    kind = {"webp": "WEBP", "png": "PNG", "jpg": "MPO"}[suffix]
    frames[0].save(tmp_path / f"x.{suffix}", kind, save_all=True, append_images=frames[1:])
    assert read_pixels(tmp_path / f"x.{suffix}").max() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_see_through_colour_of_a_deep_png_is_alpha(tmp_path: Path, channels: int) -> None:
    pixels = samples(channels, 16)
    data = imagecodecs.png_encode(pixels if channels == 3 else pixels[..., 0])
    said = b"tRNS" + struct.pack(f">{channels}H", *pixels[2, 3].tolist())
    chunk = struct.pack(">L", 2 * channels) + said + struct.pack(">L", zlib.crc32(said))
    (tmp_path / "x.png").write_bytes(data[:33] + chunk + data[33:])
    expected = Header((7, 5), channels + 1, 16, True)
    assert read_header(tmp_path / "x.png") == header_of(open_image(tmp_path / "x.png")) == expected
    alpha = read_pixels(tmp_path / "x.png", form=PixelFormat(channels + 1, 16))[..., -1]
    assert np.array_equal(alpha == 0, (pixels == pixels[2, 3]).all(2))


@pytest.mark.parametrize(
    ("photometric", "channels", "said"), [("separated", 4, "CMYK inks"), ("cielab", 3, "CIELAB colours")]
)
def test_deep_inks_are_no_bands(tmp_path: Path, photometric: str, channels: int, said: str) -> None:
    write_tiff(tmp_path / "x.tif", samples(channels, 16), photometric=photometric)
    for read in (open_image, read_header):
        with pytest.raises(UnreadableImageError, match=f"x.tif: holds {said}; convert it to RGB first"):
            read(tmp_path / "x.tif")
