"""The PatchGAN judge of pix2pix (section 3.2.2 and 6.1.2 there), for any of the receptive fields the papers vary."""

from torch import Tensor, nn

from diptych.networks.layers import NormName, convolution_needs_bias, initialise, norm_layer

PATCH_LAYERS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Receptive field in pixels -> number of strided layers."""


class PatchJudge(nn.Module):
    """`(B, in_channels, H, W)` -> raw logits `(B, 1, h, w)`, one for each overlapping patch of `patch` pixels."""

    def __init__(self, in_channels: int = 3, *, patch: int = 70, ndf: int = 64, norm: NormName = "instance") -> None:
        super().__init__()
        bias = convolution_needs_bias(norm)
        strided = PATCH_LAYERS[patch]
        if strided == 0:
            layers: list[nn.Module] = [
                nn.Conv2d(in_channels, ndf, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(ndf, 2 * ndf, 1, bias=bias),
                norm_layer(norm, 2 * ndf),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * ndf, 1, 1),
            ]
        else:
            layers = [nn.Conv2d(in_channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            width = ndf
            for level in range(1, strided + 1):
                wider = ndf * min(2**level, 8)
                stride = 2 if level < strided else 1
                layers += [
                    nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=bias),
                    norm_layer(norm, wider),
                    nn.LeakyReLU(0.2),
                ]
                width = wider
            layers.append(nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)  # (B, 1, h, w)
        return logits
