"""Parameter counts against the published ones, receptive fields by their footprint in the gradient, shapes."""

import pytest
import torch
from torch import nn

from diptych.networks import PATCH_LAYERS, PatchJudge, ResNetGenerator, UNetGenerator, make_generator


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_parameter_counts() -> None:
    assert count(ResNetGenerator()) == 11_378_179
    assert count(PatchJudge()) == 2_764_737
    assert count(UNetGenerator()) == pytest.approx(54.41e6, abs=5e3)


@pytest.mark.parametrize("patch", list(PATCH_LAYERS))
def test_receptive_field(patch: int) -> None:
    judge = PatchJudge(3, patch=patch, ndf=2).double()
    for name, module in judge.layers.named_children():
        if isinstance(module, nn.InstanceNorm2d):  # it looks at the whole image
            judge.layers[int(name)] = nn.Identity()
    image = torch.randn(1, 3, 320, 320, dtype=torch.float64, requires_grad=True)
    logits = judge(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)) > 0  # (H, W)
    for axis in (0, 1):
        lines = touched.any(axis).nonzero().flatten()
        assert lines.max() - lines.min() + 1 == patch


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dropout", [False, True])
def test_generators_keep_the_size_and_stay_in_range(norm: str, dropout: bool) -> None:
    image = torch.rand(2, 3, 32, 48) * 2 - 1
    for architecture in ({"generator": "resnet", "blocks": 2}, {"generator": "unet", "depth": 4}):
        network = make_generator(
            {**architecture, "in_channels": 3, "out_channels": 3, "ngf": 4, "norm": norm, "dropout": dropout}
        )
        out = network(image)
        assert out.shape == image.shape
        assert out.abs().max() <= 1


def test_resnet_of_nine_blocks_has_nine() -> None:
    nine, six = (
        sum(type(m).__name__ == "ResidualBlock" for m in ResNetGenerator(ngf=2, blocks=n).modules()) for n in (9, 6)
    )
    assert (nine, six) == (9, 6)


def test_unet_skips_carry_the_input_past_the_bottleneck() -> None:
    """With every deeper layer silenced, the outermost skip alone still shows where the input was."""
    network = UNetGenerator(ngf=4, depth=3, norm="instance", dropout=False)
    for level in range(2):
        for parameter in network.decoder[level].parameters():
            nn.init.zeros_(parameter)
    image = torch.zeros(1, 3, 16, 16)
    other = image.clone()
    other[..., 4:8, 4:8] = 1
    changed = (network(image) - network(other)).abs().sum((0, 1))
    assert changed[4:8, 4:8].max() > 0
    assert changed[12:, 12:].max() == 0


def test_unet_dropout_is_in_three_decoder_layers_and_norms_are_missing_where_the_paper_says() -> None:
    network = UNetGenerator(ngf=2)
    dropped = [any(isinstance(m, nn.Dropout) for m in layer) for layer in network.decoder]
    assert dropped == [False, True, True, True, False, False, False, False]
    normed = [any(isinstance(m, nn.BatchNorm2d) for m in layer) for layer in network.encoder]
    assert normed == [False, True, True, True, True, True, True, False]


def test_weights_start_from_the_papers_distribution() -> None:
    torch.manual_seed(0)
    network = UNetGenerator(ngf=16, depth=5)
    weights = torch.cat(
        [m.weight.flatten() for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    )
    assert weights.mean().abs() < 1e-3
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    scales = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.2)
