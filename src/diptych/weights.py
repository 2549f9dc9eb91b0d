"""Files of weights: only tensors are ever read from them, no code that a file may hold is run."""

import hashlib
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from diptych.errors import DiptychError, reason
from diptych.reading import open_file

UNREADABLE = (
    *(OSError, EOFError, LookupError, RuntimeError, ValueError),
    *(TypeError, AttributeError, AssertionError, OverflowError, struct.error, zipfile.BadZipFile),
)
"""What torch raises for a damaged file, depending on the byte."""
MOST_SHARING = 4
"""Tensors may share their memory with others so many times,"""
HARMLESS = 2**30
"""and any number of times up to so many bytes."""
ALONE = "save the state_dict() of the network alone"


def read_checked(path: Path, expected: str | None) -> bytes:
    """The bytes of a file whose SHA-256 was `expected` when it was written (None: nobody wrote that down).

    Raises `DiptychError` where it cannot be read or is another file now.
    """
    try:
        with open_file(path) as file:
            data = file.read()
    except OSError as problem:
        raise DiptychError(f"{path}: cannot be read ({reason(problem)}); bring it back from a copy") from None
    found = hashlib.sha256(data).hexdigest()
    if expected is not None and found != expected:
        raise DiptychError(
            f"{path}: is not the file that was saved: its SHA-256 is {found}, expected {expected}; copy the folder "
            "again, whole"
        )
    return data


def tensors_in(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of the .safetensors file `path`, by name; raises `DiptychError` where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, *UNREADABLE) as problem:
        raise DiptychError(f"{path}: damaged, or no .safetensors file ({reason(problem)}); copy it again") from None


def check_fit(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises `DiptychError` naming the first tensor that `network` lacks, needs or has in another shape."""
    wanted = network.state_dict()
    for name, mine in wanted.items():
        if name not in tensors:
            raise DiptychError(
                f"{where}: lacks the tensor {name!r}, {shape(mine)}; its weights belong to another network"
            )
        theirs = tensors[name]
        if theirs.shape != mine.shape or theirs.is_complex():
            raise DiptychError(
                f"{where}: the tensor {name!r} is {shape(theirs)}, where its configuration asks for {shape(mine)}; "
                "its weights belong to another network"
            )
    more = next((name for name in tensors if name not in wanted), None)
    if more is not None:
        raise DiptychError(
            f"{where}: holds the tensor {more!r}, which its configuration has not; its weights belong to "
            "another network"
        )


def shape(tensor: Tensor) -> str:
    """`"64x3x7x7"`."""
    return ("complex " if tensor.is_complex() else "") + ("x".join(map(str, tensor.shape)) or "a single number")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `state_dict`, by name, from a .safetensors file or from one that `torch.save` wrote (any other).

    Raises `DiptychError`, one line, where the file cannot be read, is damaged or holds anything else.
    """
    try:
        file = open_file(path)
    except OSError as problem:
        raise DiptychError(f"{path}: cannot be read ({reason(problem)}); give a .pth or .safetensors file") from None
    if path.suffix == ".safetensors":
        with file:
            return tensors_in(file.read(), path)
    try:
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd pickles: what is wrong is told below, in one line
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > size:  # torch.save does not compress
                    raise ValueError(f"{unpacked} bytes in {size}")
            file.seek(0)
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
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            raise DiptychError(f"{path}: {name!r} is sparse, quantised, complex or without its numbers; {ALONE}")
    memory = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if memory > max(MOST_SHARING * size, HARMLESS):  # views of one number may claim to be of any shape
        raise DiptychError(f"{path}: claims {memory / 1e9:.1f} GB of weights in a file of {size / 1e6:.1f} MB; {ALONE}")
    return dict(state)
