"""Two folders, perhaps class maps and pairs -> a checked `Dataset`. Every problem is found here, before training."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.errors import DiptychError, some
from diptych.images import Classes, UnreadableImageError, list_images, open_image, read_class_map
from diptych.pairs import read_pairs, read_rows, same_stem

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, eq=False)
class Domain:
    """One side: a folder, its images by name and size, and its classes if it is a class map."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]  # (width, height) each
    classes: Classes | None = None

    def file(self, index: int) -> Path:
        """Path of image `index`."""
        return self.folder / self.names[index]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Domains a and b, the pairs that are known, and the images that the unpaired passes draw from, by index.

    The unpaired images of a side may lie elsewhere: then `unpaired_a` (`unpaired_b`) counts in that folder's images.
    """

    a: Domain
    b: Domain
    pairs: tuple[tuple[int, int], ...] = ()
    unpaired_a: tuple[int, ...] = ()
    unpaired_b: tuple[int, ...] = ()
    elsewhere_a: Domain | None = None  # where the unpaired images of a are, if not in a
    elsewhere_b: Domain | None = None

    def unpaired_domain(self, side: Literal["a", "b"]) -> Domain:
        """What the unpaired images of `side` are counted in."""
        return (self.elsewhere_a or self.a) if side == "a" else (self.elsewhere_b or self.b)

    def to_record(self) -> dict[str, Any]:
        """The names in use, as plain values: with the folders, all that a resumed run needs."""
        from_a, from_b = self.unpaired_domain("a"), self.unpaired_domain("b")
        return {
            "pairs": [[self.a.names[i], self.b.names[j]] for i, j in self.pairs],
            "unpaired_a": [from_a.names[i] for i in self.unpaired_a],
            "unpaired_b": [from_b.names[j] for j in self.unpaired_b],
        }


def open_domain(
    folder: Path,
    classes: Classes | None,
    *,
    smallest: tuple[int, int] = (1, 1),
    skip_unreadable: bool | None = False,
    progress: Progress | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Domain, list[str]]:
    """Read every image of `folder` once (or only `names`); return the domain and the problems that were skipped.

    Raises `DiptychError` naming the files that cannot be read (unless they are to be skipped; None: they never may be),
    that hold values unknown to `classes`, or that are narrower or lower than `smallest` = (width, height).
    """
    names = list_images(folder) if names is None else names

    def look(name: str) -> tuple[int, int] | DiptychError:
        path = folder / name
        try:
            if classes is not None:
                height, width = read_class_map(path, classes).shape
                return width, height
            return open_image(path).size
        except DiptychError as problem:
            return problem

    found: list[tuple[int, int] | DiptychError] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for answer in threads.map(look, names):
            found.append(answer)
            if progress is not None:
                progress(len(found), len(names))

    wrong = [answer for answer in found if isinstance(answer, DiptychError)]
    fatal = [problem for problem in wrong if not (skip_unreadable and isinstance(problem, UnreadableImageError))]
    if fatal:
        others = f" ({len(fatal) - 1} more files like it)" if len(fatal) > 1 else ""
        may_skip = skip_unreadable is not None and isinstance(fatal[0], UnreadableImageError)
        way_out = ", or --skip-unreadable" if may_skip else ""
        raise DiptychError(f"{fatal[0]}{way_out}{others}")
    good = [(name, size) for name, size in zip(names, found, strict=True) if not isinstance(size, DiptychError)]
    if wrong and not good:
        raise DiptychError(f"{folder}: none of its images can be read; give another folder")
    small = [f"{name} ({w}x{h})" for name, (w, h) in good if w < smallest[0] or h < smallest[1]]
    if small:
        raise DiptychError(
            f"{folder}: smaller than the crop of {smallest[0]}x{smallest[1]}: {some(small)}; give a smaller --size"
        )
    domain = Domain(folder, tuple(name for name, _ in good), tuple(size for _, size in good), classes)
    return domain, [str(problem) for problem in wrong]


def with_pairs(dataset: Dataset, pairs: str, seed: int) -> Dataset:
    """Settle which pairs are known: `"none"`, `"all"` (same stems), a number (that many of those, at random) or a CSV.

    Raises `DiptychError` for an impossible number, a bad file, or partners of different shape.
    """
    a, b = dataset.a, dataset.b
    if pairs == "none":
        named: list[tuple[str, str]] = []
    elif pairs == "all" or pairs.isdecimal():
        named = sorted(same_stem(a.names, b.names, b.folder).items())
        if not named:
            raise DiptychError(f"--pairs {pairs}: no image of {a.folder} has the stem of one in {b.folder}; give a CSV")
        if pairs != "all":
            if int(pairs) > len(named):
                raise DiptychError(f"--pairs {pairs}: there are only {len(named)} pairs; give a smaller number")
            drawn = np.random.default_rng((seed, 10)).choice(len(named), int(pairs), replace=False)
            named = [named[place] for place in sorted(drawn.tolist())]
    else:
        named = read_pairs(Path(pairs), (a.folder, a.names), (b.folder, b.names))
    index_a, index_b = _index(a), _index(b)
    for left, right in named:
        size_a, size_b = a.sizes[index_a[left]], b.sizes[index_b[right]]
        if size_a != size_b:
            raise DiptychError(
                f"{a.folder / left} ({size_a[0]}x{size_a[1]}) and its partner {b.folder / right} "
                f"({size_b[0]}x{size_b[1]}) have different shapes; mend one: a pair shows the same scene pixel by pixel"
            )
    return replace(dataset, pairs=tuple((index_a[left], index_b[right]) for left, right in named))


def with_unpaired(dataset: Dataset, unpaired: str, excludes_pairs: bool, seed: int) -> Dataset:
    """Settle what the unpaired passes draw from: `"all"`, a number (the cap of each side) or a CSV of names.

    The paired images count among them, their pairing hidden, unless `excludes_pairs`, or the unpaired images of their
    side lie elsewhere. A CSV whose column b is empty, or names images of b while the unpaired ones lie elsewhere,
    leaves side b to as many images, at random, as it names on side a; likewise for a.
    """
    rows: list[tuple[str, str]] = []
    if unpaired != "all" and not unpaired.isdecimal():
        rows = read_rows(Path(unpaired))
        if not rows:
            raise DiptychError(f"{unpaired}: lists no image; complete it, or give --unpaired a number")
    sides = []
    for place, (own, elsewhere) in enumerate(((dataset.a, dataset.elsewhere_a), (dataset.b, dataset.elsewhere_b))):
        domain = elsewhere or own
        paired = () if elsewhere else tuple(pair[place] for pair in dataset.pairs)
        rng = np.random.default_rng((seed, 11 + place))
        everything = range(len(domain.names))
        listed = [row[place] for row in rows if row[place]]
        if elsewhere and set(listed) <= set(own.names) and not set(listed) <= set(elsewhere.names):
            listed = []
        if unpaired == "all":
            chosen = set(everything)
        elif listed:
            index = _index(domain)
            absent = [name for name in listed if name not in index]
            if absent:
                way_out = "mend the names, or empty the column to draw as many at random"
                raise DiptychError(f"{unpaired}: {some(absent)} is not in {domain.folder}; {way_out}")
            chosen = {index[name] for name in listed} | set(paired)
        else:
            kept = [] if excludes_pairs else list(paired)
            rest = sorted(set(everything) - set(paired))
            cap = int(unpaired) if unpaired.isdecimal() else max(len(rows), len(kept))
            kept = rng.choice(kept, cap, replace=False).tolist() if len(kept) > cap else kept
            more = min(cap - len(kept), len(rest))
            chosen = {*kept, *rng.choice(rest, more, replace=False).tolist()} if more else set(kept)
        sides.append(tuple(sorted(chosen - set(paired) if excludes_pairs else chosen)))
    if bool(sides[0]) != bool(sides[1]):
        raise DiptychError(f"--unpaired {unpaired}: leaves no unpaired image on one side; it must leave some on both")
    return replace(dataset, unpaired_a=sides[0], unpaired_b=sides[1])


def _index(domain: Domain) -> dict[str, int]:
    return {name: place for place, name in enumerate(domain.names)}
