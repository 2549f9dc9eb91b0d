"""A folder of images -> what is in each of them. Everything that is seen is remembered, so the second time is quick."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.bands import Header
from diptych.cache import default_folder
from diptych.checking import outlines
from diptych.errors import DiptychError
from diptych.features import descriptor
from diptych.features.cache import open_cache
from diptych.files import append
from diptych.images import Classes, check_channels, convertible, list_images, rgb, spoken, to_float
from diptych.looks import AT_ONCE, Look, Reading, open_memory, read_whole, stamps_of


@dataclass(frozen=True, eq=False)
class Place:
    """A folder of the dataset: which split and side it is, and how its images are to be read."""

    split: str  # "train", "val", "test" or "unpaired"
    side: str  # "a" or "b"
    folder: Path
    classes: Classes | None = None
    channels: int = 3

    @property
    def name(self) -> str:
        """As the settings call it: `a`, `val_a`."""
        return self.side if self.split == "train" else f"{self.split}_{self.side}"


class Rows:
    """Numbers, a row for each image, in a file that has no name: they take no memory and leave nothing behind."""

    def __init__(self, width: int, dtype: type[np.float32] | type[np.int8] = np.float32) -> None:
        folder = default_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # as long as the rows
        self.width, self.dtype, self.count = width, dtype, 0

    def add(self, rows: Sequence[NDArray[Any]]) -> None:
        """Append rows `(width,)`."""
        if rows:
            append(self.file, np.stack(rows).astype(self.dtype).tobytes())
            self.count += len(rows)

    def parts(self, size: int) -> Iterator[NDArray[Any]]:
        """All rows in order, at most `size` at once, `(n, width)`."""
        for start in range(0, self.count, size):
            yield np.array(self.all[start : start + size])

    @property
    def all(self) -> NDArray[Any]:
        """All rows `(N, width)`, mapped."""
        if not self.count:
            return np.zeros((0, self.width), self.dtype)  # which cannot be mapped
        return np.memmap(self.file, self.dtype, "r", shape=(self.count, self.width))


@dataclass(eq=False)
class Survey:
    """What was seen in the images of a place that can be read, row by row, and what is wrong with the others."""

    place: Place
    traits: Rows  # of pictures their descriptors (N, D), of class maps the shares of their classes (N, K)
    outlined: Rows  # (N, 2 * SIDE * SIDE)
    names: list[str] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    problems: list[tuple[str, DiptychError]] = field(default_factory=list)

    def file(self, row: int) -> Path:
        """Path of the image in `row`."""
        return self.place.folder / self.names[row]

    @cached_property
    def class_pixels(self) -> NDArray[np.float64]:
        """Of class maps, how many pixels each class has, `(K,)`."""
        sizes = np.array([width * height for width, height in (header.size for header in self.headers)], np.float64)
        return np.asarray(sizes @ self.traits.all)

    @cached_property
    def class_images(self) -> NDArray[np.int64]:
        """Of class maps, how many show each class, `(K,)`."""
        return np.asarray((self.traits.all > 0).sum(0))


@dataclass(frozen=True, eq=False)
class Seen:
    """What one image gives."""

    look: Look
    traits: NDArray[np.float32]  # of a picture its descriptor (D,), of a class map the shares of its classes (K,)
    outlined: NDArray[np.int8]  # (2, SIDE, SIDE)


def survey(place: Place, progress: Callable[[int, int], None], note: Callable[[str], None]) -> Survey:
    """Look at every image of `place`.

    Raises `DiptychError` where the folder is missing or empty, or the cache cannot be used.
    """
    names, classes = list_images(place.folder), place.classes
    found = Survey(
        place, Rows(descriptor.DIMENSION if classes is None else len(classes)), Rows(2 * outlines.SIDE**2, np.int8)
    )
    reading = Reading(classes)
    of_classes = "" if classes is None else f" {reading.identity}"
    same: dict[Header, Header] = {}  # of 100,000 images of one kind, one header
    with (
        open_memory(note) as memory,
        open_cache(default_folder(), f"class shares{of_classes}" if classes else descriptor.VERSION) as traits_cache,
        open_cache(default_folder(), f"{outlines.VERSION}{of_classes}", "int8") as outline_cache,
        ThreadPoolExecutor(os.cpu_count()) as threads,
    ):
        for start in range(0, len(names), AT_ONCE):
            stamps = stamps_of(place.folder, names[start : start + AT_ONCE])
            looks = memory.find(stamps.values(), reading)
            contents = {look.content for look in looks.values()}
            traits, outlined = traits_cache.find(contents), outline_cache.find(contents)
            known = traits.keys() & outlined.keys()
            seen = {name: looks[key] for name, (key, _) in stamps.items() if key in looks}
            seen = {name: look for name, look in seen.items() if look.content in known}
            missing = [name for name in stamps if name not in seen]
            fresh: dict[str, Seen] = {}
            for name, answer in zip(missing, threads.map(lambda name: _look_at(place, name), missing), strict=True):
                if isinstance(answer, DiptychError):
                    found.problems.append((name, answer))
                else:
                    fresh[name] = answer
            new = {answer.look.content: answer for answer in fresh.values()}
            traits_cache.add({content: answer.traits for content, answer in new.items()})
            outline_cache.add({content: answer.outlined.ravel() for content, answer in new.items()})
            traits |= {content: answer.traits for content, answer in new.items()}
            outlined |= {content: answer.outlined.ravel() for content, answer in new.items()}
            memory.add([(*stamps[name], answer.look) for name, answer in fresh.items()], reading)
            seen |= {name: answer.look for name, answer in fresh.items()}
            rows = []
            for name in (name for name in stamps if name in seen):
                header = seen[name].header
                if classes is None and not convertible(header, place.channels):
                    found.problems.append((name, _unfit(place, name, header)))
                    continue
                found.names.append(name)
                found.headers.append(same.setdefault(header, header))
                found.modes.append(sys.intern(seen[name].mode))
                found.contents.append(seen[name].content)
                rows.append(seen[name].content)
            found.traits.add([traits[content] for content in rows])
            found.outlined.add([outlined[content] for content in rows])
            progress(start + len(stamps), len(names))
    return found


def _look_at(place: Place, name: str) -> Seen | DiptychError:
    path = place.folder / name
    try:
        look, image, rows = read_whole(path, place.classes)
        if rows is None or place.classes is None:
            small = _squashed(rgb(image, spoken(path)))
            return Seen(look, descriptor.describe(to_float(small)), outlines.outline(small))
    except DiptychError as problem:
        return problem
    shares = np.bincount(rows.ravel(), minlength=len(place.classes)) / rows.size
    painted = _squashed(Image.fromarray(place.classes.paint(rows)))
    return Seen(look, shares.astype(np.float32), outlines.outline(painted))


def _squashed(picture: Image.Image) -> NDArray[np.uint8]:
    """`(64, 64, 3)`: what descriptors and outlines are made of."""
    return np.asarray(picture.resize((descriptor.SIDE, descriptor.SIDE), Image.Resampling.BICUBIC), np.uint8)


def _unfit(place: Place, name: str, header: Header) -> DiptychError:
    try:
        check_channels(header, place.channels, spoken(place.folder / name))
    except DiptychError as problem:
        return problem
    raise AssertionError(f"{name} is convertible")
