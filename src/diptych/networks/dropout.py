"""Dropout that depends on the place: the same values fall whatever the device, and whichever part is computed first."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LOW = 0xFFFFFFFF  # 32 bits


class PlacedDropout(TorchFunctionMode):
    """A context in which `F.dropout` asks `dropped` instead of the random number generator, which it leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = count()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = keywords or {}
        if function is F.dropout and isinstance(arguments[0], Tensor) and keywords["training"]:
            return dropped(arguments[0], keywords["p"], next(self.layers))
        return function(*arguments, **keywords)


def dropped(x: Tensor, p: float, layer: int, top: int = 0, left: int = 0) -> Tensor:
    """Dropout of `(B, C, H, W)`, whose first pixel is at (`top`, `left`) of the whole; `layer` tells layers apart.

    A share `p` of the values falls to 0, the others are scaled by 1 / (1 - p). All rows of the batch lose the same.
    """
    _, channels, height, width = x.shape

    def places(start: int, length: int) -> Tensor:
        return torch.arange(start, start + length, device=x.device)

    chance = _scrambled(places(layer << 16, channels)).view(-1, 1, 1)
    chance = _scrambled(chance ^ _scrambled(places(top, height) + (1 << 30)).view(-1, 1))
    chance = _scrambled(chance ^ _scrambled(places(left, width) + (1 << 31)))  # (C, H, W), 0 .. 2**32 - 1
    return x * (chance >= p * 2**32) / (1 - p)


def _scrambled(numbers: Tensor) -> Tensor:
    """int64 in 0 .. 2**32 - 1, each to another of them that looks random (the finaliser of MurmurHash3)."""
    numbers = (numbers ^ numbers >> 16) * 0x85EBCA6B & LOW
    numbers = (numbers ^ numbers >> 13) * 0xC2B2AE35 & LOW
    return numbers ^ numbers >> 16
