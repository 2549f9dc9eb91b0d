"""shards.json and images.json -> the domains and pairs of a dataset. No image is read, and no shard fetched."""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.bands import Header
from diptych.dataset import Domain
from diptych.errors import DiptychError
from diptych.images import RGB, SHARDS, PixelFormat, check_channels, classes_from_record
from diptych.reading import leads_out
from diptych.saved import PackedColumn, PackedImages, PackedIndex, PackedShard, record_in
from diptych.shards.cached import Fetched, shard_folder
from diptych.shards.opened import OpenShards, ShardMember
from diptych.shards.order import WINDOW
from diptych.shards.places import Address, Folder, place_of

IMAGES = "images.json"
DOMAINS = {"a": "a", "b": "b", "unpaired_a": "elsewhere_a", "unpaired_b": "elsewhere_b"}
"""What a domain is called in shards.json -> in a `Dataset`."""
SWAPPED = {"a": "b", "b": "a", "elsewhere_a": "elsewhere_b", "elsewhere_b": "elsewhere_a"}
STREAMS = 3  # pairs, a and b are drawn independently


@dataclass(frozen=True)
class Shards:
    """A packed dataset: its domains by what `Dataset` calls them, and the names of its pairs."""

    domains: Mapping[str, Domain]
    pairs: tuple[tuple[str, str], ...]


class InShards:
    """Where the images of a domain are; see `dataset.Packed`."""

    def __init__(
        self,
        opened: OpenShards,
        names: tuple[str, ...],
        shards: NDArray[np.int64],
        parts: NDArray[np.int64],
        where: str,
    ) -> None:
        self.opened = opened
        self.names = names
        self.shards = shards  # (N,)
        self.parts = parts  # (N, 2), first byte and length
        self.where = where

    def member(self, index: int) -> ShardMember:
        shard, (start, length) = int(self.shards[index]), self.parts[index].tolist()
        spoken = f"{self.where}/{self.opened.shards[shard].name}: {self.names[index]}"
        return ShardMember(self.opened, shard, start, length, spoken)

    def identity(self, index: int) -> str:
        return f"{self.opened.shards[int(self.shards[index])].sha256} {self.parts[index].tolist()}"

    def fetch_ahead(self, index: int) -> None:
        self.opened.fetch_ahead(int(self.shards[index]))


def read_index(where: str) -> PackedIndex:
    """What shards.json at `where` says; raises `DiptychError` where it is missing or damaged."""
    place = place_of(where)
    return record_in(place.read(SHARDS), place.named(SHARDS), PackedIndex)


def class_maps(where: str, swap: bool) -> set[str]:
    """Which of the sides, "a" and "b", are class maps."""
    found = [name for name, domain in read_index(where).domains.items() if domain.classes is not None]
    return {SWAPPED[side] if swap else side for side in ("a", "b") if side in found}


def recognised(where: str, swap: bool) -> str:
    """What is in the shards at `where`, in words."""
    index = read_index(where)
    pairs = sum(shard.rows for shard in index.shards if shard.group == "pairs")
    images = ", ".join(f"{domain.images:,} of {name.replace('_', ' ')}" for name, domain in index.domains.items())
    size = sum(shard.bytes for shard in index.shards) / 1e9
    swapped = "; swapped, so that a is what would be b" if swap else ""
    return f"{where}: {len(index.shards):,} shards of {size:,.1f} GB: images: {images}; {pairs:,} pairs{swapped}"


def open_shards(
    where: str, *, swap: bool, channels: Mapping[str, int], cache_limit: int, note: Callable[[str], None]
) -> Shards:
    """The dataset that was packed at `where`; `channels` are those that the images of "a" and "b" shall have.

    Shards from an address are kept in the cache folder, `cache_limit` bytes of them at most. Raises `DiptychError`
    where the index is missing, damaged or names what is not in the shards, and for images that do not become
    `channels`.
    """
    place, index = place_of(where), read_index(where)
    images = _read_images(place, index)
    opened = _open(place, index, cache_limit, note)
    domains = {}
    for name, packed in index.domains.items():
        said = SWAPPED[DOMAINS[name]] if swap else DOMAINS[name]
        classes = classes_from_record(packed.classes)
        for form in () if classes is not None else packed.forms:
            # The size has no part in it.
            header = Header((1, 1), form.channels, form.bits, form.alpha)
            check_channels(header, channels[said[-1]], f"{where}: {form.such_as}")
        bits = max(form.bits for form in packed.forms)
        form_of_all = RGB if classes is not None else PixelFormat(channels[said[-1]], bits)
        columns = [
            (number, columns["a" if name[-1] == "a" else "b"])
            for number, (shard, columns) in enumerate(zip(index.shards, images.shards, strict=True))
            if shard.group == name or (shard.group == "pairs" and name in ("a", "b"))
        ]
        names, sizes, in_shards = _together(columns, opened, where)
        if len(names) != packed.images:
            raise _damaged(place.named(IMAGES), f"lists {len(names):,} images of {name}, {SHARDS} {packed.images:,}")
        domains[said] = Domain(Path(where), names, sizes, classes, form_of_all, in_shards)
    pairs = [
        pair
        for shard, columns in zip(index.shards, images.shards, strict=True)
        if shard.group == "pairs"
        for pair in zip(columns["a"].names, columns["b"].names, strict=True)
    ]
    return Shards(domains, tuple(pair[::-1] if swap else pair for pair in pairs))


def _read_images(place: Folder | Address, index: PackedIndex) -> PackedImages:
    """images.json, checked against the index: hostile numbers lead to no byte outside of a shard."""
    where, data = place.named(IMAGES), place.read(IMAGES)
    if hashlib.sha256(data).hexdigest() != index.images_sha256:
        raise _damaged(where, f"its SHA-256 is not the one that {SHARDS} names")
    images = record_in(data, where, PackedImages)
    if len(images.shards) != len(index.shards):
        raise _damaged(where, f"lists {len(images.shards):,} shards, {SHARDS} {len(index.shards):,}")
    for shard, columns in zip(index.shards, images.shards, strict=True):
        if set(columns) != ({"a", "b"} if shard.group == "pairs" else {shard.group[-1]}):
            raise _damaged(where, f"the columns of {shard.name} are {', '.join(sorted(columns)) or 'none'}")
        for column in columns.values():
            _check_column(column, shard, where)
    return images


def _check_column(column: PackedColumn, shard: PackedShard, where: str) -> None:
    for values in (column.names, column.widths, column.heights, column.starts, column.lengths):
        if len(values) != shard.rows:
            raise _damaged(where, f"lists {len(values):,} where {shard.name} has {shard.rows:,}")
    ends = np.array(column.starts, np.uint64) + np.array(column.lengths, np.uint64)
    if ends.max() > shard.bytes:
        raise _damaged(where, f"names bytes beyond the end of {shard.name}")
    for name in column.names:
        if leads_out(name):
            raise _damaged(where, f"{name!r} leads out of its folder")


def _damaged(where: str, why: str) -> DiptychError:
    return DiptychError(f"{where}: damaged ({why}); bring it back from a copy, or pack again")


def _open(place: Folder | Address, index: PackedIndex, limit: int, note: Callable[[str], None]) -> OpenShards:
    if isinstance(place, Folder):
        return OpenShards(place, index.shards)
    folder = shard_folder()
    largest, everything = max(shard.bytes for shard in index.shards), sum(shard.bytes for shard in index.shards)
    if largest > limit:
        raise DiptychError(
            f"--shard-cache-gib {limit / 2**30:g}: the largest shard of {place.url} has {largest / 2**30:.3g} GiB; "
            "give more, or pack with a smaller --shard-mb"
        )
    # Of each stream the shards that are drawn from, and those that come next.
    in_use = min(everything, STREAMS * 2 * WINDOW * largest)
    note(
        f"{place.url}: shards are fetched when they are wanted, into {folder}, {limit / 2**30:g} GiB of them at most "
        "(--shard-cache-gib)"
        + (f"; {in_use / 2**30:.3g} are in use at a time, so that some are fetched again and again" * (in_use > limit))
    )
    return OpenShards(Fetched(place, folder, limit), index.shards, fetches_ahead=in_use <= limit)


def _together(
    columns: list[tuple[int, PackedColumn]], opened: OpenShards, where: str
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], InShards]:
    """The columns of a domain (number of the shard, column) as one, in the order of names, as a folder lists them."""
    listed = list(itertools.chain.from_iterable(column.names for _, column in columns))
    order = sorted(range(len(listed)), key=listed.__getitem__)
    names = tuple(listed[place] for place in order)
    twice = next((one for one, other in itertools.pairwise(names) if one == other), None)
    if twice is not None:
        raise _damaged(f"{where}/{IMAGES}", f"lists {twice!r} twice")
    same: dict[tuple[int, int], tuple[int, int]] = {}  # of 100,000 images of one size, one tuple
    pixels = [size for _, column in columns for size in zip(column.widths, column.heights, strict=True)]
    sizes = tuple(same.setdefault(pixels[place], pixels[place]) for place in order)
    numbers = np.repeat([number for number, _ in columns], [len(column.names) for _, column in columns])
    parts = np.array(
        [part for _, column in columns for part in zip(column.starts, column.lengths, strict=True)], np.int64
    )
    return names, sizes, InShards(opened, names, numbers.astype(np.int64)[order], parts[order], where)
