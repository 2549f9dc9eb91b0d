"""pix2pix (Isola et al. 2017): pairs only, one generator, a judge that sees input and output together.

    min_G max_D  E log D(x, y) + E log(1 - D(x, G x)) + 100 |G x - y|_1        (eq. 1, 3 and 4)

Source x and target y are the domains of the trained direction; the judge's loss is halved (section 3.3).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from diptych.batches import Batch
from diptych.losses import ADVERSARIAL, distance
from diptych.methods.base import Images, Makers, Options, Phase, Terms
from diptych.networks.layers import together


class Pix2Pix:
    defaults: ClassVar[Mapping[str, Any]] = {
        "rhythm": "pairs",
        "pairs": "all",
        "adversarial": "vanilla",
        "reconstruction_l2": 0.0,
        "generator": "unet",
        "norm": "batch",
        "dropout": True,
        "translate_in_train_mode": True,
    }
    rhythms: ClassVar[tuple[str, ...]] = ("pairs",)
    update_order: tuple[Phase, ...] = ("judges", "generators")
    lr_scale: ClassVar[Mapping[str, float]] = {}

    @staticmethod
    def default_weights(direction: str) -> dict[str, float]:
        source, target = direction.split("_to_")
        return {
            f"adversarial_{target}_given_{source}": 1.0,
            f"reconstruction_{target}": 100.0,
            f"judge_{target}_given_{source}": 0.5,
        }

    def __init__(self, make: Makers, options: Options) -> None:
        self.source, self.target = options.direction.split("_to_")
        self.judge_name = f"judge_{self.target}_given_{self.source}"
        self.generator = make.generator(self.source, self.target)
        self.judge = make.judge(self.source, self.target)
        self.networks: dict[str, nn.Module] = {options.direction: self.generator, self.judge_name: self.judge}
        self.weights = options.weights
        self.reconstruction_l2 = options.reconstruction_l2
        self.adversarial = ADVERSARIAL[options.adversarial]

    def _sides(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return (batch.a, batch.b) if self.source == "a" else (batch.b, batch.a)

    def translate(self, batch: Batch) -> Images:
        x, _ = self._sides(batch)
        return {f"fake_{self.target}": self.generator(x)}

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        x, y = self._sides(batch)
        fake = images[f"fake_{self.target}"]
        terms: Terms = {}
        name = f"adversarial_{self.target}_given_{self.source}"
        if self.weights[name]:
            terms[name] = self.adversarial.generator_term(
                self.judge, torch.cat([x, fake], dim=1), torch.cat([x, y], dim=1)
            )
        name = f"reconstruction_{self.target}"
        if self.weights[name]:
            terms[name] = distance(fake, y, self.reconstruction_l2)
        return terms

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        if not self.weights[self.judge_name]:
            return {}
        x, y = self._sides(batch)
        real, fake = (torch.cat([x, image], dim=1) for image in (y, images[f"fake_{self.target}"]))
        return {self.judge_name: self.adversarial.judge(*together(self.judge, real, fake))}  # of logits (B, 1, h, w)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        del state, device  # nothing is remembered between steps
