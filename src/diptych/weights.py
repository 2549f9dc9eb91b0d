"""Other people's files of weights: only tensors are ever read from them, no code that a file may hold is run."""

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import DiptychError

UNREADABLE = (
    *(OSError, EOFError, LookupError, RuntimeError, ValueError),
    *(TypeError, AttributeError, AssertionError, struct.error),
)
"""What torch raises for a damaged file, depending on the byte."""
ALONE = "save the state_dict() of the network alone"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `state_dict`, by name, from a .safetensors file or from one that `torch.save` wrote (any other).

    Raises `DiptychError`, one line, where the file cannot be read, is damaged or holds anything else.
    """
    try:
        file = path.open("rb")
    except OSError as problem:
        raise DiptychError(f"{path}: cannot be read ({problem.strerror}); give a .pth or .safetensors file") from None
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            with file:
                return load(file.read())
        except SafetensorError as problem:
            raise DiptychError(f"{path}: damaged, or no .safetensors file ({problem}); download it again") from None
    try:
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd pickles: what is wrong is told below, in one line
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DiptychError(
            f"{path}: holds more than weights, such as a whole module, or is no .pth file; {ALONE}"
        ) from None
    except UNREADABLE:
        raise DiptychError(f"{path}: damaged, or no .pth file; copy or download it again") from None
    if not isinstance(state, Mapping):
        raise DiptychError(f"{path}: holds a {type(state).__name__}; {ALONE}")
    odd = [name for name, tensor in state.items() if not (isinstance(name, str) and isinstance(tensor, Tensor))]
    if odd:
        raise DiptychError(f"{path}: {odd[0]!r} is no tensor; {ALONE}")
    return dict(state)
