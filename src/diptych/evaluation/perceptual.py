"""A perceptual distance: how far apart two images are in the hidden states of a pretrained backbone.

LPIPS (Zhang et al. 2018, equation 1) without learned weights, on any backbone of transformers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import DiptychError
from diptych.features.backbone import Backbone
from diptych.processes import shared_out

BATCH = 8  # pairs of images
PROTOCOL = (
    "perceptual_distance: both images as the backbone's own processor makes them, its hidden states scaled to length 1 "
    "over the channels, their squared distance averaged over positions, then over layers (0 the same, at most 4)"
)


def perceptual_distances(
    backbone: Backbone,
    generated: Sequence[Path],
    real: Sequence[Path],
    progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """The distance of each generated image from the real one in its place, 0..4, lower is better.

    Raises `DiptychError` where the backbone has no hidden states, `UnreadableImageError` naming a file.
    """

    def of_batch(start: int) -> list[float]:
        ours, theirs = (hidden_states(backbone, files[start : start + BATCH]) for files in (generated, real))
        by_layer = [_squared_distance(one, other) for one, other in zip(ours, theirs, strict=True)]
        distances: list[float] = torch.stack(by_layer).mean(0).tolist()
        return distances

    def told(batches: int, _: int) -> None:
        if progress is not None:
            progress(min(batches * BATCH, len(real)), len(real))

    batches = shared_out(range(0, len(real), BATCH), of_batch, told)
    return [distance for batch in batches for distance in batch]


def hidden_states(backbone: Backbone, files: Sequence[Path]) -> list[Tensor]:
    """Every hidden state of the images, from the embedding on, float32 `(B, P, C)` each: positions, then channels."""
    states = getattr(backbone.output_for(backbone.read(files), output_hidden_states=True), "hidden_states", None)
    if not states:
        raise DiptychError(
            f"a {type(backbone.network).__name__} does not show its hidden states; give --perceptual another backbone, "
            "such as resnet50"
        )
    return [(state if state.ndim == 3 else state.flatten(2).transpose(1, 2)).float() for state in states]


def _squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """`(B, P, C)` each -> `(B,)`."""
    directions = (torch.nn.functional.normalize(states, dim=2, eps=1e-10) for states in (one, other))
    return (next(directions) - next(directions)).square().sum(2).mean(1)
