"""What several processes that hold the rows of one batch have in common: means over all rows, and one gradient.

Every process holds as many rows of each kind, so that the mean over all rows is the mean of the processes' means.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from diptych.processes import speaking, this_process

NUMBERS_AT_ONCE = 2**23  # of gradients that are averaged in one message: 32 MiB of float32

_rows_are_shared = False


@contextmanager
def sharing_rows() -> Iterator[None]:
    """In the block, the rows at hand are a share of a batch that all processes work on, in the same order of calls."""
    global _rows_are_shared
    before, _rows_are_shared = _rows_are_shared, this_process().size > 1
    try:
        yield
    finally:
        _rows_are_shared = before


def rows_are_shared() -> bool:
    """Whether other processes hold rows of the batch at hand."""
    return _rows_are_shared


def over_all_rows(mean: Tensor) -> Tensor:
    """A mean over the rows at hand -> the mean over the rows of all processes; gradients reach the rows of all."""
    if not _rows_are_shared:
        return mean
    answer: Tensor = _MeanOfProcesses.apply(mean)  # type: ignore[no-untyped-call]
    return answer


class _MeanOfProcesses(torch.autograd.Function):
    """Each process's loss depends on the mean, so that its gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor) -> Tensor:
        del ctx
        return _mean(mean.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return _mean(gradients[0].clone(memory_format=torch.contiguous_format))


def _mean(tensor: Tensor) -> Tensor:
    """Put the mean over the processes in the place of `tensor`, which is contiguous."""
    with speaking():
        dist.all_reduce(tensor)
    return tensor.div_(this_process().size)


def average(tensors: Sequence[Tensor]) -> None:
    """Put the mean over the processes in the place of each of `tensors`, of one device and type."""
    if this_process().size == 1:
        return
    message: list[Tensor] = []
    for tensor in tensors:
        if message and sum(t.numel() for t in message) + tensor.numel() > NUMBERS_AT_ONCE:
            _average_at_once(message)
            message = []
        message.append(tensor)
    if message:
        _average_at_once(message)


def _average_at_once(tensors: Sequence[Tensor]) -> None:
    means = _mean(torch.cat([tensor.reshape(-1) for tensor in tensors]))
    for tensor, mean in zip(tensors, torch.split(means, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


def any_of(here: bool) -> bool:
    """Whether it is true in any process."""
    return here if this_process().size == 1 else bool(_mean(torch.tensor(float(here))) > 0)
