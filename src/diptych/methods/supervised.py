"""Plain supervision on pairs, without a judge: what every other method has to beat.

    L = (1 - s) |G x - y|_1 + s |G x - y|_2^2        or, where y is a class map,        L = -E log softmax(G x)_y

Source x and target y are the domains of the trained direction; void pixels of y are left out of the cross-entropy. With
an FCN-8s as G the latter is the segmentation baseline of Shukla et al. 2019, table 6.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from diptych.batches import Batch
from diptych.losses import cross_entropy, distance
from diptych.methods.base import Images, Makers, Options, Phase, Terms


class Supervised:
    defaults: ClassVar[Mapping[str, Any]] = {
        "rhythm": "pairs",
        "pairs": "all",
        "loss": None,
        "reconstruction_l2": 0.0,
        "generator": "resnet",
        "norm": "instance",
        "dropout": False,
        "translate_in_train_mode": False,
    }
    rhythms: ClassVar[tuple[str, ...]] = ("pairs",)
    update_order: tuple[Phase, ...] = ("generators",)
    lr_scale: ClassVar[Mapping[str, float]] = {}

    @staticmethod
    def default_weights(direction: str) -> dict[str, float]:
        return {f"supervised_{direction[-1]}": 1.0}

    def __init__(self, make: Makers, options: Options) -> None:
        self.source, self.target = options.direction.split("_to_")
        self.generator = make.generator(self.source, self.target)
        self.networks: dict[str, nn.Module] = {options.direction: self.generator}
        self.weights = options.weights
        self.options = options

    def translate(self, batch: Batch) -> Images:
        x = batch.a if self.source == "a" else batch.b
        return {f"fake_{self.target}": self.generator(x)}  # class logits (B, K, H, W) under cross-entropy

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        name, fake = f"supervised_{self.target}", images[f"fake_{self.target}"]
        if not self.weights[name]:
            return {}
        if self.options.loss == "pixel":
            y = batch.a if self.target == "a" else batch.b
            return {name: distance(fake, y, self.options.reconstruction_l2)}
        classes = batch.a_classes if self.target == "a" else batch.b_classes  # (B, H, W)
        assert classes is not None
        return {name: cross_entropy(fake, classes)}

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        del batch, images
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        del state, device  # nothing is remembered between steps
