"""Parameter counts against the published ones, receptive fields by their footprint in the gradient, what passes."""

import pytest
import torch
from torch import Tensor, nn

from diptych.networks import FCN8s, PatchJudge, ResNetGenerator, UNetGenerator, make_generator


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_parameter_counts() -> None:
    assert count(ResNetGenerator()) == 11_378_179
    assert count(PatchJudge()) == 2_764_737


def test_parameters_of_the_256_px_unet_layer_by_layer() -> None:
    """54.41 M are published; without skips each decoder layer but the innermost reads half as many channels."""
    kernel = 4 * 4
    encoder = kernel * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512)
    encoder_norms = 2 * (128 + 256 + 4 * 512)
    innermost = kernel * 512 * 512
    decoder = kernel * (3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3)
    decoder_norms = 2 * (4 * 512 + 256 + 128 + 64)
    last_bias = 3
    others = encoder + encoder_norms + innermost + decoder_norms + last_bias
    with torch.device("meta"):
        assert count(UNetGenerator()) == others + decoder == 54_413_955
        assert count(UNetGenerator(skips=False)) == others + decoder // 2 == 39_075_459


@pytest.mark.parametrize("patch", [1, 16, 34, 70, 142, 286])
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


@pytest.mark.parametrize("skips", [False, True])
def test_only_skips_lead_around_the_bottleneck(skips: bool) -> None:
    network = UNetGenerator(ngf=4, depth=3, norm="instance", dropout=False, skips=skips)
    for parameter in network.encoder[-1].parameters():
        nn.init.zeros_(parameter)
    out = network(torch.randn(2, 3, 16, 16))
    assert torch.equal(out[0], out[1]) == (not skips)


@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_the_leak_decides_whether_negative_encoder_activations_pass(leak: float) -> None:
    network = UNetGenerator(ngf=4, depth=3, norm="instance", dropout=False, leak=leak)
    first = network.encoder[0][0]
    nn.init.constant_(first.bias, -1.0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert first(images).max() < 0
    out = network(images)
    assert torch.equal(out[0], out[1]) == (leak == 0)


@pytest.mark.parametrize(("depth", "layers"), [(8, [1, 2, 3]), (7, [1, 2]), (6, [1]), (5, []), (3, [])])
def test_unet_dropout_follows_the_widest_decoder_layers(depth: int, layers: list[int]) -> None:
    def dropped(dropout: bool) -> list[int]:
        decoder = UNetGenerator(ngf=2, depth=depth, dropout=dropout).decoder  # the innermost first
        return [i for i, layer in enumerate(decoder) if any(isinstance(m, nn.Dropout) for m in layer)]

    assert dropped(True) == layers
    assert dropped(False) == []


def test_unet_norms_are_missing_where_the_paper_says() -> None:
    network = UNetGenerator(ngf=2)
    normed = [any(isinstance(m, nn.BatchNorm2d) for m in layer) for layer in network.encoder]
    assert normed == [False, True, True, True, True, True, True, False]


def test_tanh_of_the_logits_is_the_image() -> None:
    image = torch.rand(2, 3, 32, 32) * 2 - 1

    def out(head: str, architecture: dict[str, object]) -> Tensor:
        torch.manual_seed(0)
        network = make_generator({**architecture, "ngf": 4, "out_channels": 5, "dropout": False, "head": head})
        last = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]
        nn.init.normal_(last.weight)
        result: Tensor = network(image)
        return result

    for architecture in (
        {"generator": "resnet", "blocks": 1},
        {"generator": "unet", "depth": 3},
        {"generator": "fcn8s"},
    ):
        logits, picture = out("logits", architecture), out("tanh", architecture)
        assert logits.shape == (2, 5, 32, 32)
        assert logits.abs().max() > 1
        torch.testing.assert_close(picture, torch.tanh(logits))
    assert isinstance(FCN8s(ngf=1).head, nn.Identity)


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
