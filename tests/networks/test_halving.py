"""The matrix products of small maps are torch's own convolutions, to the rounding of bf16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.networks.halving import MOST_POSITIONS, Doubling, Halving


def copy_of(layer: Halving | Doubling) -> nn.Module:
    """torch's own layer, with the same weights."""
    kind = nn.Conv2d if isinstance(layer, Halving) else nn.ConvTranspose2d
    plain = kind(layer.in_channels, layer.out_channels, 4, stride=2, padding=1, bias=layer.bias is not None)
    plain.load_state_dict(layer.state_dict())
    return plain


def answers(layer: nn.Module, x: Tensor, bf16: bool) -> list[Tensor]:
    """The output, and the gradients of input and parameters against a fixed random direction."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = layer(x)
    towards = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out.float(), *torch.autograd.grad((out.float() * towards).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize(
    "layer", [Halving(6, 5), Halving(6, 5, bias=False), Doubling(6, 5), Doubling(6, 5, bias=False)]
)
@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 8), (2, 8, 8), (1, 2, 6)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_convolution(
    layer: Halving | Doubling, shape: tuple[int, int, int], memory_format: torch.memory_format
) -> None:
    batch, height, width = shape
    x = torch.randn(batch, 6, height, width, generator=torch.Generator().manual_seed(0))
    layer = layer.to(memory_format=memory_format)  # type: ignore[call-overload]
    expected = answers(copy_of(layer), x, bf16=False)
    for ours, theirs in zip(answers(layer, x, bf16=True), expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()


@pytest.mark.parametrize("layer", [Halving(3, 4), Doubling(3, 4)])
def test_the_one_position_of_the_innermost_map(layer: Halving | Doubling) -> None:
    x = torch.randn(2, 3, 2, 2) if isinstance(layer, Halving) else torch.randn(2, 3, 1, 1)
    ours, expected = answers(layer, x, bf16=True)[0], copy_of(layer)(x)
    assert (ours - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("layer", [Halving(3, 4), Doubling(3, 4)])
def test_float32_and_large_maps_are_torchs_own(layer: Halving | Doubling) -> None:
    small, large, odd = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 2, MOST_POSITIONS), torch.randn(1, 3, 5, 3)
    assert torch.equal(layer(small), copy_of(layer)(small))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(large), copy_of(layer)(large))
        assert layer(odd).shape == copy_of(layer)(odd).shape


def test_by_hand() -> None:
    """A kernel of one 1 moves each pixel to one place: row 2 i + 2 - 1 and column 2 j + 1 - 1 for its place (2, 1)."""
    layer = Doubling(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 2, 1] = 1
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert out[0, 0].tolist() == [[0, 0, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0]]
    assert F.conv_transpose2d(torch.ones(1, 1, 2, 2), layer.weight, stride=2, padding=1)[0, 0, 1, 0] == 1
