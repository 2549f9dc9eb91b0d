"""CycleGAN (Zhu et al. 2017): no pairs, a generator each way, and the way back must lead home.

    L(G, F, D_a, D_b) = L_LSGAN(G, D_b) + L_LSGAN(F, D_a) + 10 (|F G a - a|_1 + |G F b - b|_1)        (eq. 3)

and, as in its section 5.2 and released code, 5 (|G b - b|_1 + |F a - a|_1). The judges' losses are halved and see
fakes out of a pool of 50 (section 4).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from diptych.batches import Batch
from diptych.methods.base import Images, Makers, Options, Phase, Terms
from diptych.methods.two_way import (
    load_pools_state,
    make_networks,
    make_pools,
    pools_state,
    translate_both_ways,
    unconditional_judge_terms,
    unpaired_terms,
)


class CycleGAN:
    defaults: ClassVar[Mapping[str, Any]] = {
        "rhythm": "unpaired",
        "unpaired": "all",
        "unpaired_a": None,
        "unpaired_b": None,
        "adversarial": "lsgan",
        "cycle_l2": 0.0,
        "pool_size": 50,
        "generator": "resnet",
        "norm": "instance",
        "dropout": False,
        "translate_in_train_mode": False,
    }
    rhythms: ClassVar[tuple[str, ...]] = ("unpaired",)
    update_order: tuple[Phase, ...] = ("generators", "judges")
    lr_scale: ClassVar[Mapping[str, float]] = {}

    @staticmethod
    def default_weights(direction: str) -> dict[str, float]:
        del direction  # both are learned
        per_domain = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "judge": 0.5}
        return {f"{term}_{domain}": weight for term, weight in per_domain.items() for domain in ("a", "b")}

    def __init__(self, make: Makers, options: Options) -> None:
        self.networks = make_networks(make)
        self.weights = options.weights
        self.options = options
        self.pools = make_pools(options)

    def translate(self, batch: Batch) -> Images:
        return translate_both_ways(self.networks, self.weights, batch)

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        return unpaired_terms(self.networks, self.options, batch, images)

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        return unconditional_judge_terms(self.networks, self.options, self.pools, batch, images)

    def state_dict(self) -> dict[str, Any]:
        return pools_state(self.pools)

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        load_pools_state(self.pools, state, device)
