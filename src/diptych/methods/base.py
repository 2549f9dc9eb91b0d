"""What a method is: it turns a batch into images, and images into named, unweighted terms. Nothing else.

The trainer freezes the judges' weights in the generators' phase and detaches the images for the judges' phase, so no
method can forget to; it multiplies each term by the weight of the same name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from diptych.batches import Batch

Phase = Literal["generators", "judges"]
Images = dict[str, Tensor]  # (B, C, H, W) each, by name: "fake_b", "cycle_a", ...
Terms = dict[str, Tensor]  # scalars, by the name of their weight
Perceptual = Callable[[Tensor], Sequence[Tensor]]
"""A frozen backbone: images `(B, 3, H, W)` in [-1, 1] -> the features of its layers."""


class Makers(Protocol):
    """How a method gets its networks without knowing their kind or size."""

    def generator(self, source: str, target: str) -> nn.Module:
        """A new generator from domain `source` to domain `target` ("a" or "b")."""
        ...

    def judge(self, *domains: str) -> nn.Module:
        """A new judge of images whose channels are those of `domains`, stacked in that order."""
        ...


@dataclass(frozen=True)
class Options:
    """The settings that an objective may depend on; a method uses those its `defaults` name."""

    weights: Mapping[str, float]
    direction: str = "a_to_b"
    adversarial: str = "lsgan"
    reconstruction_l2: float = 0.0
    cycle_l2: float = 0.0
    loss: str = "pixel"
    palettes: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the domains whose generators end in class logits: the classes' colours `(K, C)` in [-1, 1]."""
    perceptual: Perceptual | None = None
    pool_size: int = 0
    paired_pool_size: int | None = None
    pool_reals: bool = False
    seed: int = 0


class Method(Protocol):
    """An objective over some networks. Methods share functions, never an implementation."""

    defaults: ClassVar[Mapping[str, Any]]
    """The settings that differ between methods: those this one uses, and their values unless set. Others it refuses."""
    rhythms: ClassVar[tuple[str, ...]]
    """The orders of paired and unpaired batches that it can be trained with."""
    update_order: tuple[Phase, ...]
    """Which side is updated first; a method without judges has the generators' phase alone."""
    lr_scale: ClassVar[Mapping[str, float]]
    """Times the learning rate, by network; 1 for those that are not named."""

    def __init__(self, make: Makers, options: Options) -> None: ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Generators "a_to_b", "b_to_a"; judges named after what they judge: "judge_b", "judge_b_given_a"."""
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """One per term; a term of weight 0 is neither computed nor translated for."""
        ...

    @staticmethod
    def default_weights(direction: str) -> dict[str, float]:
        """The paper's weights; their names are all the terms there are."""
        ...

    def translate(self, batch: Batch) -> Images:
        """Every generated image that this step needs, each made once."""
        ...

    def generator_terms(self, batch: Batch, images: Images) -> Terms:
        """The generators' terms, unweighted."""
        ...

    def judge_terms(self, batch: Batch, images: Images) -> Terms:
        """The judges' terms, unweighted; `images` come detached."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is remembered between steps besides the networks: pools and their random generators."""
        ...

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up where `state_dict` was called."""
        ...
