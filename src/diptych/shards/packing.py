"""A dataset -> shards: tar files of images as WebDataset has them, and the index by which they are opened.

The same dataset and seed give the same bytes. Images are shuffled first, so that each shard is a fair sample.
"""

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from diptych.bands import Header
from diptych.dataset import Dataset, Domain
from diptych.errors import DiptychError, reason
from diptych.files import sync, write_bytes, write_json
from diptych.images import (
    SHARDS,
    Classes,
    PixelFormat,
    classes_to_record,
    encoded,
    file_suffix,
    header_of,
    open_image,
    pixels_of,
    read_class_map,
    real_path,
    spoken,
)
from diptych.looks import Reading, Seen, look_through
from diptych.reading import open_file, sha256
from diptych.shards.opening import IMAGES

GROUPS = ("pairs", "a", "b", "unpaired_a", "unpaired_b")
BLOCK = tarfile.BLOCKSIZE  # bytes; a member is a block that names it, then its own bytes in whole blocks

Progress = Callable[[int, int], None]  # (done, total)
Columns = Mapping[str, tuple[Domain, Sequence[int]]]
"""Side -> its domain and, row by row, its images; the rows of two sides are pairs."""


@dataclass(frozen=True)
class Entry:
    """An image as it goes into a shard."""

    name: str
    header: Header
    suffix: str
    data: bytes


class Shard:
    """A tar file that is being written."""

    def __init__(self, path: Path, group: str) -> None:
        self.path = path
        self.group = group
        self.rows = 0
        self.columns: dict[str, dict[str, list[Any]]] = {}
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # closed by `close`

    def has_room_for(self, row: Mapping[str, Entry], most: int) -> bool:
        """Whether the shard would still have `most` bytes or fewer; an empty one takes anything."""
        size = sum(BLOCK + -(-len(entry.data) // BLOCK) * BLOCK for entry in row.values())
        return self.rows == 0 or self._tar.offset + size <= most

    def add(self, key: str, row: Mapping[str, Entry]) -> None:
        """Write KEY.a.png and KEY.b.png of a pair; of an image alone, one of them."""
        for side, entry in row.items():
            member = tarfile.TarInfo(f"{key}.{side}{entry.suffix}")
            member.size = len(entry.data)
            start = self._tar.offset + BLOCK
            self._tar.addfile(member, io.BytesIO(entry.data))
            column = self.columns.setdefault(side, {})
            width, height = entry.header.size
            of_image = {"names": entry.name, "widths": width, "heights": height, "starts": start}
            for name, value in (of_image | {"lengths": member.size}).items():
                column.setdefault(name, []).append(value)
        self.rows += 1

    def close(self) -> dict[str, Any]:
        """Finish the file; return what the index says of it."""
        self._tar.close()
        sync(self.path)
        found = {"name": self.path.name, "group": self.group, "rows": self.rows}
        return found | {"bytes": self.path.stat().st_size, "sha256": sha256(self.path)}


def write_shards(dataset: Dataset, folder: Path, shard_bytes: int, seed: int, progress: Progress) -> None:
    """Write all images of the dataset into `folder`: tar files of about `shard_bytes`, then the index.

    Files are copied byte for byte; halves of side-by-side images are cut out without loss. Raises `DiptychError` for a
    file that is not any more what it was when the dataset was opened.
    """
    there = zip(("a", "b", *GROUPS[3:]), (dataset.a, dataset.b, dataset.elsewhere_a, dataset.elsewhere_b), strict=True)
    domains = {name: domain for name, domain in there if domain is not None}
    forms: dict[str, dict[tuple[int, int, bool], str]] = {name: {} for name in domains}
    done, total = itertools.count(1), sum(len(domain.names) for domain in domains.values())
    keys = itertools.count()
    records, columns = [], []
    for group, rows in _groups(dataset, seed).items():
        numbers = itertools.count()
        shard: Shard | None = None
        for row in _entries(rows):
            if shard is not None and not shard.has_room_for(row, shard_bytes):
                records.append(shard.close())
                shard = None
            if shard is None:
                shard = Shard(folder / f"{group.replace('_', '-')}-{next(numbers):06d}.tar", group)
                columns.append(shard.columns)
            shard.add(f"{next(keys):09d}", row)
            for side, entry in row.items():
                header = entry.header
                form = header.channels, header.bits, header.alpha
                forms[side if group == "pairs" else group].setdefault(form, entry.name)
                progress(next(done), total)
        if shard is not None:
            records.append(shard.close())
    images = json.dumps({"format": 1, "shards": columns}, separators=(",", ":")).encode()
    write_bytes(folder / IMAGES, images)
    index = {
        "format": 1,
        "domains": {
            name: {
                "images": len(domain.names),
                "classes": classes_to_record(domain.classes),
                "forms": [
                    {"channels": channels, "bits": bits, "alpha": alpha, "such_as": name}
                    for (channels, bits, alpha), name in sorted(forms[name].items())
                ],
            }
            for name, domain in domains.items()
        },
        "shards": records,
        "images_sha256": hashlib.sha256(images).hexdigest(),
    }
    write_json(folder / SHARDS, index)


def _groups(dataset: Dataset, seed: int) -> dict[str, Columns]:
    """What goes into shards of its own: pairs, and the images of each domain that are in none; each in random order."""
    paired = [[pair[side] for pair in dataset.pairs] for side in range(2)]
    groups: dict[str, Columns] = {"pairs": {"a": (dataset.a, paired[0]), "b": (dataset.b, paired[1])}}
    for side, domain, used in (("a", dataset.a, set(paired[0])), ("b", dataset.b, set(paired[1]))):
        groups[side] = {side: (domain, [index for index in range(len(domain.names)) if index not in used])}
    for side, elsewhere in (("a", dataset.elsewhere_a), ("b", dataset.elsewhere_b)):
        if elsewhere is not None:
            groups[f"unpaired_{side}"] = {side: (elsewhere, range(len(elsewhere.names)))}
    shuffled: dict[str, Columns] = {}
    for group, columns in groups.items():
        rows = len(next(iter(columns.values()))[1])
        order = np.random.default_rng((seed, 20 + GROUPS.index(group))).permutation(rows)
        shuffled[group] = {side: (domain, [images[row] for row in order]) for side, (domain, images) in columns.items()}
    return shuffled


def _entries(columns: Columns) -> Iterator[dict[str, Entry]]:
    """The rows of `columns`, read one after another."""
    looks = [
        look_through(domain.folder, [domain.names[index] for index in images], Reading(domain.classes))
        for domain, images in columns.values()
    ]
    for row, seen in enumerate(zip(*looks, strict=True)):
        yield {
            side: _entry(domain, images[row], look)
            for (side, (domain, images)), look in zip(columns.items(), seen, strict=True)
        }


def _entry(domain: Domain, index: int, seen: Seen) -> Entry:
    if isinstance(seen, DiptychError):
        raise seen
    name = domain.names[index]
    path = domain.folder / name
    file, half = real_path(path)
    try:
        with open_file(file) as opened:
            data = opened.read()
    except OSError as problem:
        raise DiptychError(f"{file}: cannot be read ({reason(problem)}); bring it back, and pack again") from None
    key = hashlib.sha256(data + (half or "").encode()).digest()  # as `image_key`
    if key != seen.content or seen.header.size != domain.sizes[index]:
        raise DiptychError(f"{file}: has changed while it was packed; pack again")
    if half is None:
        return Entry(name, seen.header, PurePosixPath(name).suffix.lower(), data)
    return Entry(name, seen.header, *_cut_out(path, domain.classes))


def _cut_out(path: Path, classes: Classes | None) -> tuple[str, bytes]:
    """The half of a side-by-side image as a file of its own: suffix and bytes."""
    if classes is not None:
        data = io.BytesIO()
        classes.to_image(read_class_map(path, classes)).save(data, "PNG")
        return ".png", data.getvalue()
    image = open_image(path)
    header = header_of(image)
    suffix = file_suffix(header.channels)
    own = PixelFormat(header.channels, header.bits)
    return suffix, encoded(pixels_of(image, form=own, where=spoken(path)), suffix)
