"""What methods with a generator each way share: G = a_to_b, F = b_to_a, and an unconditional judge on either domain."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.losses import ADVERSARIAL, distance, l1
from diptych.methods.base import Images, Makers, Options, Terms
from diptych.networks.layers import together
from diptych.pool import ImagePool

BOTH_WAYS = (("a", "b"), ("b", "a"))
NO_PALETTES: Mapping[str, Tensor] = {}


def make_networks(make: Makers) -> dict[str, nn.Module]:
    """G, F, and the judge of each domain."""
    return {
        "a_to_b": make.generator("a", "b"),
        "b_to_a": make.generator("b", "a"),
        "judge_a": make.judge("a"),
        "judge_b": make.judge("b"),
    }


def make_pools(options: Options) -> dict[str, ImagePool]:
    """A pool of fakes for each domain's judge: "a", "b"; and those that `options` ask for besides.

    "paired_a": the fakes of paired rows, apart from the others; "real_a", "real_paired_a": real images. Each has random
    draws of its own.
    """
    sizes: dict[str, int] = {}
    for group in ("", "real_") if options.pool_reals else ("",):
        sizes |= dict.fromkeys((f"{group}a", f"{group}b"), options.pool_size)
        if options.paired_pool_size is not None:
            sizes |= dict.fromkeys((f"{group}paired_a", f"{group}paired_b"), options.paired_pool_size)
    return {name: ImagePool(size, (options.seed, *name.encode())) for name, size in sizes.items()}


def from_pools(pools: Mapping[str, ImagePool], group: str, domain: str, images: Tensor, n_pairs: int) -> Tensor:
    """`(B, C, H, W)` new images of `domain` -> as many to show; paired rows out of their own pool, if there is one."""
    apart = pools.get(f"{group}paired_{domain}")
    if apart is None or n_pairs == 0:
        return pools[f"{group}{domain}"].query(images)
    if n_pairs == len(images):
        return apart.query(images)
    return torch.cat([apart.query(images[:n_pairs]), pools[f"{group}{domain}"].query(images[n_pairs:])])


def pools_state(pools: Mapping[str, ImagePool]) -> dict[str, Any]:
    """The state of every pool, by its name."""
    return {f"pool_{name}": pool.state_dict() for name, pool in pools.items()}


def load_pools_state(pools: Mapping[str, ImagePool], state: Mapping[str, Any], device: torch.device) -> None:
    """Take up where `pools_state` was called."""
    for name, pool in pools.items():
        pool.load_state_dict(state[f"pool_{name}"], device)


def translate_both_ways(
    networks: Mapping[str, nn.Module],
    weights: Mapping[str, float],
    batch: Batch,
    palettes: Mapping[str, Tensor] = NO_PALETTES,
) -> Images:
    """fake_b = G a, cycle_a = F G a, identity_b = G b, and the same the other way round; `(B, C, H, W)` each.

    What no term of non-zero weight asks for is left out. Of a generator that ends in class logits, every image is the
    colour to be expected by `palettes`, and the logits of its fake are there besides: logits_b, `(B, K, H, W)`.
    """
    real = {"a": batch.a, "b": batch.b}
    images: Images = {}
    for source, target in BOTH_WAYS:
        there, back = networks[f"{source}_to_{target}"], networks[f"{target}_to_{source}"]
        cycle_wanted = any(
            weights.get(name)
            for name in (f"cycle_{source}", f"adversarial_{source}_given_{target}", f"judge_{source}_given_{target}")
        )
        fake_wanted = cycle_wanted or any(
            weights.get(f"{term}_{target}{condition}")
            for term in ("adversarial", "judge", "reconstruction", "perceptual")
            for condition in ("", f"_given_{source}")
        )
        shown = {f"fake_{target}": real[source]} if fake_wanted else {}
        shown |= {f"identity_{target}": real[target]} if weights[f"identity_{target}"] else {}
        if shown:
            made = dict(zip(shown, together(there, *shown.values()), strict=True))
            if target in palettes:
                if fake_wanted:
                    images[f"logits_{target}"] = made[f"fake_{target}"]
                made = {name: expected_colours(logits, palettes[target]) for name, logits in made.items()}
            images |= made
        if cycle_wanted:
            cycle = back(images[f"fake_{target}"])
            images[f"cycle_{source}"] = expected_colours(cycle, palettes[source]) if source in palettes else cycle
    return images


def expected_colours(logits: Tensor, palette: Tensor) -> Tensor:
    """Class logits `(B, K, H, W)` and the classes' colours `(K, C)` -> the colour to be expected, `(B, C, H, W)`."""
    return torch.einsum("bkhw,kc->bchw", logits.softmax(1), palette.to(logits))


def unpaired_terms(networks: Mapping[str, nn.Module], options: Options, batch: Batch, images: Images) -> Terms:
    """The generators' adversarial, cycle |F G a - a| and identity |F a - a|_1 terms, on all rows, both domains.

    A relativistic term compares with `images["pooled_a"]` where there are such, else with the batch's own real images.
    """
    weights, adversarial = options.weights, ADVERSARIAL[options.adversarial]
    real = {"a": batch.a, "b": batch.b}
    terms: Terms = {}
    for domain in ("a", "b"):
        if weights[f"adversarial_{domain}"]:
            terms[f"adversarial_{domain}"] = adversarial.generator_term(
                networks[f"judge_{domain}"], images[f"fake_{domain}"], images.get(f"pooled_{domain}", real[domain])
            )
        if weights[f"cycle_{domain}"]:
            terms[f"cycle_{domain}"] = distance(images[f"cycle_{domain}"], real[domain], options.cycle_l2)
        if weights[f"identity_{domain}"]:
            terms[f"identity_{domain}"] = l1(images[f"identity_{domain}"], real[domain])
    return terms


def unconditional_judge_terms(
    networks: Mapping[str, nn.Module],
    options: Options,
    pools: Mapping[str, ImagePool],
    batch: Batch,
    images: Images,
) -> Terms:
    """Each judge on its domain's real images and on fakes out of its pool."""
    real: dict[str, Tensor] = {"a": batch.a, "b": batch.b}
    terms: Terms = {}
    for domain in ("a", "b"):
        if options.weights[f"judge_{domain}"]:
            shown = from_pools(pools, "", domain, images[f"fake_{domain}"], batch.n_pairs)  # (B, C, H, W)
            logits = together(networks[f"judge_{domain}"], real[domain], shown)  # (B, 1, h, w) each
            terms[f"judge_{domain}"] = ADVERSARIAL[options.adversarial].judge(*logits)
    return terms
