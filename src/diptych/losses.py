"""Tensors -> scalar: the papers' terms as pure functions. Judges' logits are raw patch maps `(B, 1, h, w)`.

Every term is a mean over its elements, in float32 or better. Of several processes that hold the rows of one batch, each
has its own mean, and the mean of these is the term; where a mean stands within the formula, it is over all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.reduction import over_all_rows


def l1(image: Tensor, target: Tensor) -> Tensor:
    """mean |image - target| over pixels and channels, `(B, C, H, W)` each: cycle, identity and reconstruction."""
    return (image - target).abs().mean()


def l2(image: Tensor, target: Tensor) -> Tensor:
    """mean (image - target)^2 over pixels and channels (UCSD report, section 5.1)."""
    return (image - target).square().mean()


def distance(image: Tensor, target: Tensor, l2_share: float) -> Tensor:
    """(1 - s) L1 + s L2, the convex mix of the UCSD report; s = 0 is L1 alone and s = 1 is L2 alone."""
    if l2_share == 0:
        return l1(image, target)
    if l2_share == 1:
        return l2(image, target)
    return (1 - l2_share) * l1(image, target) + l2_share * l2(image, target)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """mean of -log softmax(logits)[target] over the pixels that are not void; 0 where all are.

    Logits `(B, K, H, W)`; targets int64 `(B, H, W)` in 0 .. K-1, or -100 where void.
    """
    seen = over_all_rows((targets >= 0).sum().to(logits.dtype))  # the mean of the processes' counts
    return F.cross_entropy(logits, targets, reduction="sum") / torch.where(seen > 0, seen, 1)


def vanilla_judge(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(D(real)) - E log(1 - sigma(D(fake))) (pix2pix, eq. 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def vanilla_generator(fake: Tensor) -> Tensor:
    """-E log sigma(D(fake)), the non-saturating form (pix2pix, section 3.3)."""
    return F.softplus(-fake).mean()


def lsgan_judge(real: Tensor, fake: Tensor) -> Tensor:
    """E (D(real) - 1)^2 + E D(fake)^2 (CycleGAN, section 4)."""
    return (real - 1).square().mean() + fake.square().mean()


def lsgan_generator(fake: Tensor) -> Tensor:
    """E (D(fake) - 1)^2 (CycleGAN, section 4)."""
    return (fake - 1).square().mean()


def hinge_judge(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(real)) + E max(0, 1 + D(fake)) (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-E D(fake)."""
    return -fake.mean()


def rsgan_judge(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(D(real) - D(fake)), patch by patch (Shukla et al., eq. 1)."""
    return F.softplus(fake - real).mean()


def rsgan_generator(fake: Tensor, real: Tensor) -> Tensor:
    """-E log sigma(D(fake) - D(real)), patch by patch (Shukla et al., eq. 2)."""
    return F.softplus(real - fake).mean()


def ralsgan_judge(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 [E (D(real) - E D(fake) - 1)^2 + E (D(fake) - E D(real) + 1)^2] (Jolicoeur-Martineau 2019)."""
    real_mean, fake_mean = over_all_rows(real.mean()), over_all_rows(fake.mean())
    return ((real - fake_mean - 1).square().mean() + (fake - real_mean + 1).square().mean()) / 2


def ralsgan_generator(fake: Tensor, real: Tensor) -> Tensor:
    """1/2 [E (D(fake) - E D(real) - 1)^2 + E (D(real) - E D(fake) + 1)^2]: the judge's with the two exchanged."""
    return ralsgan_judge(fake, real)


@dataclass(frozen=True)
class Adversarial:
    """An objective: `judge(real, fake)`, and `generator(fake)` or, where relativistic, `generator(fake, real)`."""

    judge: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    relativistic: bool = False

    def generator_term(self, judge: Callable[[Tensor], Tensor], fake: Tensor, real: Tensor) -> Tensor:
        """The generator's term from the judge's inputs, `(B, C, H, W)` each; the real side carries no gradient."""
        if not self.relativistic:
            return self.generator(judge(fake))
        with torch.no_grad():
            real_logits = judge(real)
        return self.generator(judge(fake), real_logits)


ADVERSARIAL = {
    "vanilla": Adversarial(vanilla_judge, vanilla_generator),
    "lsgan": Adversarial(lsgan_judge, lsgan_generator),
    "hinge": Adversarial(hinge_judge, hinge_generator),
    "rsgan": Adversarial(rsgan_judge, rsgan_generator, relativistic=True),
    "ralsgan": Adversarial(ralsgan_judge, ralsgan_generator, relativistic=True),
}
