"""Learning from pairs and unpaired images with conditional cycle judges (Tripathy et al. 2018).

G1 = a_to_b, G2 = b_to_a; D1 = judge_b and D2 = judge_a see one image, D3 = judge_a_given_b and D4 = judge_b_given_a see
an image behind the one it is conditioned on. All are LSGAN judges, their losses halved; sg stops the gradient.

    phase 1, true pair (a, b)   D3: real (b, a), fake (b, G2 b)              D4: real (a, b), fake (a, G1 a)
    phase 2, unpaired a, b      D3: real (sg G1 a, a), fake (G1 a, G2 G1 a)  D4: real (sg G2 b, b), fake (G2 b, G1 G2 b)

    L_G = (D1(G1 a) - 1)^2 + (D2(G2 b) - 1)^2 + (D3(fake) - 1)^2 + (D4(fake) - 1)^2
          + 10 (|G2 G1 a - a|_1 + |G1 G2 b - b|_1) + 5 (|G1 b - b|_1 + |G2 a - a|_1)

In phase 2 the gradient of L_G flows through both images that D3 and D4 see. There is no pixel distance to the partner.
D3 and D4 learn at half the rate; only D1 and D2 see fakes out of a pool of 50. With a backbone phi, phase 1 has also
10 (|phi(G1 a) - phi(b)|_1 + |phi(G2 b) - phi(a)|_1), the mean over the backbone's layers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from diptych.batches import Batch
from diptych.losses import ADVERSARIAL, l1
from diptych.methods.base import Images, Makers, Options, Phase, Terms
from diptych.methods.two_way import (
    BOTH_WAYS,
    load_pools_state,
    make_networks,
    make_pools,
    pools_state,
    translate_both_ways,
    unconditional_judge_terms,
    unpaired_terms,
)
from diptych.networks.layers import together


class Tripathy:
    defaults: ClassVar[Mapping[str, Any]] = {
        "rhythm": "phases",
        "balance": None,
        "paired_steps": None,
        "pairs": "none",
        "unpaired": "all",
        "unpaired_a": None,
        "unpaired_b": None,
        "unpaired_excludes_pairs": False,
        "adversarial": "lsgan",
        "cycle_l2": 0.0,
        "perceptual": None,
        "pool_size": 50,
        "generator": "resnet",
        "norm": "instance",
        "dropout": False,
        "translate_in_train_mode": False,
    }
    rhythms: ClassVar[tuple[str, ...]] = ("phases", "passes", "mixed")
    update_order: tuple[Phase, ...] = ("generators", "judges")
    lr_scale: ClassVar[Mapping[str, float]] = {"judge_a_given_b": 0.5, "judge_b_given_a": 0.5}

    @staticmethod
    def default_weights(direction: str) -> dict[str, float]:
        del direction  # both are learned
        per_domain = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "perceptual": 10.0, "judge": 0.5}
        weights = {f"{term}_{domain}": weight for term, weight in per_domain.items() for domain in ("a", "b")}
        for given, judged in BOTH_WAYS:
            weights[f"adversarial_{judged}_given_{given}"] = 1.0
            weights[f"judge_{judged}_given_{given}"] = 0.5
        return weights

    def __init__(self, make: Makers, options: Options) -> None:
        self.networks = make_networks(make)
        for given, judged in BOTH_WAYS:
            self.networks[f"judge_{judged}_given_{given}"] = make.judge(given, judged)
        self.weights = options.weights
        self.options = options
        self.adversarial = ADVERSARIAL[options.adversarial]
        self.pools = make_pools(options)

    def translate(self, batch: Batch) -> Images:
        return translate_both_ways(self.networks, self.weights, batch)

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        terms = unpaired_terms(self.networks, self.options, batch, images)
        for given, judged in BOTH_WAYS:
            name = f"adversarial_{judged}_given_{given}"
            if self.weights[name]:
                real, fake = conditional_pairs(batch, images, given, judged)
                judge = self.networks[f"judge_{judged}_given_{given}"]
                terms[name] = self.adversarial.generator_term(judge, fake, real)
            name = f"perceptual_{judged}"
            if self.weights[name] and self.options.perceptual is not None and batch.n_pairs > 0:
                partner = batch.b if judged == "b" else batch.a
                terms[name] = self._perceptual(images[f"fake_{judged}"][: batch.n_pairs], partner[: batch.n_pairs])
        return terms

    def _perceptual(self, fake: Tensor, real: Tensor) -> Tensor:
        assert self.options.perceptual is not None
        with torch.no_grad():
            wanted = self.options.perceptual(real)
        layers = zip(self.options.perceptual(fake), wanted, strict=True)
        return torch.stack([l1(features, target) for features, target in layers]).mean()

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        terms = unconditional_judge_terms(self.networks, self.options, self.pools, batch, images)
        for given, judged in BOTH_WAYS:
            name = f"judge_{judged}_given_{given}"
            if self.weights[name]:
                real, fake = conditional_pairs(batch, images, given, judged)
                terms[name] = self.adversarial.judge(*together(self.networks[name], real, fake))
        return terms

    def state_dict(self) -> dict[str, Any]:
        return pools_state(self.pools)

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        load_pools_state(self.pools, state, device)


def conditional_pairs(batch: Batch, images: Images, given: str, judged: str) -> tuple[Tensor, Tensor]:
    """What the judge of `judged` given `given` is shown as real and as fake, `(B, 2C, H, W)` each.

    The paired rows are conditioned on the true partner, the others on the fake one that the cycle passes through.
    """
    n = batch.n_pairs
    partner, real = (batch.a, batch.b) if judged == "b" else (batch.b, batch.a)
    condition = torch.cat([partner[:n], images[f"fake_{given}"][n:]])
    fake = torch.cat([images[f"fake_{judged}"][:n], images[f"cycle_{judged}"][n:]])
    return torch.cat([condition, real], dim=1), torch.cat([condition, fake], dim=1)
