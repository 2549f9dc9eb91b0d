"""Features that somebody else computed: a .npy file, of which never more than a part is in memory, and whose images.

FILE.txt beside FILE.npy names the image of each row, one a line, from the folder of the images. Without it the rows are
all images of the folder, sorted by name as `list_images` sorts them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from diptych.errors import DiptychError, reason, some
from diptych.reading import open_file, read_text

PART = 10_000  # rows that are looked through at a time
LARGEST = 1e15  # squares of greater numbers, added up, are beyond float32
UNREADABLE = (*(OSError, ValueError, TypeError, OverflowError), *(SyntaxError, TokenError, RecursionError, MemoryError))
"""What numpy raises for a damaged header, depending on the byte."""
WANTED = "numpy.save an array (images, numbers) of float16 or float32"


def is_stored(features: str) -> bool:
    """Whether the setting `features` names a file instead of an extractor."""
    return Path(features).suffix == ".npy"


def open_features(path: Path) -> NDArray[Any]:
    """The features in a .npy file, float16 or float32 `(N, D)`, mapped: rows are read when they are asked for.

    Raises `DiptychError` for anything else, and for a file that is cut short. The numbers are not looked at.
    """
    try:
        with open_file(path) as file:
            version = npy.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise DiptychError(f"{path}: is of version {version[0]}.{version[1]} of the format; {WANTED}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, by_column, dtype = read(file)
            if len(shape) != 2 or min(shape) < 1 or dtype not in (np.float16, np.float32):
                raise DiptychError(f"{path}: holds {dtype} of the shape {shape}; {WANTED}")
            if by_column and min(shape) > 1:
                raise DiptychError(f"{path}: is stored column by column; save numpy.ascontiguousarray of it")
            held = path.stat().st_size - file.tell()
            if held < shape[0] * shape[1] * dtype.itemsize:
                raise DiptychError(f"{path}: is cut short, {held} bytes for the shape {shape}; write it again")
            return np.memmap(file, dtype, "r", file.tell(), shape)
    except UNREADABLE as problem:
        raise DiptychError(f"{path}: cannot be read as features ({reason(problem)}); {WANTED}") from None


def names_of_rows(path: Path, rows: int, images: Sequence[str], folder: Path) -> list[str]:
    """The image of each of the `rows` rows of the features at `path`; `images` are those of `folder`, sorted.

    Raises `DiptychError` where there are more names or fewer, and for a name that `folder` does not hold or that is
    there twice.
    """
    list_ = path.with_suffix(".txt")
    if not list_.exists():
        if len(images) != rows:
            raise DiptychError(
                f"{path}: has {rows} rows for the {len(images)} images of {folder}; write the name of each row's "
                f"image into {list_}, one a line"
            )
        return list(images)
    try:
        names = [line.removesuffix("\r") for line in read_text(list_).removesuffix("\n").split("\n")]
    except (OSError, UnicodeDecodeError) as problem:
        raise DiptychError(f"{list_}: cannot be read ({reason(problem)}); write names in UTF-8, one a line") from None
    if len(names) != rows:
        raise DiptychError(f"{list_}: has {len(names)} lines for the {rows} rows of {path}; write one for each row")
    present = set(images)
    absent = [name for name in names if name not in present]
    if absent:
        raise DiptychError(f"{list_}: {some(absent)} is not in {folder}; write names as seen from that folder")
    if len(set(names)) < rows:
        twice = Counter(names).most_common(1)[0][0]
        raise DiptychError(f"{list_}: {twice} is there twice; keep one row of each image")
    return names


def check_numbers(path: Path, features: NDArray[Any], progress: Callable[[int, int], None] | None = None) -> None:
    """Raises `DiptychError` for NaN, infinity and numbers beyond `LARGEST` in the features `(N, D)` of `path`."""
    for start in range(0, len(features), PART):
        rows = features[start : start + PART]
        greatest = np.maximum(rows.max(1), -rows.min(1)).astype(np.float32)  # (n,), NaN where a row holds one
        fine = greatest <= LARGEST
        if not fine.all():
            row = start + int(fine.argmin())
            raise DiptychError(
                f"{path}: row {row} (counted from 0) holds NaN, infinity or a number beyond {LARGEST:g}; "
                "compute it again, or leave its image out"
            )
        if progress is not None:
            progress(start + len(rows), len(features))
