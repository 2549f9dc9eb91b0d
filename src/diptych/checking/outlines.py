"""Do the two images of a pair show the same scene, pixel by pixel? Asked of their outlines alone, so that photos,
drawings and class maps may be compared.

An outline is the picture's edges on a coarse grid: in each cell a number of the plane whose direction is twice the
angle of the edges (so that an edge has no sign) and whose length is the square root of their strength, the mean over
the cell. Its slow part, where a picture has any edges at all, is taken out. Two outlines fit as far as they correlate,
and how well is told in standard deviations of images that do not belong together, `sigma`.

A pair is suspicious where, by `MARGIN` sigmas at least, its outlines fit better mirrored, or shifted, than as they lie;
or where they fit no better than strangers do (below `STRANGE` sigmas). The last is asked only of a set of which most
pairs do fit: horses and zebras never will.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outlines = NDArray[np.complex64]  # (N, SIDE, SIDE)
Numbers = NDArray[np.float64]  # (N,)

VERSION = "outline-1"  # raise it whenever a number of `outline` changes: outlines are kept under it
SIDE = 32  # cells
CELL = 2  # pixels
REACH = 8  # cells, the largest shift that is tried: a quarter of the picture
SLOW = 4.0  # cells, the standard deviation of what counts as slow
MARGIN, FITTING, STRANGE = 3.0, 4.0, 1.5  # sigmas
TELLING = 3.0  # sigmas: where the median pair fits less, the set is not one of aligned pairs
WHOLE = 1.0  # sigmas by which all pairs together must fit better elsewhere
STRANGERS = 256  # pairs whose images are set against one another


def outline(picture: NDArray[np.uint8]) -> NDArray[np.int8]:
    """A picture squashed to `(SIDE * CELL, SIDE * CELL, 3)` -> its outline as it is kept, real and imaginary parts
    `(2, SIDE, SIDE)`."""
    down, across = np.gradient(picture.astype(np.float32), axis=(0, 1))
    strength = (across**2 + down**2).sum(2)  # (H, W), of all colours together
    double = (across**2 - down**2).sum(2) + 2j * (across * down).sum(2)  # the strength, at twice the angle
    root = np.sqrt(np.maximum(strength, 1e-6))  # of the strength, itself a square
    roots = double / (root * np.sqrt(root))
    cells = roots.reshape(SIDE, CELL, SIDE, CELL).mean((1, 3))  # (SIDE, SIDE)
    parts = np.stack([cells.real, cells.imag])
    kept: NDArray[np.int8] = np.round(parts * (127 / max(np.abs(parts).max(), 1e-6))).astype(np.int8)
    return kept


def unpacked(kept: NDArray[np.int8]) -> Outlines:
    """Outlines as kept, `(N, ...)` -> without their slow part, of mean 0 and length 1; one without any edge is 0."""
    parts = kept.reshape(-1, 2, SIDE, SIDE).astype(np.float32)
    cells = parts[:, 0] + 1j * parts[:, 1]
    frequency = np.fft.fftfreq(SIDE)
    quick = 1 - np.exp(-2 * (np.pi * SLOW) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    cells = np.fft.ifft2(np.fft.fft2(cells) * quick)
    length = np.sqrt((np.abs(cells) ** 2).sum((1, 2), keepdims=True))
    unit: Outlines = (cells / np.maximum(length, 1e-6)).astype(np.complex64)
    return unit


@dataclass(frozen=True, eq=False)
class Fits:
    """How well the outlines of pairs correlate, in [-1, 1]: at every shift of b within `REACH`, and with b mirrored."""

    at: Numbers  # (N, 2 REACH + 1, 2 REACH + 1), by the shift down and across
    mirrored: Numbers  # (N,)


def fits_of(a: Outlines, b: Outlines) -> Fits:
    """Of outlines `a` and `b`, row by row."""
    surface = np.fft.ifft2(np.fft.fft2(b) * np.fft.fft2(a).conj()).real  # (N, SIDE, SIDE), by the shift of b
    shifts = np.arange(-REACH, REACH + 1)
    mirrored = (a * b[:, :, ::-1]).real.sum((1, 2))  # mirrored edges have the opposite angle
    return Fits(surface[:, shifts[:, None], shifts], mirrored.astype(np.float64))


def strangers(a: Outlines, b: Outlines) -> Numbers:
    """How well every outline of `a` correlates with every one of `b` but its own partner, the one in its row."""
    fits = (a.reshape(len(a), -1) @ b.reshape(len(b), -1).conj().T).real
    rows, columns = np.indices(fits.shape)
    apart: Numbers = fits[rows != columns].astype(np.float64)
    return apart


@dataclass(frozen=True, eq=False)
class Alignment:
    """The verdict on a set of pairs; numbers are sigmas above the middle of strangers."""

    lying: Numbers  # (N,) how well each pair fits as it lies, give or take a cell
    kinds: list[str]  # of each pair: "", "mirrored", "shifted" or "strange"
    shift: NDArray[np.int64]  # (N, 2) of each pair the best shift of b, in cells down and across
    telling: bool  # whether most pairs of the set fit in any way, so that one that does not is worth a word
    whole: str  # what is wrong with the set as a whole: "", "mirrored" or "shifted"
    whole_shift: tuple[int, int]  # cells, down and across


def judge(parts: Iterable[tuple[Outlines, Outlines]]) -> Alignment:
    """The verdict on the outlines of pairs, which come in parts; strangers are taken from within the first part.

    Raises `ValueError` where there are fewer than two pairs: they have no strangers.
    """
    middle = sigma = 0.0
    lying: list[Numbers] = []
    exact, mirrored, shifted, shift = [], [], [], []
    total = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    near = slice(REACH - 1, REACH + 2)
    for a, b in parts:
        if not lying:
            apart = strangers(a[:STRANGERS], b[:STRANGERS])
            if not len(apart):
                raise ValueError("a single pair has no strangers")
            middle = float(np.median(apart))
            sigma = max(1.4826 * float(np.median(np.abs(apart - middle))), 1e-6)  # a few neighbours do not widen it
        fits = fits_of(a, b)
        at, of_mirrored = (fits.at - middle) / sigma, (fits.mirrored - middle) / sigma
        total += at.sum(0)
        lying.append(at[:, near, near].max((1, 2)))
        exact.append(at[:, REACH, REACH].copy())
        mirrored.append(of_mirrored)
        at[:, near, near] = -np.inf
        flat = at.reshape(len(at), -1)
        shifted.append(flat.max(1))
        shift.append(np.stack(np.unravel_index(flat.argmax(1), total.shape), axis=1) - REACH)
    as_it_lies, mirror, elsewhere = (np.concatenate(numbers) for numbers in (lying, mirrored, shifted))
    mean = total / len(as_it_lies)
    down, across = (int(place) - REACH for place in np.unravel_index(mean.argmax(), mean.shape))
    off = mean.max() > mean[REACH, REACH] + WHOLE
    flipped = mirror.mean() > mean.max() + WHOLE
    telling = max(np.median(as_it_lies), np.median(mirror), np.median(elsewhere) if off else 0) >= TELLING
    kinds = {
        "mirrored": (mirror >= FITTING) & (mirror >= as_it_lies + MARGIN) & (mirror >= elsewhere),
        "shifted": (elsewhere >= FITTING) & (elsewhere >= as_it_lies + MARGIN),
        "strange": np.concatenate(exact) < STRANGE,
    }
    return Alignment(
        as_it_lies,
        np.select(list(kinds.values()), list(kinds), "").tolist() if telling else [""] * len(as_it_lies),
        np.concatenate(shift),
        bool(telling),
        "" if not telling else "mirrored" if flipped else "shifted" if off else "",
        (down, across),
    )
