"""Watches for the two ways in which adversarial training fails with every number finite.

A judge whose term stays at 0 tells real from generated without fail: 0 is the perfect judge of every objective here,
and it has little left to teach. A generator that answers nearly the same to every input, or one colour, has collapsed.
Either may pass, and at the start both are usual: so each must last. What is seen is told once in a run.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.batches import Batch
from diptych.training.step import Taken

PATIENCE = 500  # steps that a sign must last, without a break
JUDGE_AT_ZERO = 1e-3  # a vanilla judge is right with 99.9 %, an lsgan one within 0.03 of its labels
LOOK_EVERY = 10  # steps between two looks at the images
NEARLY_THE_SAME = 0.01  # standard deviation over the pixels, or over the inputs; 2 is black to white
INPUTS_DIFFER = 5 * NEARLY_THE_SAME  # else the same answer to all inputs says nothing
THUMB = 8  # pixels a side of the images that are compared between inputs


class Health:
    """How long each sign has lasted, and what has been told; a part of the run's state."""

    def __init__(self) -> None:
        self.lasted: dict[str, int] = {}  # name of a term -> steps in a row, of an image -> looks in a row
        self.told: list[str] = []
        self.thumbs: dict[str, Tensor] = {}  # (B, C, THUMB, THUMB) each, of the last look

    def look(self, step: int, batch: Batch, taken: Taken) -> list[str]:
        """What there is to tell after `step` steps, the last of which was `taken` on `batch`."""
        notes = []
        for name in taken.judge_terms:
            if self._lasts(name, taken.terms[name] < JUDGE_AT_ZERO, PATIENCE):
                notes.append(
                    f"{name} has stayed below {JUDGE_AT_ZERO:g} for {PATIENCE} steps: this judge tells real from "
                    "generated without fail, and the generators learn little from it; a smaller --judge.ndf or "
                    "--judge.patch, or --adversarial lsgan, makes it less sure"
                )
        if step % LOOK_EVERY:
            return notes
        spreads = {}
        for name, images in {"a": batch.a, "b": batch.b, **taken.images}.items():
            thumbs = F.adaptive_avg_pool2d(images.float(), THUMB)  # (B, C, THUMB, THUMB)
            before = self.thumbs.get(name)
            both = thumbs if before is None or before.shape[1:] != thumbs.shape[1:] else torch.cat([before, thumbs])
            self.thumbs[name] = thumbs
            spreads[name] = both.std(0, correction=0).mean().item()
        inputs_differ = min(spreads["a"], spreads["b"]) >= INPUTS_DIFFER
        for name, images in taken.images.items():
            flat = images.float().std((2, 3), correction=0).mean().item() < NEARLY_THE_SAME
            same = spreads[name] < NEARLY_THE_SAME and inputs_differ
            if self._lasts(name, flat or same, PATIENCE // LOOK_EVERY):
                what = "of one colour" if flat else "the same whatever the input"
                notes.append(
                    f"{name} has been nearly {what} for {PATIENCE} steps: its generator has collapsed; train again "
                    "with a lower --optim.lr, or with larger weights of the terms that compare with the input or the "
                    "partner (cycle, reconstruction)"
                )
        return notes

    def _lasts(self, name: str, sign: bool, patience: int) -> bool:
        """Count a sign, or start anew without it; whether it has lasted so long now and was not told before."""
        self.lasted[name] = self.lasted.get(name, 0) + 1 if sign else 0
        if self.lasted[name] < patience or name in self.told:
            return False
        self.told.append(name)
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"lasted": dict(self.lasted), "told": list(self.told), "thumbs": dict(self.thumbs)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up exactly where `state_dict` was called."""
        self.lasted, self.told = dict(state["lasted"]), list(state["told"])
        self.thumbs = {name: thumbs.to(device) for name, thumbs in state["thumbs"].items()}
