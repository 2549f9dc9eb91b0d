"""What the networks share: the choice of normalisation, how a generator ends, the weights they start from, and how
several batches go through one."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.processes import this_process
from diptych.reduction import over_all_rows, rows_are_shared

NormName = Literal["instance", "batch"]
Head = Literal["tanh", "logits"]


class InstanceNorm(nn.InstanceNorm2d):
    """InstanceNorm without parameters, row by row as the BatchNorm of a batch of one: the same numbers.

    torch's own gradient is wrong, without a word, on a processor for one row whose gradient lies channels-last in
    memory (torch 2.13); for several rows it copies images to another layout and back, and takes twice the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not isinstance(x, Tensor):  # the compiler fuses torch's own, rightly
            return super().forward(x)
        rows = [F.batch_norm(row, None, None, training=True, eps=self.eps) for row in torch.split(x, 1)]
        return torch.cat(rows) if len(rows) > 1 else rows[0]


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm over the rows of all processes that hold some of the batch: by itself torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and rows_are_shared()):
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)  # (C,) each
        # What all know already is taken off, as a variance by squares loses the digits of a large mean.
        known = self.running_mean.clone()
        mean = mean - known
        mean, square = over_all_rows(torch.stack([mean, variance + mean.square()])).unbind()
        mean, variance = mean + known, (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            number = x.numel() // x.shape[1] * this_process().size
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum or 0.0)
        scale = self.weight * torch.rsqrt(variance + self.eps)  # (C,)
        return ((values - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def norm_layer(norm: NormName, channels: int) -> nn.Module:
    """InstanceNorm without parameters (CycleGAN) or BatchNorm with them (pix2pix), over `(B, channels, H, W)`."""
    return InstanceNorm(channels) if norm == "instance" else BatchNorm(channels)


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


def mixes_rows(network: nn.Module) -> bool:
    """Whether what the network makes of a row of the batch depends on the other rows: BatchNorm by batch statistics."""
    return network.training and any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def together(network: nn.Module, *batches: Tensor) -> Sequence[Tensor]:
    """`network(x)` for each of `batches`, `(B, C, H, W)` each: in one call, which is quicker, where rows do not mix."""
    if mixes_rows(network):
        return [network(x) for x in batches]
    return torch.split(network(torch.cat(batches)), [len(x) for x in batches])
