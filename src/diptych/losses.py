"""Tensors -> scalar: the papers' terms as pure functions. Judges' logits are raw patch maps `(B, 1, h, w)`.

Every term is a mean over its elements, in float32 or better.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(image: Tensor, target: Tensor) -> Tensor:
    """mean |image - target| over pixels and channels, `(B, C, H, W)` each: cycle, identity and reconstruction."""
    return (image - target).abs().mean()


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


def rsgan_judge(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(D(real) - D(fake)), patch by patch (Shukla et al., eq. 1)."""
    return F.softplus(fake - real).mean()


def rsgan_generator(fake: Tensor, real: Tensor) -> Tensor:
    """-E log sigma(D(fake) - D(real)), patch by patch (Shukla et al., eq. 2)."""
    return F.softplus(real - fake).mean()


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
    "rsgan": Adversarial(rsgan_judge, rsgan_generator, relativistic=True),
}
