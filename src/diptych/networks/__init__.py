"""Generators and judges: plain numbers -> `nn.Module`. Nothing here knows of settings or files."""

import reprlib
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from torch import nn

from diptych.errors import nearest
from diptych.networks.fcn import FCN8s
from diptych.networks.patch import PATCH_LAYERS, PatchJudge
from diptych.networks.resnet import ResNetGenerator
from diptych.networks.unet import UNetGenerator

__all__ = ["GENERATORS", "PATCH_LAYERS", "FCN8s", "PatchJudge", "ResNetGenerator", "UNetGenerator", "make_generator"]

LARGEST = {"blocks": 256, "depth": 12}
MOST_CHANNELS = 4096
"""Beyond these a description is a mistake, or malice."""

GENERATORS: dict[str, type[nn.Module]] = {"resnet": ResNetGenerator, "unet": UNetGenerator, "fcn8s": FCN8s}


def make_generator(architecture: Mapping[str, Any]) -> nn.Module:
    """A new generator from `{"generator": kind, **keywords}`, as stored beside its weights."""
    keywords = dict(architecture)
    return GENERATORS[keywords.pop("generator")](**keywords)


def checked_architecture(architecture: Any) -> dict[str, Any]:
    """`architecture`, which may come from anyone, if `make_generator` can take it; raises `ValueError` if not."""
    kind = architecture.get("generator") if isinstance(architecture, dict) else None
    if not isinstance(kind, str) or kind not in GENERATORS:
        raise ValueError(f"describes no generator known here ({', '.join(GENERATORS)})")
    allowed = get_type_hints(GENERATORS[kind].__init__)
    del allowed["return"]
    for name, value in architecture.items():
        if name != "generator" and name not in allowed:
            raise ValueError(f"unknown {name!r}{nearest(name, allowed)}")
        if name != "generator" and not _is_allowed(name, value, allowed[name]):
            raise ValueError(f"{name} is {reprlib.repr(value)}, as no {kind} has it")
    return dict(architecture)


def _is_allowed(name: str, value: Any, kind: Any) -> bool:
    if kind is int:
        return type(value) is int and 1 <= value <= LARGEST.get(name, MOST_CHANNELS)
    if kind is float:
        return type(value) in (int, float) and 0 <= value <= 1
    return type(value) is kind if kind is bool else value in get_args(kind)
