"""The history of generated images that judges are shown (Shrivastava et al. 2017, as CycleGAN uses it)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.errors import DiptychError


class ImagePool:
    """Up to `size` past images. Once full, each new image is answered by itself or, half of the time, by an old one.

    The pool draws from a generator of its own, so that its choices neither disturb nor depend on anything else.
    """

    def __init__(self, size: int, seed: int | tuple[int, ...]) -> None:
        self.size = size
        self.images: list[Tensor] = []  # (C, H, W) each
        self.rng = np.random.default_rng(seed)

    def query(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` new images -> as many to show the judge; a pool of size 0 answers with the new ones.

        Raises `DiptychError` where the images remembered, which may come from a file, are of another shape or type.
        """
        if self.size == 0:
            return images
        for old in self.images:
            if old.shape != images.shape[1:] or old.dtype != images.dtype:
                raise DiptychError(
                    f"a pool remembers images of {tuple(old.shape)} {old.dtype}, the batch holds "
                    f"{tuple(images.shape[1:])} {images.dtype}; its checkpoint is of another run, start again"
                )
        answers = []
        for image in images.detach():  # (C, H, W)
            if len(self.images) < self.size:
                self.images.append(image.clone())
                answers.append(image)
            elif self.rng.random() < 0.5:
                place = int(self.rng.integers(self.size))
                answers.append(self.images[place])
                self.images[place] = image.clone()
            else:
                answers.append(image)
        return torch.stack(answers)  # (B, C, H, W)

    def state_dict(self) -> dict[str, Any]:
        """The images as one `(N, C, H, W)` tensor (absent while empty) and the generator's state."""
        state: dict[str, Any] = {"rng": self.rng.bit_generator.state}
        if self.images:
            state["images"] = torch.stack(self.images)
        return state

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up exactly where `state_dict` was called."""
        self.rng.bit_generator.state = state["rng"]
        self.images = list(state["images"].to(device).unbind()) if "images" in state else []
