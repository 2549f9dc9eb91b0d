"""Class maps: pixel accuracy, class accuracy and mean IoU over one confusion matrix (Shukla et al., section 4.1.2)."""

from typing import Any

import numpy as np

from diptych.images import Classes, ClassMap, Floats

PROTOCOL = (
    "output resized to the truth's size, each pixel of the nearest class colour (of the largest logit, where the "
    "generator gives logits), one confusion matrix over all images; "
    "void ignored; class accuracy averages the classes that the truth holds, IoU those that truth or prediction holds"
)


class ClassScores:
    """Adds up a confusion matrix image by image: rows are true classes, columns predicted ones."""

    primary = "mean_iou"

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)  # (K, K)
        self.images = 0

    def add(self, generated: Floats, truth: ClassMap) -> None:
        """Score continuous colours `(3, H, W)` in [-1, 1] against class rows `(H, W)`."""
        self.add_map(self.classes.nearest(generated), truth)

    def add_map(self, predicted: ClassMap, truth: ClassMap) -> None:
        """Score class rows `(H, W)` against class rows `(H, W)`."""
        scored = truth != self.classes.void if self.classes.void is not None else np.ones_like(truth, bool)
        count = len(self.classes)
        cells = truth[scored].astype(np.int64) * count + predicted[scored]
        self.confusion += np.bincount(cells, minlength=count**2).reshape(count, count)
        self.images += 1

    def result(self) -> dict[str, Any]:
        """Fractions 0..1; a class that occurs nowhere has no score (null)."""
        right = np.diag(self.confusion).astype(np.float64)
        true, predicted = self.confusion.sum(1), self.confusion.sum(0)  # (K,) each
        union = true + predicted - right
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = np.where(true > 0, right / true, np.nan)
            iou = np.where(union > 0, right / union, np.nan)
        if self.classes.void is not None:
            iou[self.classes.void] = np.nan  # maps from elsewhere may answer void, which is wrong but no class
        total = int(true.sum())
        per_class = {
            name: {"accuracy": _number(accuracy[row]), "iou": _number(iou[row]), "pixels": int(true[row])}
            for row, name in enumerate(self.classes.names)
            if row != self.classes.void
        }
        return {
            "pixel_accuracy": _number(right.sum() / total) if total else None,
            "class_accuracy": _mean(accuracy),
            "mean_iou": _mean(iou),
            "per_class": per_class,
            "n": self.images,
            "pixels": total,
        }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Any) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))
