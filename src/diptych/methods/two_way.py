"""What methods with a generator each way share: F = b_to_a, G = a_to_b, and an unconditional judge on either domain."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.losses import Adversarial, l1
from diptych.methods.base import Images, Makers, Options, Terms
from diptych.pool import ImagePool

BOTH_WAYS = (("a", "b"), ("b", "a"))


def make_networks(make: Makers) -> dict[str, nn.Module]:
    """G, F, and the judge of each domain."""
    return {
        "a_to_b": make.generator("a", "b"),
        "b_to_a": make.generator("b", "a"),
        "judge_a": make.judge("a"),
        "judge_b": make.judge("b"),
    }


def make_pools(options: Options) -> dict[str, ImagePool]:
    """A pool of fakes for each judge, with random draws of its own."""
    return {domain: ImagePool(options.pool_size, (options.seed, 20 + place)) for place, domain in enumerate("ab")}


def pools_state(pools: Mapping[str, ImagePool]) -> dict[str, Any]:
    """The state of every pool, by its domain."""
    return {f"pool_{domain}": pool.state_dict() for domain, pool in pools.items()}


def load_pools_state(pools: Mapping[str, ImagePool], state: Mapping[str, Any], device: torch.device) -> None:
    """Take up where `pools_state` was called."""
    for domain, pool in pools.items():
        pool.load_state_dict(state[f"pool_{domain}"], device)


def translate_both_ways(networks: Mapping[str, nn.Module], weights: Mapping[str, float], batch: Batch) -> Images:
    """fake_b = G a, cycle_a = F G a, identity_b = G b, and the same the other way round; `(B, C, H, W)` each.

    What no term of non-zero weight asks for is left out.
    """
    real = {"a": batch.a, "b": batch.b}
    images: Images = {}
    for source, target in BOTH_WAYS:
        there, back = networks[f"{source}_to_{target}"], networks[f"{target}_to_{source}"]
        asking = (f"adversarial_{target}", f"judge_{target}", f"cycle_{source}", f"reconstruction_{target}")
        if any(weights.get(name) for name in asking):
            images[f"fake_{target}"] = there(real[source])
        if weights[f"cycle_{source}"]:
            images[f"cycle_{source}"] = back(images[f"fake_{target}"])
        if weights[f"identity_{target}"]:
            images[f"identity_{target}"] = there(real[target])
    return images


def unpaired_terms(
    networks: Mapping[str, nn.Module],
    weights: Mapping[str, float],
    adversarial: Adversarial,
    batch: Batch,
    images: Images,
) -> Terms:
    """The generators' adversarial, cycle |F G a - a|_1 and identity |F a - a|_1 terms, on all rows, both domains."""
    real = {"a": batch.a, "b": batch.b}
    terms: Terms = {}
    for domain in ("a", "b"):
        if weights[f"adversarial_{domain}"]:
            terms[f"adversarial_{domain}"] = adversarial.generator_term(
                networks[f"judge_{domain}"], images[f"fake_{domain}"], real[domain]
            )
        if weights[f"cycle_{domain}"]:
            terms[f"cycle_{domain}"] = l1(images[f"cycle_{domain}"], real[domain])
        if weights[f"identity_{domain}"]:
            terms[f"identity_{domain}"] = l1(images[f"identity_{domain}"], real[domain])
    return terms


def unconditional_judge_terms(
    networks: Mapping[str, nn.Module],
    weights: Mapping[str, float],
    adversarial: Adversarial,
    pools: Mapping[str, ImagePool],
    batch: Batch,
    images: Images,
) -> Terms:
    """Each judge on its domain's real images and on fakes out of its pool."""
    real: dict[str, Tensor] = {"a": batch.a, "b": batch.b}
    terms: Terms = {}
    for domain in ("a", "b"):
        if weights[f"judge_{domain}"]:
            judge = networks[f"judge_{domain}"]
            shown = pools[domain].query(images[f"fake_{domain}"])  # (B, C, H, W)
            terms[f"judge_{domain}"] = adversarial.judge(judge(real[domain]), judge(shown))
    return terms
