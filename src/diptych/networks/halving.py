"""The U-Net's convolutions, 4x4 with stride 2: where a map is small, as one matrix product.

The innermost maps have a handful of positions and most of the weights. There the usual convolution spends its time on
bringing millions of weights into a layout of its own, for a few products each; a matrix product takes them as they lie.
In bf16 on a processor that is two to three times as quick. Elsewhere, and in float32, it is torch's own convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_POSITIONS = 64
"""Height times width of the larger map's half, up to which the product is quicker: measured at batches of 1 and 4."""


def _is_small(x: Tensor, scale: int) -> bool:
    if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
        return False
    return x.shape[2] % scale == 0 == x.shape[3] % scale and x.shape[2] * x.shape[3] <= MOST_POSITIONS


class Halving(nn.Conv2d):
    """`(B, in_channels, 2H, 2W)` -> `(B, out_channels, H, W)`."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not _is_small(x, 2):
            return super().forward(x)
        batch, channels, height, width = x.shape
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (B, 2H + 2, 2W + 2, C)
        seen = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)  # (B, H, W, 4, 4, C)
        rows = seen.reshape(batch * height * width // 4, 16 * channels)
        out = rows @ self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, 16 * channels).T
        if self.bias is not None:
            out = out + self.bias.to(out.dtype)
        return out.view(batch, height // 2, width // 2, self.out_channels).permute(0, 3, 1, 2)


class Doubling(nn.ConvTranspose2d):
    """`(B, in_channels, H, W)` -> `(B, out_channels, 2H, 2W)`."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not _is_small(x, 1):
            return super().forward(x, output_size)
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        spread = rows @ self.weight.permute(0, 2, 3, 1).reshape(channels, 16 * self.out_channels)
        # What each position adds to the 4x4 positions around it.
        spread = spread.view(batch, height * width, 16, self.out_channels).permute(0, 3, 2, 1)  # (B, C, 16, H W)
        out = F.fold(spread.flatten(1, 2), (2 * height, 2 * width), 4, padding=1, stride=2)
        return out if self.bias is None else out + self.bias.to(out.dtype)[:, None, None]
