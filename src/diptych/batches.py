"""Dataset -> an endless run of batches. A batch depends on the seed and its step alone, so a resumed run sees the same.

The rhythm of paired and unpaired batches lives here. Orders are permutations, one after another without a gap: an image
comes again only after every other one of its side has come.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.dataset import Dataset, Domain
from diptych.images import read_class_map, read_pixels, to_float

PAIRS, SIDE_A, SIDE_B = 0, 1, 2  # what an order or a crop is drawn for


@dataclass(frozen=True)
class Batch:
    """As many images of either domain; rows `[:n_pairs]` of a and b show the same scenes, the rest are unrelated."""

    a: Tensor  # (B, Ca, H, W) float32 in [-1, 1]
    b: Tensor  # (B, Cb, H, W) float32 in [-1, 1]
    n_pairs: int

    def to(self, device: torch.device, memory_format: torch.memory_format) -> "Batch":
        """The same batch on `device`."""
        a = self.a.to(device, memory_format=memory_format)
        b = self.b.to(device, memory_format=memory_format)
        return replace(self, a=a, b=b)


@dataclass(frozen=True)
class Rhythm:
    """How many steps a paired and an unpaired pass take; the two take turns, the paired one first."""

    paired_steps: int
    unpaired_steps: int

    def at(self, step: int) -> tuple[bool, int]:
        """Is step `step` (from 0) a paired one, and how many of its kind came before it?"""
        turn, place = divmod(step, self.paired_steps + self.unpaired_steps)
        if place < self.paired_steps:
            return True, turn * self.paired_steps + place
        return False, turn * self.unpaired_steps + place - self.paired_steps


def rhythm_of(name: str, pairs: int, unpaired: int, batch_size: int) -> Rhythm:
    """The rhythm `name` for so many pairs and so many images of the larger unpaired side.

    `"pairs"` and `"unpaired"` know one kind of step. `"passes"` is Shukla et al.'s (section 4.1.5): a full pass over
    the pairs, repeated until it takes as many steps as the full unpaired pass that follows.
    """
    if name == "pairs" or unpaired == 0:
        return Rhythm(1, 0)
    if name == "unpaired" or pairs == 0:
        return Rhythm(0, 1)
    unpaired_steps = ceil(unpaired / batch_size)
    return Rhythm(max(ceil(pairs / batch_size), unpaired_steps), unpaired_steps)


class Batches:
    """The batches of a run, by step.

    Images are read once, resized to `jitter` times the training size and kept as uint8 while they fit into
    `memory_bytes`; class maps are resized by nearest neighbour and painted in their colours after the crop.
    """

    def __init__(
        self,
        dataset: Dataset,
        rhythm: str,
        size: tuple[int, int],
        *,
        batch_size: int,
        seed: int,
        jitter: float = 286 / 256,
        flip: bool = True,
        memory_bytes: int = 2 * 2**30,
    ) -> None:
        self.dataset = dataset
        larger_side = max(len(dataset.unpaired_a), len(dataset.unpaired_b))
        self.rhythm = rhythm_of(rhythm, len(dataset.pairs), larger_side, batch_size)
        self.width, self.height = size
        self.load_size = (round(self.width * jitter), round(self.height * jitter))
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.memory_left = memory_bytes
        self.memory: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self.order = lru_cache(maxsize=8)(self._order)

    def at(self, step: int) -> Batch:
        """The batch of step `step`, counted from 0."""
        paired, before = self.rhythm.at(step)
        places = range(before * self.batch_size, (before + 1) * self.batch_size)
        rows_a, rows_b = [], []
        data = self.dataset
        for place in places:
            if paired:
                i, j = data.pairs[self._draw(PAIRS, len(data.pairs), place)]
                where = self._place_and_flip(PAIRS, place)
                rows_a.append(self._crop(SIDE_A, i, *where))
                rows_b.append(self._crop(SIDE_B, j, *where))
            else:
                i = data.unpaired_a[self._draw(SIDE_A, len(data.unpaired_a), place)]
                j = data.unpaired_b[self._draw(SIDE_B, len(data.unpaired_b), place)]
                rows_a.append(self._crop(SIDE_A, i, *self._place_and_flip(SIDE_A, place)))
                rows_b.append(self._crop(SIDE_B, j, *self._place_and_flip(SIDE_B, place)))
        a = torch.from_numpy(np.stack(rows_a))  # (B, 3, H, W)
        b = torch.from_numpy(np.stack(rows_b))
        return Batch(a, b, n_pairs=len(rows_a) if paired else 0)

    def _order(self, kind: int, count: int, turn: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, kind, turn)).permutation(count)

    def _draw(self, kind: int, count: int, place: int) -> int:
        turn, within = divmod(place, count)
        return int(self.order(kind, count, turn)[within])

    def _place_and_flip(self, kind: int, place: int) -> tuple[int, int, bool]:
        rng = np.random.default_rng((self.seed, 3 + kind, place))
        left = int(rng.integers(self.load_size[0] - self.width + 1))
        top = int(rng.integers(self.load_size[1] - self.height + 1))
        return left, top, self.flip and bool(rng.random() < 0.5)

    def _crop(self, side: int, index: int, left: int, top: int, flip: bool) -> NDArray[np.float32]:
        domain = self.dataset.a if side == SIDE_A else self.dataset.b
        whole = self._load(side, domain, index)
        crop = whole[top : top + self.height, left : left + self.width]
        if flip:
            crop = crop[:, ::-1]
        return to_float(domain.classes.paint(crop) if domain.classes else crop)  # (3, H, W)

    def _load(self, side: int, domain: Domain, index: int) -> NDArray[np.uint8]:
        whole = self.memory.get((side, index))
        if whole is None:
            path = domain.file(index)
            if domain.classes is not None:
                whole = read_class_map(path, domain.classes, self.load_size)  # (H, W)
            else:
                whole = read_pixels(path, self.load_size)  # (H, W, 3)
            if whole.nbytes <= self.memory_left:
                self.memory_left -= whole.nbytes
                self.memory[side, index] = whole
        return whole
