"""Dataset -> an endless run of batches. A batch depends on the seed and its step alone, so a resumed run sees the same.

The rhythm of paired and unpaired batches lives here. Orders are permutations, one after another without a gap: an image
comes again only after every other one of its side has come. Images that lie in shards come a few shards at a time.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.dataset import Dataset, Domain, Packed
from diptych.decoded import Decoded
from diptych.fitting import Fit, fitted
from diptych.images import VOID, Classes, Pixels, read_class_map, read_pixels, to_float
from diptych.shards.order import shard_order

Crop = tuple[Pixels, NDArray[np.bool_]]  # (H, W, C), or class rows (H, W); and where it is no bar, (H, W)
PAIRS, SIDE_A, SIDE_B = 0, 1, 2  # what an order or a crop is drawn for


@dataclass(frozen=True)
class Batch:
    """As many images of either domain; rows `[:n_pairs]` of a and b show the same scenes, the rest are unrelated."""

    a: Tensor  # (B, Ca, H, W) float32 in [-1, 1]
    b: Tensor  # (B, Cb, H, W) float32 in [-1, 1]
    n_pairs: int
    a_classes: Tensor | None = None  # (B, H, W) int64 where a is a class map: 0 .. K-1 without void, and -100 for void
    b_classes: Tensor | None = None

    def to(self, device: torch.device, memory_format: torch.memory_format) -> "Batch":
        """The same batch on `device`."""
        return Batch(
            self.a.to(device, memory_format=memory_format),
            self.b.to(device, memory_format=memory_format),
            self.n_pairs,
            None if self.a_classes is None else self.a_classes.to(device),
            None if self.b_classes is None else self.b_classes.to(device),
        )


@dataclass(frozen=True)
class Rows:
    """What one batch is made of: so many pairs, then unpaired images; and how many of each came in earlier batches."""

    pairs: int
    pairs_before: int
    unpaired_before: int


@dataclass(frozen=True, eq=False)
class InShards:
    """Images in shards that an order is drawn for."""

    domain: Domain
    packed: Packed
    images: NDArray[np.int64]  # (N,), in the domain
    shards: NDArray[np.int64]  # (N,), the shard of each
    ahead: int  # a shard is fetched about so many images before it is drawn from: as many as it holds


class Rhythm(Protocol):
    def __call__(self, step: int) -> Rows:
        """The rows of step `step`, counted from 0."""
        ...


@dataclass(frozen=True)
class Passes:
    """So many steps of pairs, then so many of unpaired images (None: for ever), turn by turn."""

    batch_size: int
    paired_steps: int
    unpaired_steps: int | None

    def __call__(self, step: int) -> Rows:
        if self.unpaired_steps is None:
            turn, place = 0, step
        else:
            turn, place = divmod(step, self.paired_steps + self.unpaired_steps)
        paired = place < self.paired_steps
        pairs_before = turn * self.paired_steps + min(place, self.paired_steps)
        return Rows(
            pairs=self.batch_size if paired else 0,
            pairs_before=pairs_before * self.batch_size,
            unpaired_before=(step - pairs_before) * self.batch_size,
        )


@dataclass(frozen=True)
class Mixed:
    """Half of every batch are pairs."""

    batch_size: int

    def __call__(self, step: int) -> Rows:
        pairs = self.batch_size // 2
        return Rows(pairs, pairs_before=step * pairs, unpaired_before=step * (self.batch_size - pairs))


def rhythm_of(
    name: str, pairs: int, unpaired: int, batch_size: int, *, balance: float | None = None, paired_steps: int = 0
) -> Rhythm:
    """The rhythm `name` for so many pairs and so many images of the larger unpaired side.

    - `"pairs"` and `"unpaired"` know one kind of step, and so does every rhythm where the other kind is missing.
    - `"passes"` (Shukla et al., section 4.1.5): `ceil(pairs / batch_size)` steps times `balance`, then
      `ceil(unpaired / batch_size)` steps. Without a `balance` the first are made as many as the second, or one whole
      pass over the pairs where that is more.
    - `"phases"` (Tripathy et al.): `paired_steps` of pairs, then unpaired ones to the end.
    - `"mixed"`: both in every batch.
    """
    if name == "pairs" or unpaired == 0:
        return Passes(batch_size, 1, 0)
    if name == "unpaired" or pairs == 0:
        return Passes(batch_size, 0, 1)
    if name == "phases":
        return Passes(batch_size, paired_steps, None)
    if name == "mixed":
        return Mixed(batch_size)
    once, unpaired_steps = ceil(pairs / batch_size), ceil(unpaired / batch_size)
    steps = max(once, unpaired_steps) if balance is None else max(1, round(once * balance))
    return Passes(batch_size, steps, unpaired_steps)


class Batches:
    """The batches of a run, by step.

    Images are read once, brought to `jitter` times the training size as `fit` says and kept in `decoded` while they fit
    in; class maps are resized by nearest neighbour and painted in their colours after the crop.

    Of several processes, `share` = (rank, number of them), each is given its share of the `batch_size` rows, which is
    as large as every other's, of pairs and of unpaired images.

    The bars of a letterbox hold the image mirrored at its edge: neither a judge nor a normalisation sees them. As
    targets of cross-entropy they are void.
    """

    def __init__(
        self,
        dataset: Dataset,
        rhythm: Rhythm,
        size: tuple[int, int],
        *,
        batch_size: int,
        seed: int,
        jitter: float = 286 / 256,
        fit: Fit = "stretch",
        resample: Image.Resampling = Image.Resampling.BICUBIC,
        flip: bool = True,
        decoded: Decoded,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.dataset = dataset
        self.rhythm = rhythm
        self.width, self.height = size
        self.load_size = (round(self.width * jitter), round(self.height * jitter))
        self.fit: Fit = fit
        self.batch_size = batch_size
        self.seed = seed
        self.resample = resample
        self.flip = flip
        self.decoded = decoded
        self.rank, self.processes = share
        self.order = lru_cache(maxsize=8)(self._order)
        self.in_shards = lru_cache(maxsize=None)(self._in_shards)

    def at(self, step: int) -> Batch:
        """The batch of step `step`, counted from 0."""
        data, rows = self.dataset, self.rhythm(step)
        a, b = [], []
        pairs = self._share(rows.pairs_before, rows.pairs)
        for place in pairs:
            i, j = data.pairs[self._draw(PAIRS, len(data.pairs), place)]
            a.append(self._crop(data.a, i, PAIRS, place))
            b.append(self._crop(data.b, j, PAIRS, place))
        unpaired_a, unpaired_b = data.unpaired_domain("a"), data.unpaired_domain("b")
        for place in self._share(rows.unpaired_before, self.batch_size - rows.pairs):
            i = data.unpaired_a[self._draw(SIDE_A, len(data.unpaired_a), place)]
            j = data.unpaired_b[self._draw(SIDE_B, len(data.unpaired_b), place)]
            a.append(self._crop(unpaired_a, i, SIDE_A, place))
            b.append(self._crop(unpaired_b, j, SIDE_B, place))
        images_a, classes_a = _stack(a, data.a.classes)
        images_b, classes_b = _stack(b, data.b.classes)
        return Batch(images_a, images_b, len(pairs), classes_a, classes_b)

    def _share(self, before: int, rows: int) -> range:
        """The places of this process among `rows` that come after `before` earlier ones; as many as every other's."""
        each = rows // self.processes
        return range(before + self.rank * each, before + (self.rank + 1) * each)

    def _order(self, kind: int, count: int, turn: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self.seed, kind, turn))
        drawn = self.in_shards(kind)
        return rng.permutation(count) if drawn is None else shard_order(drawn.shards, rng)

    def _draw(self, kind: int, count: int, place: int) -> int:
        drawn = self.in_shards(kind)
        if drawn is not None:
            turn, within = divmod(place + drawn.ahead, count)
            index = int(drawn.images[self.order(kind, count, turn)[within]])
            if (drawn.domain, index) not in self.decoded.kept:
                drawn.packed.fetch_ahead(index)
        turn, within = divmod(place, count)
        return int(self.order(kind, count, turn)[within])

    def _in_shards(self, kind: int) -> InShards | None:
        """What is drawn, if it lies in shards; of pairs the side a, beside which b mostly lies."""
        data = self.dataset
        if kind == PAIRS:
            domain, images = data.a, np.array([i for i, _ in data.pairs])
        elif kind == SIDE_A:
            domain, images = data.unpaired_domain("a"), np.array(data.unpaired_a)
        else:
            domain, images = data.unpaired_domain("b"), np.array(data.unpaired_b)
        if domain.packed is None:
            return None
        shards = domain.packed.shards[images]
        return InShards(domain, domain.packed, images, shards, ahead=len(images) // len(np.unique(shards)))

    def _place_and_flip(self, kind: int, place: int, canvas: tuple[int, int]) -> tuple[int, int, bool]:
        rng = np.random.default_rng((self.seed, 3 + kind, place))
        left = int(rng.integers(canvas[0] - self.width + 1))
        top = int(rng.integers(canvas[1] - self.height + 1))
        return left, top, self.flip and bool(rng.random() < 0.5)

    def _crop(self, domain: Domain, index: int, kind: int, place: int) -> Crop:
        seen = fitted(domain.sizes[index], self.load_size, self.fit)
        left, top, flip = self._place_and_flip(kind, place, seen.canvas)
        window = slice(top, top + self.height), slice(left, left + self.width)
        whole, bars = self._load(domain, index, seen.scaled), seen.bars
        inside = np.pad(np.ones(whole.shape[:2], bool), bars)[window]
        if not inside.all():
            whole = np.pad(whole, (*bars, (0, 0))[: whole.ndim], mode="reflect")
        crop = whole[window]
        return (crop[:, ::-1], inside[:, ::-1]) if flip else (crop, inside)

    def _load(self, domain: Domain, index: int, size: tuple[int, int]) -> Pixels:
        def decode() -> Pixels:
            path = domain.file(index)
            if domain.classes is not None:
                return read_class_map(path, domain.classes, size)  # (H, W)
            return read_pixels(path, size, self.resample, domain.form)  # (H, W, C)

        return self.decoded.get((domain, index), decode)

    def footprints(self) -> list[int]:
        """Bytes of each image that is drawn from, once decoded."""
        data = self.dataset
        drawn = [(data.a, {i for i, _ in data.pairs}), (data.b, {j for _, j in data.pairs})]
        drawn += [(data.unpaired_domain("a"), set(data.unpaired_a)), (data.unpaired_domain("b"), set(data.unpaired_b))]
        used: dict[Domain, set[int]] = {}
        for domain, rows in drawn:
            used.setdefault(domain, set()).update(rows)
        sizes = []
        for domain, rows in used.items():
            per_pixel = 1 if domain.classes is not None else domain.form.channels * domain.form.bits // 8
            for row in rows:
                width, height = fitted(domain.sizes[row], self.load_size, self.fit).scaled
                sizes.append(width * height * per_pixel)
        return sizes


def _stack(crops: list[Crop], classes: Classes | None) -> tuple[Tensor, Tensor | None]:
    """Crops -> images `(B, C, H, W)` in [-1, 1], and for class maps what cross-entropy wants, int64 `(B, H, W)`."""
    if classes is None:
        return torch.from_numpy(np.stack([to_float(pixels) for pixels, _ in crops])), None
    painted = np.stack([to_float(classes.paint(rows)) for rows, _ in crops])
    targets = np.stack([np.where(inside, classes.targets(rows), VOID) for rows, inside in crops])
    return torch.from_numpy(painted), torch.from_numpy(targets)
