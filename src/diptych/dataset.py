"""Two folders, perhaps class maps and pairs -> a checked `Dataset`. Every problem is found here, before training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, some
from diptych.fitting import Fit, too_small
from diptych.images import (
    RGB,
    Classes,
    PixelFormat,
    UnreadableImageError,
    check_channels,
    convertible,
    list_images,
    spoken,
)
from diptych.looks import Reading, look_through
from diptych.pairs import read_pairs, read_rows, same_stem
from diptych.reading import Member

Progress = Callable[[int, int], None]  # (done, total)
READ_WHOLE = 20_000  # images of a folder at most: some minutes of decoding


class Packed(Protocol):
    """Where the images of a domain are that lie in shards."""

    @property
    def shards(self) -> NDArray[np.int64]:
        """`(N,)`: the shard of each, by number."""
        ...

    def member(self, index: int) -> Member:
        """Image `index`."""
        ...

    def identity(self, index: int) -> str:
        """Changes with the bytes of image `index`."""
        ...

    def fetch_ahead(self, index: int) -> None:
        """The shard of image `index` will be wanted soon; returns at once."""
        ...


@dataclass(frozen=True, eq=False)
class Domain:
    """One side: a folder, its images by name and size, its classes if it is a class map, and what it is made of."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]  # (width, height) each
    classes: Classes | None = None
    form: PixelFormat = RGB  # of pictures; class maps are shown in colours of 8 bits
    packed: Packed | None = None  # where they are, if not in files of their own

    def file(self, index: int) -> Path | Member:
        """Where image `index` is read from."""
        return self.folder / self.names[index] if self.packed is None else self.packed.member(index)


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
            "bits": {"a": self.a.form.bits, "b": self.b.form.bits},
        }


def open_domain(
    folder: Path,
    classes: Classes | None,
    *,
    channels: int = 3,
    smallest: tuple[int, int] = (1, 1),
    fit: Fit = "stretch",
    skip_unreadable: bool | None = False,
    progress: Progress | None = None,
    names: Sequence[str] | None = None,
    note: Callable[[str], None] | None = None,
    whole: bool = False,
) -> tuple[Domain, list[str]]:
    """Look at every image of `folder` (or only `names`); return the domain and the problems that were skipped.

    An image that has not changed since it was last looked at is not read again, and of more than `READ_WHOLE` only the
    heads are read, unless the unreadable ones are to be skipped or all are to be read `whole`; `note` is told so.

    The domain has `channels` of 16 bits where one of its files has so many, else of 8. Raises `DiptychError` naming the
    files that cannot be read (unless they are to be skipped; None: they never may be), that have other bands than
    become `channels`, that hold values unknown to `classes`, or that are too small for `smallest` = (width, height).
    """
    names = list_images(folder) if names is None else names
    reading = Reading(classes, heads=len(names) > READ_WHOLE and not (skip_unreadable or whole))
    if reading.heads and note is not None:
        note(
            f"{folder}: of more than {READ_WHOLE:,} images only the heads are read; a damaged one would end the "
            "training, diptych check and --skip-unreadable find it before"
        )
    good: list[str] = []
    sizes: list[tuple[int, int]] = []
    wrong: list[DiptychError] = []
    same: dict[tuple[int, int], tuple[int, int]] = {}  # of 100,000 images of one size, one tuple
    bits = 8
    for done, (name, seen) in enumerate(zip(names, look_through(folder, names, reading, note), strict=True), start=1):
        try:
            if isinstance(seen, DiptychError):
                raise seen
            if classes is None and not convertible(seen.header, channels):
                check_channels(seen.header, channels, spoken(folder / name))
        except DiptychError as problem:
            wrong.append(problem)
        else:
            good.append(name)
            sizes.append(same.setdefault(seen.header.size, seen.header.size))
            bits = max(bits, seen.header.bits)
        if progress is not None:
            progress(done, len(names))

    fatal = [problem for problem in wrong if not (skip_unreadable and isinstance(problem, UnreadableImageError))]
    if fatal:
        others = f" ({len(fatal) - 1} more files like it)" if len(fatal) > 1 else ""
        may_skip = skip_unreadable is not None and isinstance(fatal[0], UnreadableImageError)
        way_out = ", or --skip-unreadable" if may_skip else ""
        raise DiptychError(f"{fatal[0]}{way_out}{others}")
    if wrong and not good:
        raise DiptychError(f"{folder}: none of its images can be read; give another folder")
    form = RGB if classes is not None else PixelFormat(channels, bits)
    domain = Domain(folder, tuple(good), tuple(sizes), classes, form)
    check_smallest(domain, smallest, fit)
    return domain, [str(problem) for problem in wrong]


def check_smallest(domain: Domain, smallest: tuple[int, int], fit: Fit) -> None:
    """Raises `DiptychError` naming images that are too small for `smallest` = (width, height)."""
    small = [
        f"{name} ({w}x{h})"
        for name, (w, h) in zip(domain.names, domain.sizes, strict=True)
        if too_small((w, h), smallest, fit)
    ]
    if small:
        raise DiptychError(
            f"{domain.folder}: smaller than the crop of {smallest[0]}x{smallest[1]}: {some(small)}; "
            "give a smaller --size"
        )


def with_pairs(dataset: Dataset, pairs: str, seed: int, known: Sequence[tuple[str, str]] | None = None) -> Dataset:
    """Settle which pairs are known: `"none"`, `"all"` (same stems), a number (that many of those, at random) or a CSV.

    Where the dataset says itself which images are pairs, `known` are their names and take the place of same stems.
    Raises `DiptychError` for an impossible number, a bad file, or partners of different shape.
    """
    a, b = dataset.a, dataset.b
    if pairs == "none":
        named: list[tuple[str, str]] = []
    elif pairs == "all" or pairs.isdecimal():
        named = sorted(same_stem(a.names, b.names, b.folder).items() if known is None else known)
        if not named and known is not None:
            raise DiptychError(
                f"--pairs {pairs}: {a.folder} was packed without pairs; pack it with some, or give a CSV"
            )
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
    dataset = replace(dataset, pairs=tuple((index_a[left], index_b[right]) for left, right in named))
    check_shapes(dataset)
    return dataset


def check_shapes(dataset: Dataset) -> None:
    """Raises `DiptychError` naming the first pair whose images have different shapes."""
    a, b = dataset.a, dataset.b
    for left, right in dataset.pairs:
        size_a, size_b = a.sizes[left], b.sizes[right]
        if size_a != size_b:
            raise DiptychError(
                f"{a.folder / a.names[left]} ({size_a[0]}x{size_a[1]}) and its partner {b.folder / b.names[right]} "
                f"({size_b[0]}x{size_b[1]}) have different shapes; mend one: a pair shows the same scene pixel by pixel"
            )


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
