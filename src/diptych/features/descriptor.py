"""A classical descriptor of a picture: layout, colour and gradients. It needs no weights and no network.

The picture is squashed to 64 x 64 pixels and turned into opponent colours, each in [-1, 1]: lightness (dark to light),
red - green and yellow - blue. Three blocks describe it, D = 384 numbers in all:

| numbers | block  | what it holds                                                                             |
|---------|--------|-------------------------------------------------------------------------------------------|
| 0..95   | layout | mean and spread of the three colours in each of 4 x 4 cells: (4, 4, 6)                    |
| 96..255 | colour | a joint 4 x 4 x 4 histogram of the whole picture, then the three 8-bin histograms of each |
|         |        | of 2 x 2 cells: (4, 4, 4) and (2, 2, 3, 8)                                                |
| 256..383| edges  | gradient orientations, 8 over half a turn, in each of 4 x 4 cells: (4, 4, 8)              |

Cells overlap (a pixel belongs to its two nearest cells along each axis) and so do bins, so that a small crop or shift
moves the numbers only a little. Histograms are square roots of shares, which makes their Euclidean distance the
Hellinger distance; each block is scaled so that no other outweighs it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.images import Floats, read_view, to_float

Array = NDArray[np.float32]

VERSION = "descriptor-1"  # raise it whenever a number below changes: features are cached under it
SIDE = 64  # pixels
DIMENSION = 384
FAINTEST_EDGE = 0.02  # mean gradient of a cell, of a range of 2: below it there is only noise


def describe_files(files: Sequence[Path]) -> Array:
    """Image files -> their descriptors, float32 `(N, 384)`. Raises `UnreadableImageError` naming the file."""
    return np.stack([describe(to_float(read_view(file, (SIDE, SIDE)))) for file in files])


def describe(image: Floats) -> Array:
    """A float32 RGB picture `(3, 64, 64)` in [-1, 1] -> its descriptor, float32 `(384,)`, finite."""
    red, green, blue = image
    lightness: Array = 0.3 * red + 0.6 * green + 0.1 * blue
    colours = np.stack([lightness, (red - green) / 2, (red + green) / 4 - blue / 2])  # (3, 64, 64) in [-1, 1]
    # Hues of real pictures crowd around grey: the outer half of both axes is given up for finer bins inside.
    stretched = colours * np.array([1, 2, 2], np.float32)[:, None, None]
    return np.concatenate([_layout(colours), _colour(stretched), _edges(lightness)]).astype(np.float32)


def _layout(colours: Array) -> Array:
    means = _pool(colours, 4)  # (3, 4, 4)
    squares = _pool(colours**2, 4)
    spreads: Array = np.sqrt((squares - means**2).clip(0))
    cells = np.concatenate([means, spreads])  # (6, 4, 4)
    return cells.transpose(1, 2, 0).ravel() * np.float32(0.25)  # distances are root mean squares over the 16 cells


def _colour(colours: Array) -> Array:
    lightness, red_green, yellow_blue = _bins(colours.reshape(3, -1), 4)  # (4096, 4) each
    hues = (red_green[:, :, None] * yellow_blue[:, None, :]).reshape(-1, 16)  # (4096, 16)
    whole: Array = lightness.T @ hues / len(hues)  # (4, 16), sums to 1
    cells = _pool(np.moveaxis(_bins(colours, 8), -1, 1).reshape(24, SIDE, SIDE), 2)  # (24, 2, 2), 8 numbers sum to 1
    # Two halves of equal weight: one histogram, and the mean of twelve.
    shares = np.concatenate([whole.ravel() / 2, cells.transpose(1, 2, 0).ravel() / 24])  # sums to 1
    roots: Array = np.sqrt(shares)
    return roots


def _edges(lightness: Array) -> Array:
    down, across = np.gradient(lightness)
    strength = np.hypot(across, down)
    turn = np.arctan2(down, across) / np.pi * 8 % 8  # 0..8 over half a turn; an edge has no sign
    distance = np.abs(turn - np.arange(8)[:, None, None])
    votes = strength * (1 - np.minimum(distance, 8 - distance)).clip(0)  # (8, 64, 64), summing to strength
    cells = _pool(votes.astype(np.float32), 4)  # (8, 4, 4)
    shares = cells / (cells.sum(0) + FAINTEST_EDGE) / 16  # sums to at most 1
    roots: Array = np.sqrt(shares).transpose(1, 2, 0).ravel()
    return roots


def _bins(values: Array, bins: int) -> Array:
    """Values in [-1, 1] (clipped) `(...)` -> how far each belongs to each bin `(..., bins)`, summing to 1."""
    position: Array = (values.clip(-1, 1) + 1) * np.float32((bins - 1) / 2)  # 0 .. bins - 1
    votes: Array = (1 - np.abs(position[..., None] - np.arange(bins, dtype=np.float32))).clip(0)
    return votes


def _pool(maps: Array, cells: int) -> Array:
    """Weighted means over overlapping cells: `(C, 64, 64)` -> `(C, cells, cells)`."""
    weights = _WEIGHTS[cells]  # (cells, 64)
    pooled: Array = np.matmul(np.matmul(weights, maps), weights.T)
    return pooled


def _cell_weights(cells: int) -> Array:
    position = (np.arange(SIDE) + 0.5) * cells / SIDE - 0.5  # in cells; the first cell's centre is 0
    weights = (1 - np.abs(position.clip(0, cells - 1) - np.arange(cells)[:, None])).clip(0)
    weights /= weights.sum(1, keepdims=True)
    return weights.astype(np.float32)


_WEIGHTS = {cells: _cell_weights(cells) for cells in (2, 4)}
