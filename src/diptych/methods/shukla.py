"""Extremely weak supervision (Shukla et al. 2019): a few pairs and many unpaired images, relativistic judges.

    L_D^b = -E log sigma(D_b(b) - D_b(G a))        L_G^b = -E log sigma(D_b(G a) - D_b(b))        (eq. 1 and 2)
    L_cyc = |F G a - a|_1 + |G F b - b|_1           (eq. 3)
    L_idt = |G b - b|_1 + |F a - a|_1               (eq. 4)
    L_rec = |G a - b|_1 + |F b - a|_1               (eq. 5, on true pairs only)
    L = 1 L_adv + 10 L_cyc + 10 L_idt + 150 L_rec   (eq. 6)

and L_D, L_G likewise on domain a. The judges' losses are not halved; they see fakes out of a pool of 50 (section 3.5).
The authors' released code differs: pools of their own for paired batches, and in L_G the real images, too, come out of
pools. Both are options here.

Ours besides: where b is a class map, G may end in class logits. The judge, the cycle and the identity then see the
colours to be expected, and L_rec on b is the cross-entropy of true pairs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from diptych.batches import Batch
from diptych.losses import cross_entropy, distance
from diptych.methods.base import Images, Makers, Options, Phase, Terms
from diptych.methods.two_way import (
    from_pools,
    load_pools_state,
    make_networks,
    make_pools,
    pools_state,
    translate_both_ways,
    unconditional_judge_terms,
    unpaired_terms,
)


class Shukla:
    defaults: ClassVar[Mapping[str, Any]] = {
        "rhythm": "passes",
        "balance": None,
        "paired_steps": None,
        "pairs": "none",
        "unpaired": "all",
        "unpaired_a": None,
        "unpaired_b": None,
        "unpaired_excludes_pairs": False,
        "adversarial": "rsgan",
        "reconstruction_l2": 0.0,
        "cycle_l2": 0.0,
        "pool_size": 50,
        "paired_pool_size": None,
        "pool_reals": False,
        "loss": "pixel",
        "generator": "resnet",
        "norm": "instance",
        "dropout": False,
        "translate_in_train_mode": False,
    }
    rhythms: ClassVar[tuple[str, ...]] = ("passes", "mixed", "phases")
    update_order: tuple[Phase, ...] = ("judges", "generators")
    lr_scale: ClassVar[Mapping[str, float]] = {}

    @staticmethod
    def default_weights(direction: str) -> dict[str, float]:
        del direction  # both are learned
        per_domain = {"adversarial": 1.0, "cycle": 10.0, "identity": 10.0, "reconstruction": 150.0, "judge": 1.0}
        return {f"{term}_{domain}": weight for term, weight in per_domain.items() for domain in ("a", "b")}

    def __init__(self, make: Makers, options: Options) -> None:
        self.networks = make_networks(make)
        self.weights = options.weights
        self.options = options
        self.pools = make_pools(options)

    def translate(self, batch: Batch) -> Images:
        images = translate_both_ways(self.networks, self.weights, batch, self.options.palettes)
        if self.options.pool_reals:
            for domain, real in (("a", batch.a), ("b", batch.b)):
                images[f"pooled_{domain}"] = from_pools(self.pools, "real_", domain, real, batch.n_pairs)
        return images

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        terms = unpaired_terms(self.networks, self.options, batch, images)
        n = batch.n_pairs
        if n > 0:
            for domain, real, classes in (("a", batch.a, batch.a_classes), ("b", batch.b, batch.b_classes)):
                name = f"reconstruction_{domain}"
                if not self.weights[name]:
                    continue
                if domain in self.options.palettes:
                    assert classes is not None
                    terms[name] = cross_entropy(images[f"logits_{domain}"][:n], classes[:n])
                else:
                    terms[name] = distance(images[f"fake_{domain}"][:n], real[:n], self.options.reconstruction_l2)
        return terms

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        return unconditional_judge_terms(self.networks, self.options, self.pools, batch, images)

    def state_dict(self) -> dict[str, Any]:
        return pools_state(self.pools)

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        load_pools_state(self.pools, state, device)
