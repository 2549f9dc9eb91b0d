"""Image files to arrays and back: the only place where pixel values are rescaled, and where class maps meet colours.

Pixels are uint8 `(H, W, 3)` as stored and float32 `(C, H, W)` in [-1, 1] as networks see them. A class map is uint8
`(H, W)` holding *rows* of its `Classes` table (0 .. K-1), whatever ids the files use.
"""

import csv
import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from diptych.errors import DiptychError, some

Pixels = NDArray[np.uint8]  # (H, W, 3)
ClassMap = NDArray[np.uint8]  # (H, W), rows of a Classes table
Floats = NDArray[np.float32]  # (C, H, W) in [-1, 1]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: a quarter of a gigabyte as RGB
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # open_image refuses such files by itself
PIXELS_AT_ONCE = 2**18  # while classes are decided: a table of distances of some 20 MB
LOOKS_LIKE_A_PHOTO = 100  # unknown colours
VOID_NAMES = frozenset({"void", "ignore", "unlabelled", "unlabeled"})
UPRIGHT = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(DiptychError):
    """A file that is no image, is damaged, or would decode to an unreasonable size."""


def list_images(folder: Path) -> list[str]:
    """Names of the images below `folder`, sorted, relative, with forward slashes.

    Raises `DiptychError` where the folder is missing or holds no image.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DiptychError(f"{folder}: {what}; give the folder that holds the images")
    found = []
    seen = set()  # links may lead round in a circle
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append((Path(root) / name).relative_to(folder).as_posix())
    if not found:
        raise DiptychError(
            f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}); give the folder that holds them"
        )
    return sorted(found)


def open_image(path: Path) -> Image.Image:
    """The decoded image, turned upright by its EXIF tag, in the mode it was stored.

    Raises `UnreadableImageError` naming the file.
    """
    try:
        # Pillow would map a file that it opens by name, and then scrambles grey TIFFs stored on their side.
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImageError(
                    f"{path}: {width}x{height} pixels would decode to more than {MAX_PIXELS / 1e6:.0f} megapixels "
                    "(a decompression bomb?); shrink it or take it out"
                )
            image.load()
            # ImageOps.exif_transpose would also rewrite the tags, and fails where a camera wrote odd ones.
            turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            return image.copy() if turn is None else image.transpose(turn)
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"{path}: would decode to more than {2 * MAX_PIXELS / 1e6:.0f} megapixels (a decompression bomb?); "
            "shrink it or take it out"
        ) from None
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: no such file") from None
    except (OSError, SyntaxError, TypeError, ValueError, EOFError, struct.error) as problem:
        why = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        why = "not an image that can be read" if "cannot identify" in why else why
        raise UnreadableImageError(f"{path}: {why}; repair it or take it out of the folder") from None


def rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB; 16-bit grey is scaled rather than clipped, and transparency lies on white."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        brightest = values.max(initial=0)
        top = max(brightest, 65535.0 if image.mode.startswith("I") and brightest > 255 else 255.0)
        image = Image.fromarray(np.round(values.clip(0, None) * (255.0 / top)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def pixels_of(
    image: Image.Image, size: tuple[int, int] | None = None, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Pixels:
    """The picture as uint8 `(H, W, 3)`, resized (bicubic, antialiased) to `size` = (width, height) where given."""
    image = rgb(image)
    if size is not None and image.size != size:
        image = image.resize(size, resample)
    return np.asarray(image, np.uint8)


def read_pixels(
    path: Path, size: tuple[int, int] | None = None, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Pixels:
    """`pixels_of` the image file at `path`."""
    return pixels_of(open_image(path), size, resample)


def to_float(pixels: Pixels) -> Floats:
    """uint8 `(H, W, C)` in 0..255 -> float32 `(C, H, W)` in [-1, 1]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(127.5) - np.float32(1)


def to_pixels(values: Floats) -> Pixels:
    """float `(C, H, W)` in [-1, 1] -> uint8 `(H, W, C)`, rounded and clipped; the inverse of `to_float`."""
    scaled = np.round((values.transpose(1, 2, 0).astype(np.float32) + 1) * 127.5)
    return scaled.clip(0, 255).astype(np.uint8)


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

    def targets(self, rows: ClassMap) -> NDArray[np.int64]:
        """Class rows `(H, W)` -> places in `kept`, and -100 for void: what torch's cross-entropy wants."""
        places = np.full(len(self), -100)
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
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DiptychError(f"{path}: cannot be read ({problem}); give a CSV with id,name,red,green,blue") from None
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


def class_map_of(image: Image.Image, classes: Classes, where: str, size: tuple[int, int] | None = None) -> ClassMap:
    """A class map as rows of `classes`, uint8 `(H, W)`, resized (nearest) to `size` = (width, height) where given.

    Grey images hold class ids and RGB images hold class colours. Palette images hold class ids, unless the palette
    itself says otherwise: its used entries all show classes, each its own, and most of them *another* than their id.
    Raises `DiptychError` naming `where` and the values that `classes` does not know.
    """
    if image.mode == "P":
        indices = np.asarray(image)
        shown = np.asarray(image.convert("RGB"))
        values = shown if _palette_overrules_ids(indices, shown, classes) else indices
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


def read_class_map(path: Path, classes: Classes, size: tuple[int, int] | None = None) -> ClassMap:
    """`class_map_of` the image file at `path`."""
    return class_map_of(open_image(path), classes, str(path), size)


def _palette_overrules_ids(indices: NDArray[np.uint8], shown: Pixels, classes: Classes) -> bool:
    used, first = np.unique(indices, return_index=True)
    colours = shown.reshape(-1, 3)[first]
    by_colour = {tuple(colour): id_ for id_, colour in zip(classes.ids, classes.colours.tolist(), strict=True)}
    meant = [by_colour.get(tuple(colour)) for colour in colours.tolist()]
    # A stray id mostly shows black, which is often void's colour: one such entry does not speak for the others.
    others = sum(id_ != index for id_, index in zip(meant, used.tolist(), strict=True))
    return None not in meant and 1 < len(set(meant)) == len(meant) < 2 * others


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
