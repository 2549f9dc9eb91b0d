"""A generator over an image too large for memory: layer by layer, window by window, and the same to rounding.

The generator's own `forward` runs on a `FeatureMap` that stands in for a tensor; each torch function it calls is
answered out of `LAYERS`. A window of a layer's answer reads just as much of what goes in as its kernel reaches, so
windows meet without a seam and nothing has to be blended. A normalisation takes the statistics of the whole map.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diptych.errors import DiptychError
from diptych.tiling.layers import LAYERS, mirrored
from diptych.tiling.maps import FeatureMap, Read, Work, nothing

__all__ = ["Needs", "mirrored", "needs", "run_in_windows"]


@dataclass(frozen=True)
class Needs:
    """What one image takes, in bytes."""

    scratch: int  # on disk, in windows
    memory: int  # without windows: what the layers hold at once, about


def needs(generator: nn.Module, channels: int, height: int, width: int) -> Needs:
    """What `generator` takes for an image `(channels, height, width)`; computes nothing.

    Raises `DiptychError` where it cannot be run in windows.
    """
    shape = (channels, height, width)
    held = _rehearsed(generator, shape, forgets=True).most_held
    # At once, convolutions work on a rearranged copy of what goes in.
    return Needs(scratch=_rehearsed(generator, shape).most_kept, memory=2 * held)


def run_in_windows(
    generator: nn.Module,
    shape: tuple[int, int, int],
    read: Read,
    write: Callable[[range, range, Tensor], None],
    *,
    tile: int,
    scratch: Path,
    size: tuple[int, int] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Run `generator` on the image `(C, H, W) = shape` that `read` gives windows of; hand each window to `write`.

    `tile` is a window's side in pixels of the image; memory grows with its square and not with the image. Files in
    `scratch` hold what the layers pass on (`needs` says how much); they have no name and vanish with this process.
    `size` = (height, width) cuts the output, lower right. `progress` hears the share done, 0 to 1.
    Raises `DiptychError` where the generator cannot be run so, or the disk is full.
    """
    rehearsed = _rehearsed(generator, shape, size)
    device = _device(generator)
    work = Work(LAYERS, shape[1:], tile, device, scratch, rehearsed.done, progress)

    def moved(rows: range, columns: range) -> Tensor:
        # Windows lie in memory with the channels last, as they do in the files.
        return read(rows, columns).to(device, memory_format=torch.channels_last)

    try:
        with torch.inference_mode():
            out: FeatureMap = generator(FeatureMap(work, shape, moved, 0))
            for rows, columns in work.windows(out, size):
                write(rows, columns, out.read(rows, columns))
    except OSError as problem:
        raise DiptychError(
            f"{scratch}: scratch files of {rehearsed.most_kept / 1e9:.1f} GB cannot be kept there "
            f"({problem.strerror}); free some space, or choose an --out on another disk"
        ) from None


def _rehearsed(
    generator: nn.Module, shape: tuple[int, int, int], size: tuple[int, int] | None = None, forgets: bool = False
) -> Work:
    work = Work(LAYERS, shape[1:], 1, _device(generator), None, forgets=forgets)
    out: FeatureMap = generator(FeatureMap(work, shape, nothing, 0))
    for _ in work.windows(out, size):
        pass
    return work


def _device(generator: nn.Module) -> torch.device:
    return next(generator.parameters()).device
