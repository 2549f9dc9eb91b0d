"""Files that no mode of Pillow holds: PNG and TIFF colours of more than 8 bits, and TIFFs of any number of bands."""

import logging
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from diptych.errors import DiptychError

if TYPE_CHECKING:
    import tifffile

Pixels = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16 (H, W, C)

PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL, SAMPLE_FORMAT = 258, 262, 277, 339
WHITE_IS_ZERO, UNSIGNED = 0, 1
NO_RGB = {5: "CMYK inks", 8: "CIELAB colours", 9: "CIELAB colours", 10: "CIELAB colours"}  # by photometric
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha, in TIFF's ExtraSamples
ORIENTATION = 274
for _library in ("tifffile", "PIL.TiffImagePlugin"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)  # what matters is raised


@dataclass(frozen=True)
class Header:
    """What the head of a file says of its image."""

    size: tuple[int, int]  # (width, height), upright
    channels: int
    bits: int  # 8 or 16
    alpha: bool  # whether the last channel is opacity


@dataclass(frozen=True, eq=False)
class Bands:
    """An image as an array: what no mode of Pillow holds."""

    values: Pixels  # (H, W, C)
    alpha: bool = False  # whether the last channel is opacity

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.values.shape[1], self.values.shape[0]

    @property
    def header(self) -> Header:
        """As of a file that holds it."""
        return Header(self.size, self.values.shape[2], 8 * self.values.dtype.itemsize, self.alpha)


def is_tiff(file: BinaryIO) -> bool:
    """Whether `file` begins like a TIFF."""
    file.seek(0)
    return file.read(4) in TIFF


def is_deep_png(image: Image.Image, file: BinaryIO) -> bool:
    """Whether `file`, which Pillow has opened as `image`, is a PNG of 16-bit colours: Pillow would give 8 bits."""
    if image.format != "PNG":
        return False
    file.seek(24)
    depth, kind = file.read(2)
    return depth == 16 and kind != 0  # Pillow holds deep grey


def is_odd_tiff(image: Image.Image) -> bool:
    """Whether Pillow has opened a TIFF, but would give fewer bands or bits than it stores, or others."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    deep = max(bits if isinstance(bits, tuple) else (bits,)) > 8
    signed = image.mode == "L" and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] != UNSIGNED
    inverted = image.mode.startswith("I;16") and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    fewer = tags.get(SAMPLES_PER_PIXEL, 1) != len(image.getbands())
    return fewer or signed or inverted or (deep and not image.mode.startswith(("I", "F")))


def has_more_pages(image: Image.Image) -> bool:
    """Whether Pillow has opened a TIFF whose first page is followed by another: pictures, or a smaller copy."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and bool(image.tag_v2.next)


def check_pages(file: BinaryIO) -> None:
    """Raises `DiptychError` for a TIFF of several pictures; smaller copies of one and masks are none."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file, name="the file") as tiff:
        _check_pages(tiff)


def _check_pages(tiff: "tifffile.TiffFile") -> None:
    import tifffile

    if len(tiff.pages) == 1:
        return
    pages = (page for page in tiff.pages if isinstance(page, tifffile.TiffPage))  # all of them are
    if sum(not (page.is_reduced or page.is_mask) for page in pages) > 1:
        raise DiptychError(
            f"a file of {len(tiff.pages)} pages, of which one alone would be read; pages are not bands: save bands as "
            "samples of one page (tifffile.imwrite: photometric='minisblack' and planarconfig='separate', or 'contig' "
            "with channels last), and images as files of their own"
        )


def png_header(image: Image.Image, file: BinaryIO) -> Header:
    """Of a 16-bit colour PNG that Pillow has opened."""
    file.seek(25)
    channels = {2: 3, 4: 2, 6: 4}[file.read(1)[0]]
    if channels == 3 and "transparency" in image.info:
        channels = 4  # one colour is see-through, which is decoded as alpha
    return Header(image.size, channels, 16, channels != 3)


def read_png(file: BinaryIO) -> Bands:
    """A 16-bit colour PNG, whole; the caller has looked at its size."""
    import imagecodecs

    file.seek(0)
    values = imagecodecs.png_decode(file.read())
    return Bands(values, values.shape[2] != 3)


def read_tiff(file: BinaryIO, most_pixels: int, decode: bool = True) -> tuple[Header, Bands | None, int]:
    """The one picture of a TIFF as it is stored: its header, its bands and its orientation, 1..8.

    The bands are left out unless `decode`. Raises `DiptychError` for several pages, samples whose scale nobody
    knows, CMYK and CIELAB, colours multiplied by their alpha, and more than three times `most_pixels` samples; errors
    of tifffile come as they are.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file, name="the file") as tiff:  # `file` itself may have no name
        _check_pages(tiff)
        page = tiff.pages.first
        height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
        tile = page.tilelength * page.tilewidth
        if page.imagedepth != 1 or min(width, height, channels) < 1:
            raise DiptychError("is no flat image; save its slices as images of their own")
        if width * height * channels > 3 * most_pixels or tile * channels > 3 * most_pixels:
            raise DiptychError(
                f"{width}x{height} pixels of {channels} bands would decode to more than {3 * most_pixels / 1e6:.0f} "
                "million samples (a decompression bomb?); shrink it or take it out"
            )
        if page.dtype is None or page.dtype not in (np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)):
            raise DiptychError(unknown_scale(str(page.dtype)))
        if page.photometric in NO_RGB:
            raise DiptychError(f"holds {NO_RGB[page.photometric]}; convert it to RGB first")
        alpha = len(page.extrasamples) == 1 and page.extrasamples[0] in (ASSOCIATED, UNASSOCIATED)
        if alpha and page.extrasamples[0] == ASSOCIATED:
            raise DiptychError("its colours are multiplied by their alpha; save it with unassociated alpha")
        bits = 16 if page.dtype == np.uint16 else 8
        tag = page.tags.get(ORIENTATION)
        header = Header((width, height), channels, bits, alpha)
        if not decode:
            return header, None, tag.value if tag else 1
        stored = page.asarray(maxworkers=1)
        values: Pixels = stored.astype(np.uint8) * np.uint8(255) if page.dtype == np.dtype(bool) else stored
        values = np.moveaxis(values, 0, 2) if page.axes == "SYX" else values.reshape(height, width, channels)
        if page.photometric == WHITE_IS_ZERO:
            values = np.iinfo(values.dtype).max - values
        return header, Bands(np.ascontiguousarray(values), alpha), tag.value if tag else 1


def png_bytes(pixels: Pixels) -> bytes:
    """A PNG of uint16 `(H, W, C)`, 2 to 4 channels."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def tiff_bytes(pixels: Pixels) -> bytes:
    """A TIFF of `(H, W, C)`, its bands interleaved and compressed without loss."""
    import tifffile

    file = BytesIO()
    extra = ["unspecified"] * (pixels.shape[2] - 1)
    tifffile.imwrite(
        file,
        pixels if extra else pixels[..., 0],
        photometric="minisblack",
        planarconfig="contig" if extra else None,
        extrasamples=extra,
        compression="zlib",
        predictor=True,
        metadata=None,
        software=False,
    )
    return file.getvalue()


def unknown_scale(what: str) -> str:
    """What is wrong with samples of the kind `what`, and how to mend it."""
    return f"holds {what} samples, whose black and white nobody knows; save all files as 16 bits unsigned by one scale"


def turned(bands: Bands, orientation: int) -> Bands:
    """Upright, by the EXIF orientation 1..8."""
    values = bands.values
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return Bands(np.ascontiguousarray(values), bands.alpha)
