"""Ordinary images: L1, PSNR, SSIM, and the share of pixels within a tolerance (Shukla et al., section 4.2.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.evaluation.bootstrap import Numbers
from diptych.images import RGB, Floats, PixelFormat, Pixels, to_float, to_pixels
from diptych.processes import gathered, interleaved

TOLERANCE = 20  # of 255, in every channel
SSIM_WINDOW = 11  # pixels a side; smaller images have no SSIM
HIGHEST_PSNR = 100.0  # dB; identical images have no finite one, and no generator comes near it


class PictureScores:
    """Collects one row of scores per image."""

    primary = "psnr"

    def __init__(self, form: PixelFormat = RGB) -> None:
        self.form = form  # of the truth
        self.rows: list[dict[str, float]] = []

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def protocol(self) -> str:
        """How the numbers are made, in words."""
        top, off = 2**self.form.bits - 1, TOLERANCE * (257 if self.form.bits == 16 else 1)
        of = "" if self.form == RGB else f", {self.form.channels} channels of {self.form.bits} bits compared"
        return (
            f"output resized to the truth's size and rounded to {self.form.bits} bits{of}; each number is the mean "
            "over images; l1 in 0..1, psnr in dB, of each image, 100 where it is identical; ssim of values in 0..1 "
            "with an 11 px Gaussian window of sigma 1.5; tolerance_accuracy counts pixels off by less than "
            f"{off} of {top} in every channel"
        )

    def add(self, generated: Floats, truth: Pixels) -> None:
        """Score float `(C, H, W)` in [-1, 1] against pixels `(H, W, C)`."""
        self.add_pixels(to_pixels(generated, 8 * truth.dtype.itemsize), truth)

    def add_pixels(self, generated: Pixels, truth: Pixels) -> None:
        """Score pixels `(H, W, C)` against pixels `(H, W, C)` of the same depth."""
        top = int(np.iinfo(truth.dtype).max)
        difference = np.abs(generated.astype(np.float64) - truth)  # (H, W, C)
        mean_square = float((difference**2).mean()) / top**2
        self.rows.append(
            {
                "l1": float(difference.mean()) / top,
                "psnr": min(HIGHEST_PSNR, -10 * float(np.log10(mean_square))) if mean_square else HIGHEST_PSNR,
                "ssim": _ssim(generated, truth),
                "tolerance_accuracy": float((difference.max(2) < TOLERANCE * top / 255).mean()),
            }
        )

    def take_together(self) -> None:
        """Add what the other processes have scored, where the images are shared out among them."""
        self.rows = interleaved(gathered(self.rows))

    def metrics(self, counts: Numbers) -> dict[str, Numbers]:
        """Every number by name, `(R,)`, for images that count `counts` `(R, N)` times; NaN where it has no value."""
        return image_means({name: [row[name] for row in self.rows] for name in self.rows[0]}, counts)

    def result(self) -> dict[str, Any]:
        """Means over the images; None where no image has a value."""
        means = self.metrics(np.ones((1, len(self))))
        return {name: None if np.isnan(mean[0]) else float(mean[0]) for name, mean in means.items()}


def image_means(values: Mapping[str, Sequence[float]], counts: Numbers) -> dict[str, Numbers]:
    """Values of each image `(N,)` by name -> their means `(R,)`, each image counting `counts` `(R, N)` times.

    Images whose value is NaN are left out; a mean of none is NaN.
    """
    means = {}
    for name, column in values.items():
        there = ~np.isnan(column)
        among = counts @ there.astype(np.float64)
        means[name] = np.divide(
            counts @ np.where(there, column, 0.0), among, out=np.full_like(among, np.nan), where=among > 0
        )
    return means


def _ssim(generated: Pixels, truth: Pixels) -> float:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(truth.shape[:2]) < SSIM_WINDOW:
        return float("nan")
    # In 0..1, as everyone takes it: the luminance term changes when the range is shifted.
    one, other = ((torch.from_numpy(to_float(pixels))[None] + 1) / 2 for pixels in (generated, truth))
    return float(structural_similarity_index_measure(one, other, data_range=1.0))  # type: ignore[arg-type]
