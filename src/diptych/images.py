"""Image files to arrays and back: the only place where pixel values are rescaled, and where class maps meet colours.

Pixels are uint8 or uint16 `(H, W, C)` as stored and float32 `(C, H, W)` in [-1, 1] as networks see them. A class map is
uint8 `(H, W)` holding *rows* of its `Classes` table (0 .. K-1), whatever ids the files use.
"""

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from diptych import bands
from diptych.bands import Bands, Header
from diptych.errors import DiptychError, reason, some
from diptych.files import write_bytes
from diptych.reading import Member, open_file, read_table
from diptych.saved import SavedClasses

Pixels = bands.Pixels  # uint8 or uint16 (H, W, C)
ClassMap = NDArray[np.uint8]  # (H, W), rows of a Classes table
Floats = NDArray[np.float32]  # (C, H, W) in [-1, 1]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB")  # whatever the suffix says; Pillow would try many more
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: a quarter of a gigabyte as RGB
raised_limit: ContextVar[int | None] = ContextVar("raised_limit", default=None)  # instead, see `opening_up_to`
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # open_image refuses such files by itself
warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters is raised
PIXELS_AT_ONCE = 2**18  # while classes are decided: a table of distances of some 20 MB
LOOKS_LIKE_A_PHOTO = 100  # unknown colours
VOID = -100  # in targets: what torch's cross-entropy ignores
VOID_NAMES = frozenset({"void", "ignore", "unlabelled", "unlabeled"})
BLACK = (0, 0, 0)
HALVES = ("left", "right")  # of side-by-side images
SHARDS = "shards.json"  # the index beside shards, by which they are told from a folder of images
UPRIGHT = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


UNREADABLE = (
    *(OSError, EOFError, SyntaxError, struct.error, ValueError, TypeError, LookupError),
    *(RuntimeError, ArithmeticError, AttributeError, AssertionError, MemoryError),
)
"""What Pillow and tifffile raise for a damaged file, depending on the byte."""


class UnreadableImageError(DiptychError):
    """A file that is no image, is damaged, or would decode to an unreasonable size."""


def check_apart(out: Path, *folders: Path | None) -> None:
    """Raises `DiptychError` where `out` is in a folder of images, among which its pictures would be taken for some."""
    for folder in folders:
        if folder is not None and out.resolve().is_relative_to(real_path(folder)[0].resolve()):
            raise DiptychError(f"--out {out}: lies among the images of {folder}; choose a folder elsewhere")


def real_path(path: Path) -> tuple[Path, str | None]:
    """What is on disk behind `path`, and which half of each image is meant: "left", "right", or None for the whole.

    `DIR::left` is a folder that holds the left halves of DIR's images, under their own names. Nothing of that name is
    on disk: whoever asks the file system about an image or its folder asks about this.
    """
    for place, part in enumerate(path.parts):
        for half in HALVES:
            if part.endswith(f"::{half}"):
                return Path(*path.parts[:place], part.removesuffix(f"::{half}"), *path.parts[place + 1 :]), half
    return path, None


def spoken(path: Path | Member) -> str:
    """`path` in a message: the file or folder on disk, and which half of it."""
    if not isinstance(path, Path):
        return str(path)
    real, half = real_path(path)
    return f"{real} ({half} half)" if half else str(path)


def list_images(folder: Path) -> list[str]:
    """Names of the images below `folder`, sorted, relative, with forward slashes.

    Raises `DiptychError` where the folder is missing, may not be read, or holds no image or one whose name is no UTF-8.
    """
    folder, _ = real_path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DiptychError(f"{folder}: {what}; give the folder that holds the images")

    def stop(problem: OSError) -> None:
        raise DiptychError(f"{problem.filename}: {reason(problem)}; let it be read, or take it out of the folder")

    found = []
    seen = set()  # links may lead round in a circle
    for root, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = "" if root == str(folder) else f"{Path(root).relative_to(folder).as_posix()}/"
        for name in files:
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):  # noqa: PTH122  # it is quick
                found.append(below + name)
    if not found and (folder / SHARDS).is_file():
        raise DiptychError(f"{folder}: holds shards, which diptych train --data reads; give a folder of images here")
    if not found:
        raise DiptychError(
            f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}); give the folder that holds them"
        )
    for name in found:
        if not name.isascii() and name.encode(errors="replace") != name.encode(errors="surrogatepass"):
            raise DiptychError(f"{folder}: {name!r} is no UTF-8, as names in pairs.csv must be; rename the file")
    return sorted(found)


@dataclass(frozen=True)
class PixelFormat:
    """What the images of a domain are made of: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA, or any number of bands."""

    channels: int = 3
    bits: int = 8  # or 16


RGB = PixelFormat()


@contextmanager
def opening_up_to(pixels: int) -> Iterator[None]:
    """Within it images of up to so many pixels are opened, instead of MAX_PIXELS."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
    token = raised_limit.set(pixels)
    try:
        yield
    finally:
        raised_limit.reset(token)
        Image.MAX_IMAGE_PIXELS = before


def open_image(path: Path | Member) -> Image.Image | Bands:
    """The decoded image, turned upright by its EXIF tag, as it was stored; of a half folder, its half.

    `Bands` where no mode of Pillow holds it: colours of more than 8 bits, and TIFFs of other bands than Pillow knows.
    Raises `UnreadableImageError` naming the file.
    """
    half = None
    if isinstance(path, Path):
        path, half = real_path(path)
    upright: Image.Image | Bands
    # Pillow would map a file that it opens by name, and then scrambles grey TIFFs stored on their side.
    with _reading(path) as file:
        image = _by_pillow(file)
        if image is None:
            _, stored, orientation = bands.read_tiff(file, _most_pixels())
            assert stored is not None
            upright = bands.turned(stored, orientation)
        elif bands.is_deep_png(image, file):
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            upright = bands.turned(bands.read_png(file), orientation)
        else:
            image.load()
            seen = image.info.get("transparency")
            if isinstance(seen, bytes) and len(seen) > 256:
                raise ValueError("more transparencies than colours")
            # ImageOps.exif_transpose would also rewrite the tags, and fails where a camera wrote odd ones.
            turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            upright = image if turn is None else image.transpose(turn)
            if image.format == "PNG" and upright.mode == "I":  # as older Pillows open 16 bits of grey
                upright = Image.fromarray(np.asarray(upright).astype(np.uint16))
    return upright if half is None else _half_of(upright, half, path)


def read_header(path: Path) -> Header:
    """`header_of(open_image(path))` from the head of the file alone: what follows may still be damaged."""
    path, half = real_path(path)
    with _reading(path) as file:
        image = _by_pillow(file)
        if image is None:
            header, _, orientation = bands.read_tiff(file, _most_pixels(), decode=False)
        else:
            # A PNG's own getexif would decode all of it, in search of tags behind the pixels.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
            header = bands.png_header(image, file) if bands.is_deep_png(image, file) else header_of(image)
    width, height = header.size[::-1] if orientation in (5, 6, 7, 8) else header.size
    if half is not None:
        width = _half_width(width, half, path)
    return Header((width, height), header.channels, header.bits, header.alpha)


def _by_pillow(file: BinaryIO) -> Image.Image | None:
    """The image as Pillow opens it, not yet decoded; None for a TIFF of which Pillow would lose bands or bits."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if bands.is_tiff(file):
            return None
        raise
    _check_size(image.size)
    if bands.is_odd_tiff(image):
        return None
    if bands.has_more_pages(image):
        bands.check_pages(file)
    return image


def header_of(image: Image.Image | Bands) -> Header:
    """Size, channels, bits and alpha of an image; a palette counts as the colours it shows."""
    if isinstance(image, Bands):
        return image.header
    mode = image.mode
    alpha = mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    grey = mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F"))
    bits = 16 if mode.startswith(("I", "F")) else 8
    return Header(image.size, (1 if grey else 3) + alpha, bits, alpha)


@contextmanager
def _reading(path: Path | Member) -> Iterator[BinaryIO]:
    """The file of an image; what goes wrong while it is read becomes an `UnreadableImageError` that names it."""
    if isinstance(path, Path):
        with _naming(path), open_file(path) as file:
            yield file
    else:
        with path.open() as file, _naming(path):  # what is wrong with an archive names the archive
            yield file


@contextmanager
def _naming(path: Path | Member) -> Iterator[None]:
    """Turns what goes wrong while a file is read into an `UnreadableImageError` that names it."""
    try:
        yield
    except DiptychError as problem:
        raise UnreadableImageError(f"{path}: {problem}") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"{path}: would decode to more than {2 * _most_pixels() / 1e6:.0f} megapixels (a decompression bomb?); "
            "shrink it or take it out, or raise --max-megapixels of diptych translate"
        ) from None
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: no such file") from None
    except UNREADABLE as problem:
        why = "not an image that can be read" if "cannot identify" in reason(problem) else reason(problem)
        raise UnreadableImageError(f"{path}: {why}; repair it or take it out of the folder") from None


def _most_pixels() -> int:
    return raised_limit.get() or MAX_PIXELS


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > _most_pixels():
        raise DiptychError(
            f"{width}x{height} pixels would decode to more than {_most_pixels() / 1e6:.0f} megapixels "
            "(a decompression bomb?); shrink it or take it out, or raise --max-megapixels of diptych translate"
        )


def _half_of(image: Image.Image | Bands, half: str, file: Path | Member) -> Image.Image | Bands:
    width, height = image.size
    middle = _half_width(width, half, file)
    left, right = (0, middle) if half == "left" else (middle, width)
    if isinstance(image, Bands):
        return Bands(image.values[:, left:right], image.alpha)
    return image.crop((left, 0, right, height))


def _half_width(width: int, half: str, file: Path | Member) -> int:
    if width % 2:
        raise UnreadableImageError(
            f"{file}: is {width} pixels wide, an odd number, so it has no {half} half; repair it or take it out of the "
            "folder"
        )
    return width // 2


def convertible(header: Header, channels: int) -> bool:
    """Whether an image becomes one of `channels`: grey and colour, with alpha or without, become each other."""
    known = header.channels in (1, 3) or (header.channels in (2, 4) and header.alpha)
    return header.channels == channels or (known and channels <= 4)


def check_samples(image: Image.Image | Bands, where: str) -> None:
    """Raises `DiptychError` for 32-bit, signed and float samples, of which nobody knows what is black and white."""
    if not isinstance(image, Bands) and image.mode == "LAB":
        raise DiptychError(f"{where}: holds CIELAB colours; save it as RGB")
    if not isinstance(image, Bands) and image.mode in ("I", "F"):
        raise DiptychError(f"{where}: {bands.unknown_scale('float' if image.mode == 'F' else '32-bit or signed')}")


def check_channels(header: Header, channels: int, where: str) -> None:
    """Raises `DiptychError` for other numbers of bands than become `channels`: they have no meaning to convert."""
    if not convertible(header, channels):
        stored = f"{header.channels} band{'s' if header.channels > 1 else ''}"
        raise DiptychError(
            f"{where}: has {stored} where {channels} {'are' if channels > 1 else 'is'} wanted; give other images, "
            f"or train with --a-channels (--b-channels) {header.channels}"
        )


def _samples_of(image: Image.Image | Bands) -> Bands:
    """The image's own samples, `(H, W, C)`: 8 bits or 16, grey or colour, with alpha where it has some."""
    if isinstance(image, Bands):
        return image
    header, mode = header_of(image), image.mode
    if mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)[..., None]  # (H, W, 1)
        if header.alpha:
            seen = np.where(values == image.info["transparency"], 0, 65535).astype(np.uint16)
            values = np.concatenate([values, seen], axis=2)
        return Bands(values, header.alpha)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[header.channels]
    own = image if image.mode == mode else image.convert("RGBA" if header.alpha else mode).convert(mode)
    values = np.asarray(own, np.uint8)
    return Bands(values[..., None] if values.ndim == 2 else values, header.alpha)


def _converted(samples: Bands, form: PixelFormat) -> Pixels:
    """Samples that are `convertible` in the channels and bits of `form`, `(H, W, C)`.

    Colour becomes grey by the luma of ITU-R 601, grey is repeated, what is transparent lies on white, what has no alpha
    is opaque; all at the file's own depth. Then 8 bits become 16 by x 257, and 16 become 8 by round(x / 257).
    """
    values, channels = samples.values, form.channels
    if values.shape[2] != channels:
        colour, alpha = (values[..., :-1], values[..., -1:]) if samples.alpha else (values, None)
        if alpha is not None and channels in (1, 3):
            colour = _on_white(colour, alpha)
        if channels in (1, 2) and colour.shape[2] == 3:
            colour = _luma(colour)
        elif channels in (3, 4) and colour.shape[2] == 1:
            colour = colour.repeat(3, axis=2)
        if channels in (2, 4):
            top = np.full_like(values[..., :1], np.iinfo(values.dtype).max)
            colour = np.concatenate([colour, top if alpha is None else alpha], axis=2)
        values = colour
    if form.bits == 16 and values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    if form.bits == 8 and values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return values


def _luma(colour: Pixels) -> Pixels:
    """`(H, W, 3)` -> `(H, W, 1)`, as Pillow's L: its integers, at either depth."""
    red, green, blue = (colour[..., band : band + 1].astype(np.uint32) for band in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(colour.dtype)


def _on_white(colour: Pixels, alpha: Pixels) -> Pixels:
    """`(H, W, C)` under its opacity `(H, W, 1)`, laid on white and rounded."""
    top = int(np.iinfo(colour.dtype).max)
    share = alpha.astype(np.uint64)
    return ((colour * share + top * (top - share) + top // 2) // top).astype(colour.dtype)


def resize_pixels(pixels: Pixels, size: tuple[int, int], resample: Image.Resampling) -> Pixels:
    """`(H, W, C)` at `size` = (width, height), each band by itself, antialiased; 16 bits by way of floats."""
    if pixels.shape[1::-1] == size:
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(Image.fromarray(pixels).resize(size, resample), np.uint8)
    deep = pixels.dtype == np.uint16
    resized = np.empty((size[1], size[0], pixels.shape[2]), pixels.dtype)
    for band in range(pixels.shape[2]):
        plane = np.ascontiguousarray(pixels[..., band], np.float32 if deep else np.uint8)
        values = np.asarray(Image.fromarray(plane).resize(size, resample))
        resized[..., band] = np.round(values).clip(0, 65535) if deep else values
    return resized


def rgb(image: Image.Image | Bands, where: str = "the image") -> Image.Image:
    """The image as people look at it, 8-bit RGB: of other numbers of bands the first three, or the first as grey."""
    if not isinstance(image, Bands) and image.mode == "RGB" and "transparency" not in image.info:
        return image
    check_samples(image, where)
    samples = _samples_of(image)
    return Image.fromarray(_converted(samples, RGB) if convertible(samples.header, 3) else view(samples.values))


def view(pixels: Pixels) -> NDArray[np.uint8]:
    """A domain's pixels `(H, W, C)` as people look at them, uint8 `(H, W, 3)`: the first three bands, or grey."""
    shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    return np.asarray(_converted(Bands(shown), RGB), np.uint8)


def pixels_of(
    image: Image.Image | Bands,
    size: tuple[int, int] | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    form: PixelFormat = RGB,
    where: str = "the image",
) -> Pixels:
    """The picture in the channels and bits of `form`, `(H, W, C)`, resized (bicubic, antialiased) to `size` if given.

    `size` is (width, height). Raises `DiptychError` naming `where` for an image that `form` cannot hold.
    """
    if form == RGB and not isinstance(image, Bands) and image.mode == "RGB" and "transparency" not in image.info:
        if size is not None and image.size != size:
            image = image.resize(size, resample)
        return np.asarray(image, np.uint8)
    check_samples(image, where)
    check_channels(header_of(image), form.channels, where)
    pixels = _converted(_samples_of(image), form)
    return pixels if size is None else resize_pixels(pixels, size, resample)


def read_pixels(
    path: Path | Member,
    size: tuple[int, int] | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    form: PixelFormat = RGB,
) -> Pixels:
    """`pixels_of` the image file at `path`."""
    return pixels_of(open_image(path), size, resample, form, spoken(path))


def read_view(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The image file at `path` as people and backbones look at it, uint8 `(H, W, 3)`, whatever its bands and depth."""
    return np.asarray(pixels_of(rgb(open_image(path), spoken(path)), size), np.uint8)


def to_image(pixels: Pixels) -> Image.Image:
    """Pixels `(H, W, C)` as Pillow holds them: L, LA, RGB, RGBA, or I;16; raises `DiptychError` for any other."""
    channels = pixels.shape[2]
    if channels > 4 or (channels > 1 and pixels.dtype == np.uint16):
        raise DiptychError(
            f"Pillow holds no image of {channels} bands of {8 * pixels.dtype.itemsize} bits; take the array that "
            "Translator.pixels gives, or the files of diptych translate"
        )
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def file_suffix(channels: int) -> str:
    """What files of so many channels are written as: PNG as far as it goes, else TIFF."""
    return ".png" if channels <= 4 else ".tif"


def write_pixels(path: Path, pixels: Pixels) -> None:
    """Replace `path` by the pixels `(H, W, C)`, every bit of them, in one move; a suffix .tif makes it a TIFF.

    PNG takes up to four channels: grey, grey and alpha, RGB, RGBA.
    """
    write_bytes(path, encoded(pixels, path.suffix), lasting=False)


def encoded(pixels: Pixels, suffix: str) -> bytes:
    """The file that `write_pixels` writes at a path of that suffix."""
    if suffix == ".tif":
        return bands.tiff_bytes(pixels)
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        return bands.png_bytes(pixels)
    data = BytesIO()
    to_image(pixels).save(data, "PNG")
    return data.getvalue()


def to_float(pixels: Pixels) -> Floats:
    """uint8 or uint16 `(H, W, C)`, from 0 to all bits set -> float32 `(C, H, W)` in [-1, 1]."""
    middle = np.float32(np.iinfo(pixels.dtype).max / 2)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / middle - np.float32(1)


def to_pixels(values: Floats, bits: int = 8) -> Pixels:
    """float `(C, H, W)` in [-1, 1] -> uint8 or uint16 `(H, W, C)`, rounded and clipped; the inverse of `to_float`."""
    top = 2**bits - 1
    scaled = np.round((values.transpose(1, 2, 0).astype(np.float32) + 1) * np.float32(top / 2))
    return scaled.clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a label domain, a row each of file id, name and colour; `void` is the row nobody is scored on."""

    ids: tuple[int, ...]
    names: tuple[str, ...]
    colours: Pixels  # (K, 3), a row per class
    void: int | None

    def __len__(self) -> int:
        return len(self.ids)

    def paint(self, rows: ClassMap) -> Pixels:
        """Class rows `(H, W)` -> their colours, uint8 `(H, W, 3)`."""
        return np.asarray(self.colours[rows], np.uint8)

    @property
    def kept(self) -> NDArray[np.int64]:
        """The rows that can be predicted, all but void's, `(K',)`: what a class logit's channel stands for."""
        return np.array([row for row in range(len(self)) if row != self.void])

    @property
    def palette(self) -> Floats:
        """The colours of `kept` in [-1, 1], `(K', 3)`."""
        return to_float(self.colours[self.kept][None])[:, 0].T

    def targets(self, rows: ClassMap) -> NDArray[np.int64]:
        """Class rows `(H, W)` -> places in `kept`, and `VOID`: what torch's cross-entropy wants."""
        places = np.full(len(self), VOID)
        places[self.kept] = range(len(self.kept))
        return places[rows]

    def nearest(self, values: Floats) -> ClassMap:
        """Colours in [-1, 1], float `(3, H, W)` -> the class row of the nearest colour, `(H, W)`; never void."""
        rows = self.kept
        colours = self.colours[rows].astype(np.float32) / 127.5 - 1  # (K', 3)
        flat = values.reshape(3, -1)  # (3, H*W)
        nearest = np.empty(flat.shape[1], np.uint8)
        for start in range(0, len(nearest), PIXELS_AT_ONCE):
            part = flat[:, start : start + PIXELS_AT_ONCE].T.astype(np.float32)  # (n, 3)
            # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, whose first term is the same for every class.
            distance = (colours**2).sum(1) - 2 * (part @ colours.T)  # (n, K')
            nearest[start : start + PIXELS_AT_ONCE] = rows[distance.argmin(1)]
        return nearest.reshape(values.shape[1:])

    def to_image(self, rows: ClassMap) -> Image.Image:
        """Class rows `(H, W)` -> a palette image whose pixel values are the class ids of the files."""
        palette = np.zeros((256, 3), np.uint8)
        palette[list(self.ids)] = self.colours
        image = Image.fromarray(np.array(self.ids, np.uint8)[rows])
        image.putpalette(palette.tobytes())
        return image


def read_classes(path: Path) -> Classes:
    """Read `classes.csv` with the columns id, name, red, green, blue (ids and colours 0..255).

    Raises `DiptychError` for a missing file or column, a value out of range, or an id or colour given twice.
    """
    _, table = read_table(path, "id,name,red,green,blue")
    if len(table) > 256:
        raise DiptychError(f"{path}: names {len(table)} classes, where ids 0..255 are 256 at most; take some out")
    numbers, names = [], []
    for line, row in enumerate(table, start=2):
        try:
            values = [int(row[key]) for key in ("id", "red", "green", "blue")]
            names.append(row["name"].strip())
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DiptychError(f"{path}: line {line} is not id,name,red,green,blue with whole numbers") from None
        if not all(0 <= value <= 255 for value in values):
            raise DiptychError(f"{path}: line {line} has a value outside 0..255")
        numbers.append(values)
    if not any(name.lower() not in VOID_NAMES for name in names):
        raise DiptychError(f"{path}: names no class; give a CSV with id,name,red,green,blue")
    ids = [values[0] for values in numbers]
    colours = [tuple(values[1:]) for values in numbers]
    for what, entries in (("id", ids), ("colour", colours), ("name", names)):
        twice = [entry for index, entry in enumerate(entries) if entry in entries[:index]]
        if twice:
            raise DiptychError(f"{path}: the {what} {twice[0]} stands there twice; give each class its own")
    voids = [row for row, name in enumerate(names) if name.lower() in VOID_NAMES]
    if len(voids) > 1:
        raise DiptychError(f"{path}: more than one void class ({some(names[row] for row in voids)}); keep one")
    return Classes(tuple(ids), tuple(names), np.array(colours, np.uint8), voids[0] if voids else None)


def classes_to_record(classes: Classes | None) -> dict[str, Any] | None:
    """The classes as plain values, which `SavedClasses` checks on reading."""
    if classes is None:
        return None
    return {
        "ids": list(classes.ids),
        "names": list(classes.names),
        "colours": classes.colours.tolist(),
        "void": classes.void,
    }


def classes_from_record(record: SavedClasses | None) -> Classes | None:
    """The classes that `classes_to_record` gave."""
    if record is None:
        return None
    return Classes(record.ids, record.names, np.array(record.colours, np.uint8), record.void)


def class_map_of(
    image: Image.Image | Bands, classes: Classes, where: str, size: tuple[int, int] | None = None
) -> ClassMap:
    """A class map as rows of `classes`, uint8 `(H, W)`, resized (nearest) to `size` = (width, height) where given.

    Grey images hold class ids and RGB images hold class colours. Palette images hold class ids, unless the palette
    itself says otherwise: its used entries all show classes, each its own, and most of them *another* than their id.
    Raises `DiptychError` naming `where` and the values that `classes` does not know, or where it cannot be told whether
    the ids or the palette are meant.
    """
    if isinstance(image, Bands):
        count, bits = image.header.channels, image.header.bits
        if count > 4 or (count > 2 and bits > 8):
            raise DiptychError(
                f"{where}: has {count} bands of {bits} bits; a class map has one band of ids, or colours of 8 bits"
            )
        values = image.values[..., :3] if count > 2 else image.values[..., 0]
    elif image.mode == "P":
        indices = np.asarray(image)
        shown = np.asarray(image.convert("RGB"))
        values = shown if _palette_overrules_ids(image, indices, shown, classes, where) else indices
    elif image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
        values = np.asarray(image.convert("RGB"))
    elif image.mode == "1":
        values = np.asarray(image.convert("L")) // 255
    else:
        values = np.asarray(image)[..., 0] if image.mode in ("LA", "PA") else np.asarray(image)
    rows, unknown = _rows_by_colour(values, classes) if values.ndim == 3 else _rows_by_id(values, classes)
    if len(unknown) > LOOKS_LIKE_A_PHOTO:
        raise DiptychError(
            f"{where}: {len(unknown)} of its colours are not in the classes file, so it is a photo, or a class map "
            "saved as JPEG; are the two sides swapped?"
        )
    if unknown:
        raise DiptychError(
            f"{where}: holds the {'colours' if values.ndim == 3 else 'ids'} {some(unknown)}, "
            "not in the classes file; add them there (as void, say) or mend the class map"
        )
    if size is not None and image.size != size:
        # Only now: a smaller image may miss the very entries that say how its palette is meant.
        return np.asarray(Image.fromarray(rows).resize(size, Image.Resampling.NEAREST), np.uint8)
    return rows


def read_class_map(path: Path | Member, classes: Classes, size: tuple[int, int] | None = None) -> ClassMap:
    """`class_map_of` the image file at `path`."""
    return class_map_of(open_image(path), classes, spoken(path), size)


def _palette_overrules_ids(
    image: Image.Image, indices: NDArray[np.uint8], shown: Pixels, classes: Classes, where: str
) -> bool:
    used, first = np.unique(indices, return_index=True)
    colours = [tuple(colour) for colour in shown.reshape(-1, 3)[first].tolist()]
    row_of = {tuple(colour): row for row, colour in enumerate(classes.colours.tolist())}
    by_id = dict(zip(classes.ids, range(len(classes)), strict=True))
    meant = [row_of.get(colour) for colour in colours]
    others = [place for place, index in enumerate(used.tolist()) if by_id.get(index) != meant[place]]
    if not others or None in meant or len(set(meant)) < len(meant):
        return False
    if 1 < len(meant) < 2 * len(others):
        return True
    # An entry that was never set shows black, which is often void's colour: it does not speak for the others.
    entries = [*zip(*[iter(image.getpalette("RGB") or [])] * 3, strict=True)]
    unset = entries.count(BLACK) > 1
    for place in others:
        index, row = int(used[place]), meant[place]
        if colours[place] == BLACK and (unset or index not in by_id or index >= len(entries)):
            continue
        if index not in by_id:
            return True
        assert row is not None
        shows, stands_for = classes.names[row], classes.names[by_id[index]]
        raise DiptychError(
            f"{where}: its palette shows {shows} for id {index}, which is {stands_for} in the classes file; save it as "
            "RGB if its colours are right, or as grey if its ids are"
        )
    return False


def _rows_by_id(values: NDArray[np.generic], classes: Classes) -> tuple[ClassMap, list[str]]:
    whole = values.astype(np.int64)
    row_of = np.full(257, -1, np.int64)
    row_of[list(classes.ids)] = range(len(classes))
    rows = row_of[np.where((whole < 0) | (whole > 255), 256, whole)]
    unknown = np.unique(whole[rows < 0])
    return rows.astype(np.uint8), [str(value) for value in unknown]


def _rows_by_colour(values: Pixels, classes: Classes) -> tuple[ClassMap, list[str]]:
    def pack(colours: Pixels) -> NDArray[np.int64]:
        packed: NDArray[np.int64] = colours.astype(np.int64) @ np.array([65536, 256, 1])
        return packed

    known = pack(classes.colours)
    order = np.argsort(known)
    packed = pack(values)
    rows = order[np.searchsorted(known[order], packed).clip(max=len(order) - 1)]
    missing = np.unique(packed[known[rows] != packed])
    return rows.astype(np.uint8), [str((value >> 16, value >> 8 & 255, value & 255)) for value in missing.tolist()]
