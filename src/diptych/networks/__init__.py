"""Generators and judges: plain numbers -> `nn.Module`. Nothing here knows of settings or files."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from diptych.networks.fcn import FCN8s
from diptych.networks.patch import PATCH_LAYERS, PatchJudge
from diptych.networks.resnet import ResNetGenerator
from diptych.networks.unet import UNetGenerator

__all__ = ["GENERATORS", "PATCH_LAYERS", "FCN8s", "PatchJudge", "ResNetGenerator", "UNetGenerator", "make_generator"]

GENERATORS: dict[str, type[nn.Module]] = {"resnet": ResNetGenerator, "unet": UNetGenerator, "fcn8s": FCN8s}


def make_generator(architecture: Mapping[str, Any]) -> nn.Module:
    """A new generator from `{"generator": kind, **keywords}`, as stored beside its weights."""
    keywords = dict(architecture)
    return GENERATORS[keywords.pop("generator")](**keywords)
