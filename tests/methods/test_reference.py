"""Five steps of every method against a flat script written from the papers' equations, to 1e-6 in float64.

The scripts in `tests/reference/` share no code with the package: terms, pools, optimisers and updates are their own.
"""

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.losses import ADVERSARIAL
from diptych.methods import METHODS
from diptych.methods.base import Method, Options
from diptych.networks import PatchJudge, ResNetGenerator
from diptych.training.step import make_optimisers, take_step

sys.path.insert(0, str(Path(__file__).parent.parent))
from reference import cyclegan, pix2pix, shukla, supervised, tripathy

REFERENCES: dict[str, Callable[..., list[dict[str, float]]]] = {
    "supervised": supervised.train,
    "pix2pix": pix2pix.train,
    "cyclegan": cyclegan.train,
    "tripathy": tripathy.train,
    "shukla": shukla.train,
}
STEPS, ROWS, SIZE, CLASSES = 5, 4, 16, 3
RATES = [2e-3, 2e-3, 2e-3, 1e-3, 5e-4]
ORDERS = (("generators", "judges"), ("judges", "generators"))
JUDGED = [name for name, kind in METHODS.items() if "judges" in kind.update_order]
POOLED = [name for name, kind in METHODS.items() if "pool_size" in kind.defaults]
WITH_UNPAIRED = [name for name, kind in METHODS.items() if "unpaired" in kind.defaults]


class Small:
    """Generators that lead to b end in the logits of so many `classes`, if any."""

    def __init__(self, classes: int | None = None) -> None:
        self.classes = classes

    def generator(self, source: str, target: str) -> nn.Module:
        if self.classes and target == "b":
            return ResNetGenerator(out_channels=self.classes, ngf=4, blocks=1, head="logits").double()
        return ResNetGenerator(ngf=4, blocks=1).double()

    def judge(self, *domains: str) -> nn.Module:
        return PatchJudge(3 * len(domains), patch=16, ndf=4).double()


def images(n_pairs: int) -> list[tuple[Tensor, Tensor, int]]:
    rng = torch.Generator().manual_seed(7)
    return [
        (*(torch.rand(2, ROWS, 3, SIZE, SIZE, generator=rng, dtype=torch.float64) * 2 - 1).unbind(), n_pairs)
        for _ in range(STEPS)
    ]


def class_rows() -> Tensor:
    """`(STEPS, ROWS, SIZE, SIZE)`, void at the top of every image."""
    classes = torch.randint(0, CLASSES, (STEPS, ROWS, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    classes[:, :, :3] = -100
    return classes


def train(method: Method, batches: list[Batch]) -> list[dict[str, float]]:
    optimisers = make_optimisers(method, (0.5, 0.999))
    return [take_step(method, optimisers, batch, lr).terms for batch, lr in zip(batches, RATES, strict=True)]


def make(name: str, classes: int | None = None, **options: Any) -> Method:
    torch.manual_seed(3)
    kind = METHODS[name]
    weights = kind.default_weights(options.get("direction", "a_to_b"))
    settings = {"adversarial": kind.defaults.get("adversarial", ""), "seed": 5} | options
    method = kind(Small(classes), Options(weights=weights, **settings))
    for network in method.networks.values():
        for key, parameter in network.named_parameters():
            if "bias" not in key:
                parameter.data *= 5  # away from the start, where logits are nearly 0
    return method


def assert_same(name: str, n_pairs: int, order: tuple[str, ...] | None = None, **options: Any) -> None:
    """The same networks trained by the package and by the script give the same terms and the same parameters."""
    method = make(name, **options)
    if order is not None:
        method.update_order = order  # type: ignore[assignment]
    theirs = deepcopy(dict(method.networks))
    rows = images(n_pairs)
    found = train(method, [Batch(*row) for row in rows])
    if order is not None:
        options["order"] = order
    if "pool_size" in options:
        # The scripts know the law of the pools; which generator each draws from is the package's own business.
        names = [group + part + side for group in ("", "real_") for part in ("", "paired_") for side in "ab"]
        options["rngs"] = {pool: np.random.default_rng((5, *pool.encode())) for pool in names}
    compare(method, theirs, found, REFERENCES[name](theirs, rows, lrs=RATES, **options), options.get("adversarial", ""))


def compare(
    method: Method,
    theirs: dict[str, nn.Module],
    found: list[dict[str, float]],
    expected: list[dict[str, float]],
    adversarial: str = "",
) -> None:
    for step, (ours, wanted) in enumerate(zip(found, expected, strict=True)):
        assert ours == pytest.approx(wanted, rel=1e-6, abs=1e-9), f"step {step}"
    for key, network in method.networks.items():
        for (parameter, mine), wanted in zip(network.named_parameters(), theirs[key].parameters(), strict=True):
            if not cancels(key, parameter, adversarial or method.defaults.get("adversarial", "")):
                assert torch.allclose(mine, wanted, rtol=0, atol=1e-6), f"{key} {parameter}"


def cancels(network: str, parameter: str, adversarial: str) -> bool:
    """Biases whose gradient the mathematics cancels: Adam makes whole steps of what rounding leaves of it."""
    if network.startswith("judge"):
        before_norm, last = parameter == "layers.2.bias", parameter == "layers.5.bias"
        return before_norm or (last and (ADVERSARIAL[adversarial].relativistic or adversarial == "hinge"))
    return parameter.endswith("bias") and parameter != "layers.18.bias"  # before InstanceNorm


@pytest.mark.parametrize(
    ("name", "n_pairs"), [(name, n) for name in METHODS for n in ((0, 1, ROWS) if name in WITH_UNPAIRED else (ROWS,))]
)
def test_five_steps(name: str, n_pairs: int) -> None:
    assert_same(name, n_pairs, **({"pool_size": 0} if name in POOLED else {}))


@pytest.mark.parametrize("name", JUDGED)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("adversarial", list(ADVERSARIAL))
def test_both_orders_of_every_objective(name: str, order: tuple[str, ...], adversarial: str) -> None:
    n_pairs = 2 if name in WITH_UNPAIRED else ROWS
    pools = {"pool_size": 0} if name in POOLED else {}
    assert_same(name, n_pairs, order=order, adversarial=adversarial, **pools)


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [3, 50])
def test_pools(name: str, order: tuple[str, ...], size: int) -> None:
    assert_same(name, 2, order=order, pool_size=size)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n_pairs", [0, 2, ROWS])
def test_the_released_codes_pools(order: tuple[str, ...], n_pairs: int) -> None:
    assert_same("shukla", n_pairs, order=order, pool_size=5, paired_pool_size=3, pool_reals=True)


@pytest.mark.parametrize("name", ["pix2pix", "supervised"])
def test_the_other_direction(name: str) -> None:
    assert_same(name, ROWS, direction="b_to_a")


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("supervised", {"reconstruction_l2": 0.5}),
        ("pix2pix", {"reconstruction_l2": 1.0}),
        ("cyclegan", {"cycle_l2": 0.5, "pool_size": 0}),
        ("tripathy", {"cycle_l2": 1.0, "pool_size": 0}),
        ("shukla", {"cycle_l2": 0.25, "reconstruction_l2": 0.75, "pool_size": 0}),
    ],
)
def test_distances(name: str, shares: dict[str, Any]) -> None:
    assert_same(name, 2 if name in WITH_UNPAIRED else ROWS, **shares)


def test_tripathy_with_a_backbone() -> None:
    def layers(x: Tensor) -> list[Tensor]:
        return [x[..., ::2, ::2], (2 * x).sin()]

    assert_same("tripathy", 3, pool_size=0, perceptual=layers)


def test_supervised_by_cross_entropy() -> None:
    method = make("supervised", CLASSES, loss="cross_entropy")
    theirs = deepcopy(dict(method.networks))
    targets = class_rows()
    rows = images(ROWS)
    batches = [Batch(a, b, n, b_classes=classes) for (a, b, n), classes in zip(rows, targets, strict=True)]
    found = train(method, batches)
    wanted = [(a, classes, n) for (a, _, n), classes in zip(rows, targets, strict=True)]
    compare(method, theirs, found, supervised.train(theirs, wanted, classes=True, lrs=RATES))


@pytest.mark.parametrize("n_pairs", [0, 2, ROWS])
@pytest.mark.parametrize("order", ORDERS)
def test_shukla_by_cross_entropy(order: tuple[str, ...], n_pairs: int) -> None:
    colours = torch.tensor([[-1.0, 0.5, 1.0], [0.25, -0.75, 0.0], [1.0, 1.0, -1.0]], dtype=torch.float64)
    method = make("shukla", CLASSES, loss="cross_entropy", palettes={"b": colours}, pool_size=0)
    method.update_order = order  # type: ignore[assignment]
    theirs = deepcopy(dict(method.networks))
    classes = class_rows()
    rows = images(n_pairs)
    batches = [Batch(a, b, n, b_classes=of_step) for (a, b, n), of_step in zip(rows, classes, strict=True)]
    found = train(method, batches)
    wanted = shukla.train(
        theirs,
        rows,
        order=order,
        lrs=RATES,
        pool_size=0,
        colours=colours,
        classes_b=classes,  # type: ignore[arg-type]
    )
    compare(method, theirs, found, wanted)
