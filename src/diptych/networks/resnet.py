"""The ResNet generator of CycleGAN (section 7.2 there): strided convolutions, residual blocks, transposed ones."""

from torch import Tensor, nn

from diptych.networks.layers import Head, NormName, convolution_needs_bias, head_layer, initialise, norm_layer


class ResidualBlock(nn.Module):
    """x + conv-norm-relu-[dropout]-conv-norm of x, 3x3 kernels, reflection padding; `(B, C, H, W)` in and out."""

    def __init__(self, channels: int, norm: NormName, dropout: bool) -> None:
        super().__init__()
        bias = convolution_needs_bias(norm)
        layers = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(norm, channels),
            nn.ReLU(),
        ]
        layers += [nn.Dropout(0.5)] if dropout else []
        layers += [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(norm, channels),
        ]
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)  # (B, C, H, W)
        return out


class ResNetGenerator(nn.Module):
    """`(B, in_channels, H, W)` in [-1, 1] -> `(B, out_channels, H, W)`; H and W are multiples of 4.

    The output is in [-1, 1], or with `head="logits"` raw class logits.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        ngf: int = 64,
        blocks: int = 9,
        norm: NormName = "instance",
        dropout: bool = False,
        head: Head = "tanh",
    ) -> None:
        super().__init__()
        bias = convolution_needs_bias(norm)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, ngf, 7, bias=bias),
            norm_layer(norm, ngf),
            nn.ReLU(),
        ]
        for width in (ngf, 2 * ngf):
            layers += [
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias),
                norm_layer(norm, 2 * width),
                nn.ReLU(),
            ]
        layers += [ResidualBlock(4 * ngf, norm, dropout) for _ in range(blocks)]
        for width in (4 * ngf, 2 * ngf):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias),
                norm_layer(norm, width // 2),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, out_channels, 7), head_layer(head)]
        self.layers = nn.Sequential(*layers)
        self.size_multiple = 4
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)  # (B, out_channels, H, W)
        return out
