"""What stands in for a tensor while a generator runs in windows.

A map smaller than the image is computed once, window by window, into a scratch file. One of the image's own size, by
far the largest, is not kept: it is computed where it is read, with a normalisation behind it twice.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import DiptychError
from diptych.tiling.scratch import BYTES, ScratchFile

Read = Callable[[range, range], Tensor]  # rows, columns -> (1, C, rows, columns)


@dataclass(frozen=True)
class Moments:
    """Of every channel over `count` pixels: mean and sum of squared deviations from it, float64 `(C,)`."""

    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def variance(self) -> Tensor:
        """Over all pixels, biased, `(C,)`."""
        return self.scatter / self.count

    def __add__(self, other: "Moments") -> "Moments":
        together = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            together,
            self.mean + step * (other.count / together),
            self.scatter + other.scatter + step**2 * (self.count * other.count / together),
        )


def moments_of(window: Tensor) -> Moments:
    """The moments of `(1, C, H, W)`."""
    values = window[0].permute(1, 2, 0).flatten(0, 1)  # (H * W, C), as it lies in memory
    mean = values.mean(0)
    scatter = (values - mean).square_().sum(0)
    return Moments(len(values), mean.cpu().double(), scatter.cpu().double())


class Work:
    """What the maps of one image share: how windows are cut, where maps are kept, how much is done.

    A rehearsal (`folder` None) computes nothing: it adds up how much there would be to do and to keep. One that
    `forgets` adds up what tensors would hold: they do not remember what they were computed from.
    """

    def __init__(
        self,
        layers: Mapping[Callable[..., Any], Callable[..., "FeatureMap"]],
        size: tuple[int, int],
        tile: int,
        device: torch.device,
        folder: Path | None,
        total: float = 0.0,
        progress: Callable[[float], None] = lambda _: None,
        forgets: bool = False,
    ) -> None:
        self.layers = layers
        self.pixels = size[0] * size[1]
        self.tile = tile
        self.device = device
        self.folder = folder
        self.forgets = forgets
        self.total, self.progress = total, progress
        self.done = 0.0  # in multiplications, like `total`
        self.kept = self.most_kept = 0  # bytes in scratch files
        self.held = self.most_held = 0  # bytes of all maps, as if each were a tensor
        self.dropouts = count()

    def windows(self, x: "FeatureMap", size: tuple[int, int] | None = None) -> Iterator[tuple[range, range]]:
        """Rows and columns of `x`, or of its upper left `size` = (height, width), in windows of about `tile` pixels.

        Where the resolution halves the channels double, so windows shrink with the root of it: each holds as many
        numbers.
        """
        height, width = size or (x.height, x.width)
        side = max(round(self.tile * (x.height * x.width / self.pixels) ** 0.25), 1)
        if self.folder is None:
            self.done += x.cost * height * width
            return
        for top in range(0, height, side):
            for left in range(0, width, side):
                rows, columns = range(top, min(top + side, height)), range(left, min(left + side, width))
                yield rows, columns
                self.done += x.cost * len(rows) * len(columns)
                self.progress(self.done / self.total)

    def keeps(self, size: int) -> None:
        """So many bytes more (or fewer) are in scratch files."""
        self.kept += size
        self.most_kept = max(self.most_kept, self.kept)

    def holds(self, size: int) -> None:
        """Maps of so many bytes more (or fewer) are in use."""
        self.held += size
        self.most_held = max(self.most_held, self.held)


class FeatureMap:
    """`(1, C, H, W)`, computed or read from a file window by window. It knows just what generators ask of a tensor.

    A window just read belongs to the reader, who may change it in place.
    """

    def __init__(
        self, work: Work, shape: tuple[int, int, int], read: Read, cost: float, moments: Moments | None = None
    ) -> None:
        self.work = work
        self.channels, self.height, self.width = shape
        self.read = nothing if work.forgets else read
        self.cost = cost  # multiplications per pixel read
        self.moments = moments
        work.holds(self.bytes)
        weakref.finalize(self, work.holds, -self.bytes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        return self.channels, self.height, self.width

    @property
    def bytes(self) -> int:
        """As a tensor."""
        return BYTES * math.prod(self.shape)

    def dim(self) -> int:
        """As of a tensor."""
        return 4

    def size(self, axis: int) -> int:
        """As of a tensor."""
        return (1, *self.shape)[axis]

    def __add__(self, other: Any) -> Any:
        return torch.add(self, other)  # type: ignore[call-overload]  # it comes back to __torch_function__

    def __sub__(self, other: Any) -> Any:
        return torch.sub(self, other)  # type: ignore[call-overload]

    def __truediv__(self, other: Any) -> Any:
        return torch.div(self, other)  # type: ignore[arg-type]

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> "FeatureMap":
        first = arguments[0][0] if isinstance(arguments[0], (list, tuple)) else arguments[0]
        layers = first.work.layers
        if function not in layers:
            cannot(f"uses {getattr(function, '__name__', function)}")
        answer: FeatureMap = layers[function](*arguments, **(keywords or {}))
        return answer


def cannot(why: str) -> None:
    """Raises the `DiptychError` of a generator that cannot be run in windows."""
    raise DiptychError(f"this generator cannot be run in tiles, as it {why}; leave out --tile")


def nothing(rows: range, columns: range) -> Tensor:
    """What a rehearsal reads."""
    raise AssertionError(f"a rehearsal reads no pixel ({rows}, {columns})")


def stored(x: FeatureMap) -> FeatureMap:
    """`x`, computed now; reading it reads a file. One of the image's own size comes back as it is."""
    work = x.work
    if x.height * x.width >= work.pixels:
        return x
    if work.folder is None:
        for _ in work.windows(x):
            pass
        answer = FeatureMap(work, x.shape, nothing, 0)
    else:
        file, moments = ScratchFile(work.folder, x.shape), None
        for rows, columns in work.windows(x):
            window = x.read(rows, columns)
            file.write(rows, columns, window)
            moments = moments_of(window) if moments is None else moments + moments_of(window)
        answer = FeatureMap(work, x.shape, lambda *at: file.read(*at).to(work.device), 0, moments)
    work.keeps(x.bytes)
    weakref.finalize(answer, work.keeps, -x.bytes)
    return answer


def moments(x: FeatureMap) -> Moments:
    """Those of the whole map; of one that is not in a file, every window is computed for them."""
    if x.moments is None:
        parts = (moments_of(x.read(rows, columns)) for rows, columns in x.work.windows(x))
        whole = next(parts, Moments(1, *torch.zeros(2, x.channels)))  # a rehearsal has no parts
        for part in parts:
            whole += part
        x.moments = whole
    return x.moments
