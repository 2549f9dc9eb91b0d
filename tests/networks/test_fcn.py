"""FCN-8s: VGG-16's names, the parameter count by hand, the law of its bilinear upsamplings, where the scores lie."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from diptych.networks import FCN8s


def put(layer: nn.Module, scores: Tensor) -> None:
    """Let `layer` answer `scores`, whatever it is asked."""
    layer.register_forward_hook(lambda module, inputs, output: scores)


def test_parameters_by_the_papers_layer_table() -> None:
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    features = sum(9 * before * after + after for before, after in pairwise(channels))
    assert features == 14_714_688  # the usual VGG-16's
    fc6 = 7 * 7 * 512 * 4096 + 4096
    fc7 = 4096 * 4096 + 4096
    scores = (4096 + 1) * 19 + (512 + 1) * 19 + (256 + 1) * 19
    upsamplings = 2 * 4 * 4 * 19 * 19  # the third, 8x, has none
    with torch.device("meta"):
        network = FCN8s(out_channels=19)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == features + fc6 + fc7 + scores + upsamplings == 134_364_569


def test_features_are_named_as_in_the_usual_vgg16() -> None:
    with torch.device("meta"):
        network = FCN8s()
    convolutions = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
    convolutions |= dict.fromkeys([17, 19, 21, 24, 26, 28], 512)
    state = network.state_dict()
    biases = {name: len(values) for name, values in state.items() if name.startswith("features") and "bias" in name}
    assert biases == {f"features.{index}.bias": width for index, width in convolutions.items()}
    assert [i for i, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)] == [4, 9, 16, 23, 30]
    others = {name.split(".")[0] for name in state} - {"features"}
    assert others == {"fc6", "fc7", "score_fc7", "score_pool4", "score_pool3", "upsample_fc7", "upsample_pool4"}


def test_it_starts_from_kaiming_weights_and_answers_zero() -> None:
    torch.manual_seed(0)
    network = FCN8s(ngf=4)
    assert network.features[17].weight.shape[:2] == (32, 16)  # out, in: the outgoing fan counts
    assert network.features[17].weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert network.fc7.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert all(not parameter.any() for name, parameter in network.named_parameters() if name.endswith("bias"))
    assert not network(torch.randn(1, 3, 32, 32)).any()


def test_images_reach_vgg_normalised_as_imagenet_is() -> None:
    network = FCN8s(ngf=1)
    seen: list[Tensor] = []
    network.features[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.stack([torch.full((3, 32, 32), -1.0), torch.ones(3, 32, 32)]))
    black, white = seen[0][:, :, 5, 7].tolist()
    assert black == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert white == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_other_channels_are_taken_as_they_come() -> None:
    network = FCN8s(4, ngf=1)
    seen: list[Tensor] = []
    network.features[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.randn(1, 4, 32, 32)
    network(images)
    torch.testing.assert_close(seen[0], images)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
def test_multiples_of_32_keep_their_size(size: tuple[int, int]) -> None:
    assert FCN8s(out_channels=7, ngf=1)(torch.zeros(2, 3, *size)).shape == (2, 7, *size)


def test_constants_and_ramps_survive_the_upsamplings() -> None:
    """Bilinear interpolation keeps linear functions; scores of one class do not mix into another's.

    Coarse column j is centred on pixel 32 j + 15.5. The zeros beyond the border lower the outer 28 pixels.
    """
    network = FCN8s(ngf=1).double()
    ramp = torch.arange(4.0, dtype=torch.float64)
    along_x, along_y = ramp.expand(4, 4), ramp[:, None].expand(4, 4)
    put(network.score_fc7, torch.stack([torch.full_like(along_x, 5), along_x, along_y])[None])
    constant, x, y = network(torch.zeros(1, 3, 128, 128, dtype=torch.float64))[0, :, 28:100, 28:100]
    expected = ((torch.arange(28, 100, dtype=torch.float64) - 15.5) / 32).expand(72, 72)
    torch.testing.assert_close(constant, torch.full_like(constant, 5))
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(y, expected.T)


@pytest.mark.parametrize(("name", "stride"), [("score_pool3", 8), ("score_pool4", 16), ("score_fc7", 32)])
def test_scores_land_where_they_were_read(name: str, stride: int) -> None:
    """The response to one score is centred on the middle of its stride x stride pixels."""
    network = FCN8s(ngf=1)
    scores = torch.zeros(1, 3, 256 // stride, 256 // stride)
    scores[0, 1, 3, 4] = 1
    put(getattr(network, name), scores)
    response = network(torch.zeros(1, 3, 256, 256))[0, 1]  # (H, W)
    pixels = torch.arange(256.0)
    assert response.sum().item() == pytest.approx(stride**2, rel=1e-4)
    assert ((response.sum(1) @ pixels) / response.sum()).item() == pytest.approx(3.5 * stride - 0.5, rel=1e-4)
    assert ((response.sum(0) @ pixels) / response.sum()).item() == pytest.approx(4.5 * stride - 0.5, rel=1e-4)


@pytest.mark.parametrize("name", ["score_pool3", "score_pool4", "score_fc7"])
def test_each_score_layer_speaks_of_the_image(name: str) -> None:
    torch.manual_seed(0)
    network = FCN8s(ngf=2, dropout=False)
    nn.init.normal_(getattr(network, name).weight)
    one, other = network(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert (one - other).abs().max() > 1e-3


def test_the_2x_upsamplings_learn() -> None:
    network = FCN8s(ngf=2)
    put(network.score_fc7, torch.ones(1, 3, 1, 1))
    network(torch.zeros(1, 3, 32, 32)).sum().backward()
    for layer in (network.upsample_fc7, network.upsample_pool4):
        assert layer.weight.grad is not None
        assert layer.weight.grad.any()


@pytest.mark.parametrize(("layer", "after"), [("fc6", "fc7"), ("fc7", "score_fc7")])
def test_relu_and_dropout_follow_the_wide_layers(layer: str, after: str) -> None:
    torch.manual_seed(0)
    network = FCN8s(ngf=4)
    negative, positive = torch.full((128,), -1.0), torch.ones(128)
    nn.init.zeros_(getattr(network, layer).weight)
    getattr(network, layer).bias.data = torch.cat([negative, positive])
    seen: list[Tensor] = []
    getattr(network, after).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.zeros(2, 3, 64, 64))
    network.eval()(torch.zeros(2, 3, 64, 64))
    training, translating = seen
    assert not training[:, :128].any()
    assert set(training[:, 128:].unique().tolist()) == {0.0, 2.0}  # half is dropped, the rest doubled
    assert training[:, 128:].mean().item() == pytest.approx(1, abs=0.2)
    assert set(translating[:, 128:].unique().tolist()) == {1.0}


def test_dropout_can_be_left_out() -> None:
    assert not any(isinstance(module, nn.Dropout) for module in FCN8s(ngf=1, dropout=False).modules())


@pytest.mark.parametrize("side", [32, 64])
def test_gradients_in_bf16_hold_no_memory_that_nobody_wrote(side: int) -> None:
    torch.manual_seed(0)
    network = FCN8s(out_channels=3, ngf=16, dropout=False)
    for layer in (network.score_fc7, network.score_pool4, network.score_pool3):
        nn.init.normal_(layer.weight, 0, 0.02)
    images = torch.rand(1, 3, side, side) * 2 - 1

    def gradient(network: nn.Module, images: Tensor) -> Tensor:
        network.zero_grad()
        network(images).float().square().mean().backward()
        assert isinstance(network.fc6.weight.grad, Tensor)
        return network.fc6.weight.grad.double()

    truth = gradient(copy.deepcopy(network).double(), images.double())
    for _ in range(20):
        for size in (2**12, 2**16, 2**18, 2**20, 2**22):
            spoilt = [torch.full((size // 4,), float("nan")) for _ in range(8)]
            del spoilt
        with torch.autocast("cpu", torch.bfloat16):
            found = gradient(network, images)
        assert (found - truth).norm() < 0.3 * truth.norm()  # bf16 itself is off by some 0.1
