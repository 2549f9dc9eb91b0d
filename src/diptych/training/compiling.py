"""Compiled networks: layers fused by torch's own compiler, which saves the copies between convolutions.

InstanceNorm and reflection padding bring an image out of the layout that convolutions are quick in, and back, at every
layer. Fused with their neighbours they keep it. Networks without InstanceNorm gain nothing on a processor. Compiling
takes about a minute, so that it is for trainings of some length; what was compiled is kept for later ones by torch.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from diptych.errors import first_line

WORTH_IT = 1e11
"""Steps x images x pixels x channels squared, from which on a training is long: half an hour on two cores."""
IMAGES_PER_STEP = 4
"""Translated images that make up for compiling as one step does: it is longer, its compiling, too."""
MOST_VARIANTS = 64
"""Of one network's code, by shapes and by what carries a gradient; torch's own limit of 8 falls short of two judges."""


def is_worth_it(steps: int, batch_size: int, size: tuple[int, int], ngf: int) -> bool:
    """Whether a training of this length saves clearly more time than compiling takes."""
    return steps * batch_size * size[0] * size[1] * ngf**2 >= WORTH_IT


def why_not(device: torch.device) -> str | None:
    """Why nothing can be compiled for `device` here, in a few words; None where it can."""
    if device.type not in ("cpu", "cuda"):
        return f"torch compiles for cpu and cuda, not for {device.type}"
    from torch._dynamo.exc import TorchDynamoException

    try:
        torch.compile(torch.sin, dynamic=False)(torch.zeros(8, device=device))
    except (TorchDynamoException, RuntimeError, OSError) as problem:  # no compiler, or one without Python's headers
        return f"torch's compiler does not work ({first_line(problem)}); it wants a C++ compiler and Python's headers"
    return None


def compile_networks(networks: Iterable[nn.Module]) -> None:
    """Compile, at their first call, those of `networks` that gain by it; weights and names stay as they are."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    for network in networks:
        if any(isinstance(module, nn.InstanceNorm2d) for module in network.modules()):
            network.compile(dynamic=False)


@contextmanager
def uncompiled(compiled: bool) -> Iterator[None]:
    """A context in which nothing is compiled, for calls of many sizes; `compiled` says whether anything ever is."""
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
