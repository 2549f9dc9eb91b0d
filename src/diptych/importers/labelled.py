"""Photos and class maps of a dataset -> folders of links, of the same names on both sides. Only ids are changed."""

import errno
import os
import shutil
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.display import Display
from diptych.errors import DiptychError, some
from diptych.files import PART, write_png, write_text
from diptych.images import SUFFIXES, Classes, class_map_of, open_image, read_header
from diptych.layouts import FILE, Layout

BEGUN = "import.json"  # beside what an import has made so far
Split = Literal["train", "val", "test"]
Rows = NDArray[np.int16]  # (256,), id in a file -> row of a Classes table, -1 where it is no id of the dataset
NO_SYMLINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EINVAL)
NO_HARDLINKS = (*NO_SYMLINKS, errno.EXDEV, errno.EMLINK)


@dataclass(frozen=True)
class Pair:
    """A photo and its class map, and what both are called from now on."""

    name: str
    photo: Path
    label: Path
    rows: Rows | None = None  # None where the ids of the file are those of the classes already


@dataclass(frozen=True)
class Labelled:
    """A dataset of photos (a) and class maps (b)."""

    splits: Mapping[Split, Sequence[Pair]]
    classes: Classes
    notes: tuple[str, ...] = ()
    leave_out_misfits: bool = False  # pairs of different size, instead of stopping there


class Links:
    """Makes links, hard links where the filesystem knows no others, and copies where it knows none.

    Within the folder `out` they are relative, so that it may be moved; those that lead out of it are absolute.
    """

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.kinds: set[str] = set()

    def link(self, target: Path, source: Path) -> None:
        """Let `target` be the file `source`; its folder is there. What is at `target` is replaced."""
        part = target.with_name(f"{PART}{threading.get_ident()}-{target.name}")
        part.unlink(missing_ok=True)
        source = source.resolve()
        try:
            inside = source.is_relative_to(self.out)
            part.symlink_to(os.path.relpath(source, target.parent.resolve()) if inside else source)
            kind = "links"
        except OSError as problem:
            if problem.errno not in NO_SYMLINKS:
                raise
            try:
                part.hardlink_to(source)
                kind = "hard links"
            except OSError as problem:
                if problem.errno not in NO_HARDLINKS:
                    raise
                shutil.copyfile(source, part)
                kind = "copies"
        part.replace(target)
        part.unlink(missing_ok=True)  # a hard link that is put in the place of itself stays
        self.kinds.add(kind)


def write_labelled(dataset: Labelled, out: Path, display: Display) -> Layout:
    """Write SPLIT/photos, SPLIT/labels and classes.csv into `out`; what an earlier start has finished stays.

    Every class map is read once. Raises `DiptychError` for one that holds an unknown id or colour, for a file that
    cannot be read, and for a pair of different size, unless these are to be left out.
    """
    for note in dataset.notes:
        display.note(note)
    if not dataset.splits.get("train"):
        raise DiptychError("the dataset has no images for training; give it whole")
    links = Links(out)
    for split, pairs in dataset.splits.items():
        _check_names(pairs)
        photos, labels = out / split / "photos", out / split / "labels"
        photos.mkdir(parents=True, exist_ok=True)
        labels.mkdir(exist_ok=True)
        misfits = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            # A few at a time: the futures of a hundred thousand images would hold on to as many answers.
            waiting = deque(pairs)
            under_way = deque(
                threads.submit(_write_pair, waiting.popleft(), photos, labels, dataset, links)
                for _ in range(min(len(pairs), 4 * (os.cpu_count() or 1)))
            )
            done = 0
            try:
                while under_way:
                    if misfit := under_way.popleft().result():
                        misfits.append(misfit)
                    if waiting:
                        under_way.append(threads.submit(_write_pair, waiting.popleft(), photos, labels, dataset, links))
                    done += 1
                    display.count(f"importing {split}", done, len(pairs))
            finally:
                for future in under_way:
                    future.cancel()
        if misfits:
            display.note(f"{split}: left out, photo and labels differ in size: {some(misfits)}")
        if len(misfits) == len(pairs):
            raise DiptychError(f"{split}: no photo has the size of its class map; are these of one dataset?")
    if links.kinds - {"links"}:
        display.note(f"{out}: this filesystem allows no links, so there are {' and '.join(sorted(links.kinds))}")
    _write_classes(out / "classes.csv", dataset.classes)
    places = {
        f"{prefix}{side}": out / split / folder
        for split, prefix in (("train", ""), ("val", "val_"), ("test", "test_"))
        if split in dataset.splits
        for side, folder in (("a", "photos"), ("b", "labels"))
    }
    return Layout(
        places["a"],
        places["b"],
        places.get("val_a"),
        places.get("val_b"),
        places.get("test_a"),
        places.get("test_b"),
        b_classes=out / "classes.csv",
    )


def _write_pair(pair: Pair, photos: Path, labels: Path, dataset: Labelled, links: Links) -> str | None:
    """Write both sides, the photo last; return what does not fit together, where that is left out."""
    photo = photos / f"{pair.name}{pair.photo.suffix}"
    label = labels / f"{pair.name}{'.png' if pair.rows is not None else pair.label.suffix}"
    if photo.exists() and label.exists():
        return None
    image = open_image(pair.label)
    (width, height), (label_width, label_height) = read_header(pair.photo).size, image.size
    if (width, height) != (label_width, label_height):
        sizes = f"{width}x{height} and {label_width}x{label_height}"
        if dataset.leave_out_misfits:
            return f"{pair.name} ({sizes})"
        raise DiptychError(
            f"{pair.photo} and {pair.label} are {sizes} pixels: no pair; mend one or take both out of the dataset"
        )
    if pair.rows is None:
        class_map_of(image, dataset.classes, str(pair.label))
        links.link(label, pair.label)
    else:
        values = np.asarray(image) if isinstance(image, Image.Image) else image.values
        write_png(label, dataset.classes.to_image(_looked_up(values, pair.rows, pair.label)))
    links.link(photo, pair.photo)
    return None


def _looked_up(values: NDArray[np.generic], rows: Rows, file: Path) -> NDArray[np.uint8]:
    """Ids `(H, W)` -> rows of the classes, `(H, W)`."""
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise DiptychError(f"{file}: is no map of class ids, but colours; give the dataset's own files")
    ids = values.astype(np.int64)
    looked_up = rows[ids.clip(0, 255)]
    unknown = np.unique(ids[(looked_up < 0) | (ids < 0) | (ids > 255)])
    if len(unknown):
        raise DiptychError(f"{file}: holds the ids {some(map(str, unknown))}, which the dataset does not have; mend it")
    found: NDArray[np.uint8] = looked_up.astype(np.uint8)
    return found


def _check_names(pairs: Sequence[Pair]) -> None:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        other = seen.setdefault(pair.name, pair)
        if other is not pair:
            raise DiptychError(f"{pair.photo} and {other.photo} have the same name; take one of them out")


def _write_classes(file: Path, classes: Classes) -> None:
    lines = ["id,name,red,green,blue"]
    for id_, name, colour in zip(classes.ids, classes.names, classes.colours.tolist(), strict=True):
        lines.append(",".join(map(str, (id_, name, *colour))))
    write_text(file, "\n".join([*lines, ""]))


def find_folders(source: Path, name: str, depth: int = 3) -> list[Path]:
    """The folders called `name` in `source` or up to so many folders further down, the nearest first.

    What an import has made, or is making, is left out: its class maps are no originals.
    """
    found, level = [], [source]
    for _ in range(depth + 1):
        below = [
            Path(entry.path)
            for folder in level
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")) and not _imported(Path(entry.path))
        ]
        found += [folder for folder in below if folder.name == name]
        level = [folder for folder in below if folder.name != name]
    return found


def _imported(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (FILE, BEGUN))


def files_by_stem(folder: Path, end: str = "") -> dict[str, Path]:
    """The images right in `folder` whose stem ends in `end`, by the rest of it.

    Raises `DiptychError` for two of the same stem.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.stem.endswith(end) and not file.name.startswith("."):
            stem = file.stem.removesuffix(end)
            if stem in found:
                raise DiptychError(f"{file} and {found[stem].name} have the same stem; keep one of them")
            found[stem] = file
    return found


def matched(photos: Mapping[str, Path], labels: Mapping[str, Path], where: str) -> list[str]:
    """The names that both sides have, all of them.

    Raises `DiptychError` naming `where` and what is there on one side only.
    """
    for these, those, what in ((photos, labels, "class map"), (labels, photos, "photo")):
        alone = sorted(these.keys() - those.keys())
        if alone:
            raise DiptychError(
                f"{where}: there is no {what} to {some(str(these[name]) for name in alone)}; "
                "is the dataset unpacked whole?"
            )
    return sorted(photos)
