"""What the networks share: the choice of normalisation, how a generator ends, and the weights they start from."""

from typing import Literal

from torch import nn

NormName = Literal["instance", "batch"]
Head = Literal["tanh", "logits"]


def norm_layer(norm: NormName, channels: int) -> nn.Module:
    """InstanceNorm without parameters (CycleGAN) or BatchNorm with them (pix2pix), over `(B, channels, H, W)`."""
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)


def convolution_needs_bias(norm: NormName) -> bool:
    """BatchNorm brings a bias of its own; before the parameterless InstanceNorm the papers keep the convolution's."""
    return norm == "instance"


def head_layer(head: Head) -> nn.Module:
    """What ends a generator: tanh for images in [-1, 1], nothing for class logits that go into a cross-entropy."""
    return nn.Tanh() if head == "tanh" else nn.Identity()


def initialise(network: nn.Module) -> None:
    """Weights from N(0, 0.02), BatchNorm scales from N(1, 0.02), biases 0 (pix2pix, section 6.2)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
