"""FCN-8s, the plain segmentation network that the papers compare with (Long et al. 2015, section 4.2), on VGG-16."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.networks.layers import Head, head_layer

VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Width in multiples of ngf and number of 3x3 convolutions of each block; a pooling ends it."""
END_OF_POOL3, END_OF_POOL4 = 17, 24  # in `features`


def upsampling(channels: int) -> nn.ConvTranspose2d:
    """Twice the size, `(B, channels, H, W)` -> `(B, channels, 2H, 2W)`; learnable, bilinear and per channel at first.

    Beyond the border it sees zeros, so a border pixel starts at 3/4 of its value.
    """
    layer = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[:, :, None, None] * torch.outer(ramp, ramp))
    return layer


class FCN8s(nn.Module):
    """`(B, in_channels, H, W)` in [-1, 1] -> class logits `(B, out_channels, H, W)`; H and W are multiples of 32.

    The scores of fc7, pool4 and pool3 are fused coarse to fine. Their layers start from zero; the two 2x upsamplings
    start bilinear and learn, the final 8x one is fixed to bilinear, as in the paper. Where the paper pads the image by
    100 and crops each score map, fc6 is padded by 3, which aligns all maps at multiples of 32.

    At ngf 64 `features` has the names and shapes of the usual VGG-16 weights. Those expect ImageNet-normalised images,
    so three channels are normalised here, whatever the weights; another number of channels is taken as it comes.
    With `head="tanh"` the output is an image in [-1, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        ngf: int = 64,
        dropout: bool = True,
        head: Head = "logits",
    ) -> None:
        super().__init__()
        # 0.5 and 0.5 undo the step to [0, 1].
        mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if in_channels == 3 else ([0.5], [0.5])
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

        layers: list[nn.Module] = []
        width = in_channels
        for multiple, convolutions in VGG16:
            for _ in range(convolutions):
                layers += [nn.Conv2d(width, multiple * ngf, 3, padding=1), nn.ReLU()]
                width = multiple * ngf
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc6 = nn.Conv2d(width, 64 * ngf, 7, padding=3)
        self.fc7 = nn.Conv2d(64 * ngf, 64 * ngf, 1)
        self.drop = nn.Dropout(0.5) if dropout else nn.Identity()
        self.score_fc7 = nn.Conv2d(64 * ngf, out_channels, 1)
        self.upsample_fc7 = upsampling(out_channels)
        self.score_pool4 = nn.Conv2d(8 * ngf, out_channels, 1)
        self.upsample_pool4 = upsampling(out_channels)
        self.score_pool3 = nn.Conv2d(4 * ngf, out_channels, 1)
        self.head = head_layer(head)
        self.size_multiple = 32
        for name, parameter in self.named_parameters():
            if name.startswith("score") or name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif not name.startswith("upsample"):
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = ((x + 1) / 2 - self.mean) / self.std  # (B, in_channels, H, W)
        pool3 = self.features[:END_OF_POOL3](x)  # (B, 4 ngf, H / 8, W / 8)
        pool4 = self.features[END_OF_POOL3:END_OF_POOL4](pool3)  # (B, 8 ngf, H / 16, W / 16)
        pool5 = self.features[END_OF_POOL4:](pool4)  # (B, 8 ngf, H / 32, W / 32)
        fc6 = self.drop(F.relu(self._fc6(pool5)))  # (B, 64 ngf, H / 32, W / 32)
        fc7 = self.drop(F.relu(self.fc7(fc6)))
        scores = self.upsample_fc7(self.score_fc7(fc7)) + self.score_pool4(pool4)  # (B, out_channels, H / 16, W / 16)
        scores = self.upsample_pool4(scores) + self.score_pool3(pool3)  # (B, out_channels, H / 8, W / 8)
        scores = F.interpolate(scores, scale_factor=8, mode="bilinear", align_corners=False)
        out: Tensor = self.head(scores)  # (B, out_channels, H, W)
        return out

    def _fc6(self, pool5: Tensor) -> Tensor:
        # On maps smaller than the padding torch's bf16 gradient of the weights holds memory that nobody wrote (torch
        # 2.13, on processors): those go in float32.
        seen_whole = isinstance(pool5, Tensor)  # and not in tiles, by which nothing is trained
        small = seen_whole and pool5.dtype == torch.bfloat16 and min(pool5.shape[2:]) < 3
        with torch.autocast("cpu", enabled=False) if small else nullcontext():
            out: Tensor = self.fc6(pool5.float() if small else pool5)
        return out
