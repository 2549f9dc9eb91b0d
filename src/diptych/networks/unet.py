"""The U-Net generator of pix2pix (section 6.1.1 there): strided encoder, mirrored decoder, a skip at every level."""

import torch
from torch import Tensor, nn

from diptych.networks.halving import Doubling, Halving
from diptych.networks.layers import Head, NormName, convolution_needs_bias, head_layer, initialise, norm_layer


class UNetGenerator(nn.Module):
    """`(B, in_channels, H, W)` in [-1, 1] -> `(B, out_channels, H, W)`; H and W are multiples of 2**depth.

    At depth 8 and ngf 64 this is the paper's U-Net for 256 px: C64-C128-C256-C512-C512-C512-C512-C512, no norm on the
    first and the innermost convolution. Dropout 0.5 follows the decoder layers that are 8*ngf wide on both sides, the
    innermost excepted: three at depth 8, two at depth 7, one at depth 6, none below.

    Without `skips` it is the encoder-decoder of the paper's ablation (section 4.2): all goes through the bottleneck.
    `leak` is the slope of the encoder's LeakyReLU; 0 makes it a ReLU, as in the UCSD report's encoder. The output is in
    [-1, 1], or with `head="logits"` raw class logits.
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
        skips: bool = True,
        leak: float = 0.2,
        head: Head = "tanh",
    ) -> None:
        super().__init__()
        bias = convolution_needs_bias(norm)
        widths = [ngf * min(2**level, 8) for level in range(depth)]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            layers: list[nn.Module] = []
            if level > 0:
                layers.append(nn.LeakyReLU(leak))
            before = widths[level - 1] if level else in_channels
            layers.append(Halving(before, width, bias=bias))
            if 0 < level < depth - 1:
                layers.append(norm_layer(norm, width))
            self.encoder.append(nn.Sequential(*layers))

        self.decoder = nn.ModuleList()
        for level in reversed(range(depth)):
            below = 2 * widths[level] if skips and level < depth - 1 else widths[level]  # beside it comes the skip
            if level == 0:
                layers = [
                    nn.ReLU(),
                    Doubling(below, out_channels),
                    head_layer(head),
                ]
            else:
                width = widths[level - 1]
                layers = [
                    nn.ReLU(),
                    Doubling(below, width, bias=bias),
                    norm_layer(norm, width),
                ]
                if dropout and width == 8 * ngf and level < depth - 1:
                    layers.append(nn.Dropout(0.5))
            self.decoder.append(nn.Sequential(*layers))
        self.skips = skips
        self.size_multiple = 2**depth
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        passing: list[Tensor] = []  # what goes around the deeper levels
        for encode in self.encoder:
            x = encode(x)  # (B, width, H / 2**(level + 1), W / 2**(level + 1))
            passing.append(x)
        passing.pop()
        for decode in self.decoder:
            x = decode(x)
            if self.skips and passing:
                x = torch.cat([passing.pop(), x], dim=1)
        return x  # (B, out_channels, H, W)
