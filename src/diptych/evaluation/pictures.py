"""Ordinary images: L1, PSNR, SSIM, and the share of pixels within a tolerance (Shukla et al., section 4.2.2)."""

from typing import Any

import numpy as np

from diptych.images import Floats, Pixels, to_float, to_pixels

TOLERANCE = 20  # of 255, in every channel
SSIM_WINDOW = 11  # pixels a side; smaller images have no SSIM
PROTOCOL = (
    "output resized to the truth's size and rounded to 8 bits; each number is the mean over images; l1 in 0..1, "
    "psnr in dB, ssim of values in 0..1 with an 11 px Gaussian window of sigma 1.5; tolerance_accuracy counts pixels "
    "off by less than 20 of 255 in every channel"
)


class PictureScores:
    """Collects one row of scores per image."""

    primary = "psnr"

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, generated: Floats, truth: Pixels) -> None:
        """Score float `(3, H, W)` in [-1, 1] against uint8 `(H, W, 3)`."""
        self.add_pixels(to_pixels(generated), truth)

    def add_pixels(self, generated: Pixels, truth: Pixels) -> None:
        """Score uint8 `(H, W, 3)` against uint8 `(H, W, 3)`."""
        difference = np.abs(generated.astype(np.float64) - truth)  # (H, W, 3)
        mean_square = float((difference**2).mean()) / 255**2
        self.rows.append(
            {
                "l1": float(difference.mean()) / 255,
                # Identical images have no finite PSNR; 100 dB is beyond what 8 bits can show.
                "psnr": min(100.0, -10 * float(np.log10(mean_square))) if mean_square else 100.0,
                "ssim": _ssim(generated, truth),
                "tolerance_accuracy": float((difference.max(2) < TOLERANCE).mean()),
            }
        )

    def result(self) -> dict[str, Any]:
        """Means over the images."""
        means: dict[str, float | None] = {}
        for name in self.rows[0]:
            values = np.array([row[name] for row in self.rows])
            means[name] = float(np.nanmean(values)) if not np.isnan(values).all() else None
        return {**means, "n": len(self.rows)}


def _ssim(generated: Pixels, truth: Pixels) -> float:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(truth.shape[:2]) < SSIM_WINDOW:
        return float("nan")
    # In 0..1, as everyone takes it: the luminance term changes when the range is shifted.
    one, other = ((torch.from_numpy(to_float(pixels))[None] + 1) / 2 for pixels in (generated, truth))
    return float(structural_similarity_index_measure(one, other, data_range=1.0))  # type: ignore[arg-type]
