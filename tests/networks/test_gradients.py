"""Gradients in the layout and precision of training, against float64 in torch's usual layout, row by row.

A gradient that is wrong still trains, worse: torch's own InstanceNorm has one for a single row in channels-last layout.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from diptych.networks import PatchJudge, ResNetGenerator, UNetGenerator
from diptych.training.compiling import compile_networks, why_not

NETWORKS: dict[str, nn.Module] = {
    "resnet": ResNetGenerator(ngf=4, blocks=2),
    "resnet batch": ResNetGenerator(ngf=4, blocks=2, norm="batch"),
    "unet": UNetGenerator(ngf=4, depth=4, dropout=False),
    "unet instance": UNetGenerator(ngf=4, depth=3, norm="instance", dropout=False),
    "judge": PatchJudge(patch=34, ndf=4),
    "judge batch": PatchJudge(patch=34, ndf=4, norm="batch"),
}


def exact(network: nn.Module) -> nn.Module:
    """A float64 copy with torch's own InstanceNorm."""
    network = copy.deepcopy(network).double()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.InstanceNorm2d):
                setattr(parent, name, nn.InstanceNorm2d(child.num_features))
    return network


def gradients(network: nn.Module, x: Tensor, bf16: bool = False) -> list[Tensor]:
    """Of input and weights, for a loss that tells every output apart; biases before a norm have none."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network(x)
    towards = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
    weights = [p for p in network.parameters() if p.ndim == 4]
    return list(torch.autograd.grad((out.double() - towards).square().mean(), [x, *weights]))


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_in_channels_last_layout(name: str, rows: int, bf16: bool) -> None:
    network = NETWORKS[name]
    x = torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    expected = gradients(exact(network), x)
    ours = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for mine, right in zip(
        gradients(ours, x.float().to(memory_format=torch.channels_last), bf16), expected, strict=True
    ):
        distance = (mine.double() - right).norm() / right.norm()
        assert distance < (0.4 if bf16 else 1e-3)  # bf16 rounds small networks by a fifth; wrong is 1 and more


@pytest.mark.skipif(why_not(torch.device("cpu")) is not None, reason="torch's compiler does not work here")
@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("name", ["resnet", "unet instance", "judge"])
def test_gradients_of_compiled_networks(name: str, rows: int) -> None:
    x = torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    expected = gradients(exact(NETWORKS[name]), x)
    ours = copy.deepcopy(NETWORKS[name]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compile_networks([ours])
    for mine, right in zip(gradients(ours, x.float().to(memory_format=torch.channels_last)), expected, strict=True):
        assert (mine.double() - right).norm() / right.norm() < 1e-3
