"""Generators and judges: plain numbers -> `nn.Module`. Nothing here knows of settings or files."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from diptych.networks.patch import PATCH_LAYERS, PatchJudge
from diptych.networks.resnet import ResNetGenerator
from diptych.networks.unet import UNetGenerator

__all__ = ["GENERATORS", "PATCH_LAYERS", "PatchJudge", "ResNetGenerator", "UNetGenerator", "make_generator"]

GENERATORS: dict[str, type[nn.Module]] = {"resnet": ResNetGenerator, "unet": UNetGenerator}


def make_generator(architecture: Mapping[str, Any]) -> nn.Module:
    """A new generator from `{"generator": kind, **keywords}`, as stored beside its weights."""
    keywords = dict(architecture)
    return GENERATORS[keywords.pop("generator")](**keywords)
