"""Class maps: pixel accuracy, class accuracy and mean IoU over one confusion matrix (Shukla et al., section 4.1.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.evaluation.bootstrap import Numbers
from diptych.images import Classes, ClassMap, Floats
from diptych.processes import gathered, interleaved


class ClassScores:
    """Adds up a confusion matrix image by image: rows are true classes, columns predicted ones."""

    primary = "mean_iou"
    protocol = (
        "output resized to the truth's size, each pixel of the nearest class colour (of the largest logit, where the "
        "generator gives logits), one confusion matrix over all images; void ignored; class accuracy averages the "
        "classes that the truth holds, IoU those that truth or prediction holds; absent_as_0, as in the papers' "
        "FCN-score: averages all classes but void, an absent one scoring 0"
    )

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)  # (K, K), of all images
        # All the metrics need of an image's own matrix: its diagonal and its sums along both sides, (3, K).
        self._by_image: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self._by_image)

    def add(self, generated: Floats, truth: ClassMap) -> None:
        """Score continuous colours `(3, H, W)` in [-1, 1] against class rows `(H, W)`."""
        self.add_map(self.classes.nearest(generated), truth)

    def add_map(self, predicted: ClassMap, truth: ClassMap) -> None:
        """Score class rows `(H, W)` against class rows `(H, W)`."""
        scored = truth != self.classes.void if self.classes.void is not None else np.ones_like(truth, bool)
        count = len(self.classes)
        cells = truth[scored].astype(np.int64) * count + predicted[scored]
        confusion = np.bincount(cells, minlength=count**2).reshape(count, count)
        self.confusion += confusion
        self._by_image.append(np.stack([np.diag(confusion), confusion.sum(1), confusion.sum(0)]))

    def take_together(self) -> None:
        """Add what the other processes have scored, where the images are shared out among them."""
        everyone = gathered((self.confusion, self._by_image))
        self.confusion = np.sum([confusion for confusion, _ in everyone], axis=0)
        self._by_image = interleaved([by_image for _, by_image in everyone])

    def metrics(self, counts: Numbers) -> dict[str, Numbers]:
        """Every number by name, `(R,)`, for images that count `counts` `(R, N)` times; NaN where it has no value."""
        count = len(self.classes)
        by_image = np.stack(self._by_image).reshape(len(self), 3 * count).astype(np.float64)
        right, true, predicted = (counts @ by_image).reshape(-1, 3, count).swapaxes(0, 1)  # (R, K) each
        pixels = true.sum(1)
        # Maps from elsewhere may answer void, which is wrong but no class.
        kept = self.classes.kept
        accuracy = _ratio(right, true)[:, kept]  # (R, K')
        iou = _ratio(right, true + predicted - right)[:, kept]
        named = {"accuracy": accuracy.T, "iou": iou.T}
        return {
            "pixel_accuracy": _ratio(right.sum(1), pixels),
            "class_accuracy": _mean(accuracy),
            "mean_iou": _mean(iou),
            "class_accuracy_absent_as_0": np.where(pixels > 0, np.nan_to_num(accuracy).mean(1), np.nan),
            "mean_iou_absent_as_0": np.where(pixels > 0, np.nan_to_num(iou).mean(1), np.nan),
        } | {
            f"{what} {self.classes.names[row]}": column
            for what, columns in named.items()
            for row, column in zip(kept, columns, strict=True)
        }

    def result(self) -> dict[str, Any]:
        """Fractions 0..1; a class that occurs nowhere has no score (null)."""
        metrics = {name: _number(value[0]) for name, value in self.metrics(np.ones((1, len(self)))).items()}
        true = self.confusion.sum(1)
        per_class = {
            name: {
                "accuracy": metrics.pop(f"accuracy {name}"),
                "iou": metrics.pop(f"iou {name}"),
                "pixels": int(true[row]),
            }
            for row, name in enumerate(self.classes.names)
            if row != self.classes.void
        }
        return {**metrics, "per_class": per_class, "pixels": int(true.sum())}


def same_classes(one: Classes | None, other: Classes | None) -> bool:
    """Whether two domains are class maps of the same ids, names, colours and void, or neither is a class map."""
    if one is None or other is None:
        return one is other
    same = (one.ids, one.names, one.void) == (other.ids, other.names, other.void)
    return same and np.array_equal(one.colours, other.colours)


def _ratio(part: Numbers, whole: Numbers) -> Numbers:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: Numbers) -> Numbers:
    """`(R, K)` -> the mean of each row's numbers `(R,)`, without those that are NaN."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0).sum(1), there.sum(1).astype(np.float64))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
