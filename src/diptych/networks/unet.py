"""The U-Net generator of pix2pix (section 6.1.1 there): strided encoder, mirrored decoder, a skip at every level."""

import torch
from torch import Tensor, nn

from diptych.networks.layers import NormName, convolution_needs_bias, initialise, norm_layer


class UNetGenerator(nn.Module):
    """`(B, in_channels, H, W)` in [-1, 1] -> `(B, out_channels, H, W)` in [-1, 1]; H and W are multiples of 2**depth.

    At depth 8 and ngf 64 this is the paper's U-Net for 256 px: C64-C128-C256-C512-C512-C512-C512-C512, no norm on the
    first and the innermost convolution, dropout 0.5 after the three decoder layers that follow the innermost.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        ngf: int = 64,
        depth: int = 8,
        norm: NormName = "batch",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        bias = convolution_needs_bias(norm)
        widths = [ngf * min(2**level, 8) for level in range(depth)]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            layers: list[nn.Module] = []
            if level > 0:
                layers.append(nn.LeakyReLU(0.2))
            before = widths[level - 1] if level else in_channels
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1, bias=bias))
            if 0 < level < depth - 1:
                layers.append(norm_layer(norm, width))
            self.encoder.append(nn.Sequential(*layers))

        self.decoder = nn.ModuleList()
        for level in reversed(range(depth)):
            below = widths[level] if level == depth - 1 else 2 * widths[level]  # beside it comes the skip
            if level == 0:
                layers = [
                    nn.ReLU(),
                    nn.ConvTranspose2d(below, out_channels, 4, stride=2, padding=1),
                    nn.Tanh(),
                ]
            else:
                width = widths[level - 1]
                layers = [
                    nn.ReLU(),
                    nn.ConvTranspose2d(below, width, 4, stride=2, padding=1, bias=bias),
                    norm_layer(norm, width),
                ]
                if dropout and depth - 5 < level < depth - 1:
                    layers.append(nn.Dropout(0.5))
            self.decoder.append(nn.Sequential(*layers))
        self.size_multiple = 2**depth
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for encode in self.encoder:
            x = encode(x)  # (B, width, H / 2**(level + 1), W / 2**(level + 1))
            skips.append(x)
        skips.pop()
        for decode in self.decoder:
            x = decode(x)
            if skips:
                x = torch.cat([skips.pop(), x], dim=1)
        return x  # (B, out_channels, H, W)
