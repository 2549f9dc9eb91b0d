"""A dataset as it lies on disk -> which of its folders is what, so that `--data DIR` is all that has to be said."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from diptych.errors import DiptychError, nearest
from diptych.files import write_text
from diptych.images import SHARDS, list_images, read_header, real_path
from diptych.pairs import read_rows, same_stem
from diptych.reading import is_address, is_file, leads_out
from diptych.recipes import read_yaml

FILE = "dataset.yaml"
BESIDE = "folders as CycleGAN has them"
HALVES = "side-by-side images as pix2pix has them, whose left halves are a"
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Split -> what its folder may be called; letters may be large or small."""
UNDERSTOOD = (
    f"{FILE}; trainA, trainB (and valA, valB, testA, testB); train (and val, test) of side-by-side images; the folders "
    "a and b, alone, in train (val, test) or with train (val, test) in them; a CSV of pairs in two folders beside it"
)

SIDES = {
    *("photo", "photos", "image", "images", "img", "imgs", "input", "inputs", "satellite", "aerial", "sketch", "edges"),
    *("label", "labels", "mask", "masks", "annotation", "annotations", "gt", "target", "targets", "map", "maps"),
}
"""What a folder of one domain is often called, in small letters."""
TABLES = ("a_classes", "b_classes")  # .csv, beside the folders or the pairs
LOOKED_AT = 3  # images of each split, whether they can be two side by side

Sides = tuple[Path, Path]  # the folders of a and of b


@dataclass(frozen=True)
class Layout:
    """The folders of a dataset, halves of side-by-side images among them, and its tables; None for what is not there.

    `pairs` is a CSV of pairs. `val_paired` says whether the validation images have partners of the same stem.
    `recognised` says in words what was found.
    """

    a: Path
    b: Path
    val_a: Path | None = None
    val_b: Path | None = None
    test_a: Path | None = None
    test_b: Path | None = None
    a_classes: Path | None = None
    b_classes: Path | None = None
    pairs: Path | None = None
    val_paired: bool = True
    recognised: str = ""

    def swapped(self) -> "Layout":
        """The same with domain b as a; raises `DiptychError` where a CSV of pairs says otherwise."""
        if self.pairs is not None:
            raise DiptychError(f"--swap: {self.pairs} lists a before b; give --a, --b and --pairs instead of --data")
        return replace(
            self,
            a=self.b,
            b=self.a,
            val_a=self.val_b,
            val_b=self.val_a,
            test_a=self.test_b,
            test_b=self.test_a,
            a_classes=self.b_classes,
            b_classes=self.a_classes,
            recognised=f"{self.recognised}; swapped, so that a is what would be b",
        )

    def pairs_for(self, wanted: str | None) -> str | None:
        """What `--pairs wanted` means here: where a CSV of pairs lies at hand, that is all of them.

        Raises `DiptychError` for a number, as images of the same stem are no pairs then.
        """
        if self.pairs is None:
            return wanted
        if wanted is not None and wanted.isdecimal():
            raise DiptychError(
                f"--pairs {wanted}: the pairs of --data are those of {self.pairs}; copy so many of its lines into a "
                "CSV for --pairs, or give --pairs all"
            )
        return str(self.pairs) if wanted in (None, "all") else wanted


PATHS = ("a", "b", "val_a", "val_b", "test_a", "test_b", "a_classes", "b_classes", "pairs")
"""The keys of dataset.yaml, besides `about`, which is for the reader alone."""


def read_layout(folder: Path, swap: bool = False) -> Layout:
    """What of `folder` is which domain and split, by its dataset.yaml or by the names of its folders.

    A CSV of pairs, which names the images from its own folder, may take its place. The paths in a dataset.yaml are
    absolute, which is allowed since the file is the person's own, or relative to its folder; relative ones must not
    lead out of it. Raises `DiptychError` for such, and for a folder that follows none of the layouts.
    """
    if is_address(str(folder)) or is_file(folder / SHARDS):
        raise DiptychError(f"--data {folder}: only diptych train reads shards; give the folders they were packed from")
    file = folder if folder.is_file() else folder / FILE
    if file.suffix.lower() == ".csv" and file.is_file():
        layout = _from_pairs(file)
    elif file.is_file():
        layout = _with_pairing(_from_file(file))
    elif not folder.is_dir():
        raise DiptychError(f"--data {folder}: no such folder; give one that holds a dataset")
    else:
        layout = recognise(folder)
    return layout.swapped() if swap else layout


def recognise(folder: Path, wanted: str | None = None) -> Layout:
    """What of `folder` is what by the names of its folders alone: a dataset.yaml from elsewhere may name any file.

    Raises `DiptychError` where they follow none of `NAMINGS`, or not the one that is `wanted`.
    """
    answers = ((kind, find(folder)) for kind, find in NAMINGS.items())
    kind, found = next(((kind, found) for kind, found in answers if "train" in found), ("", {}))
    if not found:
        raise DiptychError(f"--data {folder}: not understood; what is: {UNDERSTOOD}. Or give --a and --b")
    if wanted not in (None, kind):
        raise DiptychError(f"{folder}: holds {kind}, and not {wanted}; give the dataset as its authors have it")
    paths: dict[str, Any] = {
        ("" if split == "train" else f"{split}_") + side: path
        for split, sides in found.items()
        for side, path in zip("ab", sides, strict=True)
    }
    tables = (folder / f"{name}.csv" for name in (*TABLES, "pairs"))
    paths |= {table.stem: table for table in tables if table.is_file()}
    named = ", ".join(_named(path, folder) for path in paths.values())
    return _with_pairing(Layout(**paths, recognised=f"{folder}: {kind}: {named}"))


def _with_pairing(layout: Layout) -> Layout:
    """The same, which says whether the validation images have partners."""
    if layout.val_a is not None and layout.val_b is not None and not _paired(layout.val_a, layout.val_b):
        words = f"{layout.recognised}; its validation images are no pairs, so that training does without them"
        return replace(layout, val_paired=False, recognised=words)
    return layout


def write_layout(layout: Layout, folder: Path, about: str) -> None:
    """Write `folder`/dataset.yaml; what lies below `folder` is named relative to it, so that they may be moved."""
    lines = {name: _named(getattr(layout, name), folder) for name in PATHS if getattr(layout, name) is not None}
    text = yaml.safe_dump({"about": about, **lines}, sort_keys=False, allow_unicode=True, width=10_000)
    write_text(folder / FILE, text)


def _named(path: Path, folder: Path) -> str:
    path, folder = path.absolute(), folder.absolute()
    below = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ".."
    return str(path) if leads_out(below) else below


def _from_file(file: Path) -> Layout:
    values = read_yaml(file)
    about = values.pop("about", None)
    for key, value in values.items():
        if key not in PATHS:
            raise DiptychError(f"{file}: unknown entry {key!r}{nearest(key, PATHS) or ';'} it takes {', '.join(PATHS)}")
        if not isinstance(value, str):
            raise DiptychError(f"{file}: {key}: {value!r} is no path; write that of a folder or file")
        if not Path(value).is_absolute() and leads_out(value):
            raise DiptychError(f"{file}: {key}: {value!r} leads out of the folder; write the whole path, from the root")
    missing = [key for key in ("a", "b") if key not in values]
    if missing:
        raise DiptychError(f"{file}: names no folder of {missing[0]}; add a line {missing[0]}: FOLDER")
    paths: dict[str, Any] = {key: file.parent / value for key, value in values.items()}
    for key, path in paths.items():
        if not os.path.exists(real_path(path)[0]):  # noqa: PTH110 - which, unlike Path's, takes overlong names for absent
            raise DiptychError(f"{file}: {key}: there is no {real_path(path)[0]}; mend the line, or import again")
    return Layout(**paths, recognised=f"{file}: {about or 'a dataset'}")


def _from_pairs(file: Path) -> Layout:
    """The innermost folders that hold all images of a side, which a CSV names from its own folder."""
    rows = read_rows(file)
    sides = []
    for side, listed in zip("ab", zip(*rows, strict=True) if rows else ((), ()), strict=True):
        named = [PurePosixPath(name).parent.as_posix() for name in listed if name]
        if not named:
            raise DiptychError(f"{file}: names no image of {side}; fill column {side}")
        sides.append(file.parent / os.path.commonpath(named))
    for folder in sides:
        if not real_path(folder)[0].is_dir():
            raise DiptychError(f"{file}: there is no folder {folder}; name the images from the folder of the CSV")
    a, b = sides
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise DiptychError(
            f"{file}: the images of a and b do not lie in folders apart, but in {a}{'' if a == b else f' and {b}'}; "
            "give each side a folder of its own, and name its images from the folder of the CSV, or give --a and --b"
        )
    tables: dict[str, Any] = {
        table.stem: table for table in (file.with_name(f"{name}.csv") for name in TABLES) if table.is_file()
    }
    named_too = ", ".join(_named(path, file.parent) for path in (a, b, *tables.values()))
    return Layout(a, b, pairs=file, recognised=f"{file}: a CSV of pairs: {named_too}", **tables)


def _beside(folder: Path) -> dict[str, Sides]:
    """trainA beside trainB."""
    below, found = _subfolders(folder), {}
    for split, names in SPLITS.items():
        for name in reversed(names):
            if {f"{name}a", f"{name}b"} <= below.keys():
                found[split] = below[f"{name}a"], below[f"{name}b"]
    return found


def _sides_in_splits(folder: Path) -> dict[str, Sides]:
    """train/a and train/b."""
    return {split: sides for split, path in _split_folders(folder).items() if (sides := _two_sides(path)) is not None}


def _splits_in_sides(folder: Path) -> dict[str, Sides]:
    """a/train and b/train."""
    sides = _two_sides(folder)
    if sides is None:
        return {}
    a, b = (_split_folders(side) for side in sides)
    return {split: (a[split], b[split]) for split in a if split in b}


def _sides_alone(folder: Path) -> dict[str, Sides]:
    sides = _two_sides(folder)
    return {} if sides is None else {"train": sides}


def _halves(folder: Path) -> dict[str, Sides]:
    """train of side-by-side images, in subfolders if need be; raises `DiptychError` where they cannot be such."""
    found = {}
    for split, path in _split_folders(folder).items():
        names = list_images(path)
        below = _subfolders(path)
        if len(below) > 1 and len({PurePosixPath(name).stem for name in names}) < len(names):
            return {}  # photos/x.png and labels/x.png are two images
        if len(below) > 1 and (told := sorted(below.keys() & SIDES)):
            raise DiptychError(
                f"{below[told[0]]}: is called as one domain, not as side-by-side images; give the folders of both "
                f"domains, --a and --b, or, if each of its images is a pair, --a {path}::left --b {path}::right"
            )
        for name in names[:LOOKED_AT]:
            width, height = read_header(path / name).size
            if width <= height:
                raise DiptychError(
                    f"{path / name}: {width}x{height} pixels are no two images side by side; side-by-side images are "
                    "wider than high; give --a and --b, the folders of both domains"
                )
        found[split] = path.with_name(f"{path.name}::left"), path.with_name(f"{path.name}::right")
    return found


NAMINGS: dict[str, Callable[[Path], dict[str, Sides]]] = {
    BESIDE: _beside,
    "folders a and b in every split": _sides_in_splits,
    "every split in folders a and b": _splits_in_sides,
    "folders a and b": _sides_alone,
    HALVES: _halves,
}
"""How the folders of a dataset may be called, in words -> split -> the folders of a and b."""


def _subfolders(folder: Path) -> dict[str, Path]:
    """The folders in `folder` by their names in small letters; hidden ones are left out."""
    return {
        path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")
    }


def _split_folders(folder: Path) -> dict[str, Path]:
    below = _subfolders(folder)
    return {split: below[name] for split, names in SPLITS.items() for name in reversed(names) if name in below}


def _two_sides(folder: Path) -> Sides | None:
    below = _subfolders(folder)
    return (below["a"], below["b"]) if {"a", "b"} <= below.keys() else None


def _paired(a: Path, b: Path) -> bool:
    if real_path(a)[0] == real_path(b)[0]:
        return True
    names = list_images(a)
    return len(same_stem(names, list_images(b), b)) == len(names)
