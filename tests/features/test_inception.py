import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from diptych.errors import DiptychError
from diptych.features import extract, inception, load_extractor
from diptych.features.inception import Convolution, InceptionV3, load_inception, resize

State = dict[str, Tensor]

BLOCK_A = [("branch1x1", 64, 1, 1), ("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 5)]
BLOCK_A += [("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3), ("branch3x3dbl_3", 96, 3, 3)]
BLOCK_B = [("branch3x3", 384, 3, 3), ("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3)]
BLOCK_B += [("branch3x3dbl_3", 96, 3, 3)]
BLOCK_D = [("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 3), ("branch7x7x3_1", 192, 1, 1)]
BLOCK_D += [("branch7x7x3_2", 192, 1, 7), ("branch7x7x3_3", 192, 7, 1), ("branch7x7x3_4", 192, 3, 3)]
BLOCK_E = [("branch1x1", 320, 1, 1), ("branch3x3_1", 384, 1, 1), ("branch3x3_2a", 384, 1, 3)]
BLOCK_E += [("branch3x3_2b", 384, 3, 1), ("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 3)]
BLOCK_E += [("branch3x3dbl_3a", 384, 1, 3), ("branch3x3dbl_3b", 384, 3, 1), ("branch_pool", 192, 1, 1)]


def block_c(inner: int) -> list[tuple[str, int, int, int]]:
    seven = [("branch7x7_1", inner, 1, 1), ("branch7x7_2", inner, 1, 7), ("branch7x7_3", 192, 7, 1)]
    twice = [("branch7x7dbl_1", inner, 1, 1), ("branch7x7dbl_2", inner, 7, 1), ("branch7x7dbl_3", inner, 1, 7)]
    twice += [("branch7x7dbl_4", inner, 7, 1), ("branch7x7dbl_5", 192, 1, 7)]
    return [("branch1x1", 192, 1, 1), *seven, *twice, ("branch_pool", 192, 1, 1)]


def layers() -> list[tuple[str, int, int, int, int]]:
    """Every convolution of the file: its name, channels in and out, height and width of its kernel."""
    found = [
        ("Conv2d_1a_3x3", 3, 32, 3, 3),
        ("Conv2d_2a_3x3", 32, 32, 3, 3),
        ("Conv2d_2b_3x3", 32, 64, 3, 3),
        ("Conv2d_3b_1x1", 64, 80, 1, 1),
        ("Conv2d_4a_3x3", 80, 192, 3, 3),
    ]
    blocks = [
        ("Mixed_5b", 192, [*BLOCK_A, ("branch_pool", 32, 1, 1)]),
        ("Mixed_5c", 256, [*BLOCK_A, ("branch_pool", 64, 1, 1)]),
        ("Mixed_5d", 288, [*BLOCK_A, ("branch_pool", 64, 1, 1)]),
        ("Mixed_6a", 288, BLOCK_B),
        ("Mixed_6b", 768, block_c(128)),
        ("Mixed_6c", 768, block_c(160)),
        ("Mixed_6d", 768, block_c(160)),
        ("Mixed_6e", 768, block_c(192)),
        ("Mixed_7a", 768, BLOCK_D),
        ("Mixed_7b", 1280, BLOCK_E),
        ("Mixed_7c", 2048, BLOCK_E),
    ]
    for block, inputs, convolutions in blocks:
        before = inputs
        for name, outputs, height, width in convolutions:
            # A branch's first convolution reads the block's input, the next ones what the one before gave; both
            # halves of a split (2a and 2b, 3a and 3b) give as many channels as they read.
            first = "_" not in name or name.endswith(("_1", "_pool"))
            found.append((f"{block}.{name}", inputs if first else before, outputs, height, width))
            before = outputs
    return found


def shapes() -> dict[str, tuple[int, ...]]:
    wanted: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for name, inputs, outputs, height, width in layers():
        wanted[f"{name}.conv.weight"] = (outputs, inputs, height, width)
        wanted |= {f"{name}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
    return wanted


def hollow() -> State:
    """A file's worth of zeros that takes no room on the disk."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def state() -> State:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in shapes().items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("conv.weight"):
            values *= (2 / values[0].numel()) ** 0.5  # signals keep their strength through the ReLUs
        elif name.endswith("running_var"):
            values = 0.5 + values.abs()
        elif name.endswith("bn.weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        found[name] = values
    return found


@pytest.fixture(scope="module")
def weights(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "fid.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> InceptionV3:
    return load_inception(str(weights), "cpu").network


def convolved(state: State, x: Tensor, name: str) -> Tensor:
    """Convolution, batch norm and ReLU of one name of the file, from functions alone."""
    weight = state[f"{name}.conv.weight"]
    halved = name.endswith(("1a_3x3", "6a.branch3x3", "6a.branch3x3dbl_3", "7a.branch3x3_2", "7a.branch7x7x3_4"))
    unpadded = halved or name in ("Conv2d_2a_3x3", "Conv2d_4a_3x3")
    padding = (0, 0) if unpadded else (weight.shape[2] // 2, weight.shape[3] // 2)
    x = functional.conv2d(x, weight, None, 2 if halved else 1, padding)
    mean, variance, scale, shift = (
        state[f"{name}.bn.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (variance + 0.001).sqrt() * scale + shift).clamp(min=0)


def flat_block(state: State, x: Tensor, block: str, branches: list[str], pooled: Tensor | None) -> Tensor:
    """Branches are names that follow each other; "a|b" are two that read the same and stand side by side."""
    parts = []
    for branch in branches:
        values = pooled if branch == "branch_pool" else x
        for step in branch.split():
            values = torch.cat([convolved(state, values, f"{block}.{name}") for name in step.split("|")], 1)
        parts.append(values)
    return torch.cat(parts, 1)


def neighbourhoods(x: Tensor, outside: float) -> Tensor:
    """`(B, C, H, W)` -> the nine pixels about each, `(9, B, C, H, W)`."""
    padded = functional.pad(x, (1, 1, 1, 1), value=outside)
    height, width = x.shape[2:]
    return torch.stack([padded[..., y : y + height, z : z + width] for y in range(3) for z in range(3)])


def means_of_existing(x: Tensor) -> Tensor:
    return neighbourhoods(x, 0).sum(0) / neighbourhoods(torch.ones_like(x), 0).sum(0)


A = ["branch1x1", "branch5x5_1 branch5x5_2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "branch_pool"]
B = ["branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"]
C = ["branch1x1", "branch7x7_1 branch7x7_2 branch7x7_3"]
C += ["branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5", "branch_pool"]
D = ["branch3x3_1 branch3x3_2", "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4"]
E = ["branch1x1", "branch3x3_1 branch3x3_2a|branch3x3_2b"]
E += ["branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b", "branch_pool"]


def flat_forward(state: State, images: Tensor) -> dict[str, Tensor]:
    """Everything between 0..255 and pool3, by the name of what gives it."""
    found = {}
    x = images / 128 - 1
    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "", "Conv2d_3b_1x1", "Conv2d_4a_3x3", ""):
        x = convolved(state, x, name) if name else functional.max_pool2d(x, 3, 2)
    for letter in "bcd":
        found[f"Mixed_5{letter}"] = x = flat_block(state, x, f"Mixed_5{letter}", A, means_of_existing(x))
    x = torch.cat([flat_block(state, x, "Mixed_6a", B, None), functional.max_pool2d(x, 3, 2)], 1)
    found["Mixed_6a"] = x
    for letter in "bcde":
        found[f"Mixed_6{letter}"] = x = flat_block(state, x, f"Mixed_6{letter}", C, means_of_existing(x))
    x = torch.cat([flat_block(state, x, "Mixed_7a", D, None), functional.max_pool2d(x, 3, 2)], 1)
    found["Mixed_7a"] = x
    found["Mixed_7b"] = x = flat_block(state, x, "Mixed_7b", E, means_of_existing(x))
    largest = neighbourhoods(x, -torch.inf).amax(0)
    found["Mixed_7c"] = x = flat_block(state, x, "Mixed_7c", E, largest)
    found["pool3"] = x.flatten(2).sum(2) / 64
    return found


def test_the_network_has_the_names_and_shapes_of_the_file() -> None:
    mine = {name: tuple(tensor.shape) for name, tensor in InceptionV3().state_dict().items()}
    assert {name: shape for name, shape in mine.items() if not name.endswith("num_batches_tracked")} == shapes()


def test_number_of_parameters() -> None:
    # By hand from the table of layers: each convolution in x out x height x width, twice its outputs for batch norm.
    convolutions = sum(i * o * height * width for _, i, o, height, width in layers())
    channels = sum(o for _, _, o, _, _ in layers())
    assert (len(layers()), convolutions, channels) == (94, 21_751_136, 17_216)
    wanted = 21_751_136 + 2 * 17_216 + 2048 * 1008 + 1008
    assert wanted == 23_850_960
    assert sum(parameter.numel() for parameter in InceptionV3().parameters()) == wanted


def test_forward_agrees_with_a_flat_derivation(network: InceptionV3, state: State) -> None:
    images = torch.randint(0, 256, (2, 3, 299, 299), generator=torch.Generator().manual_seed(1)).float()
    outputs: State = {}
    hooks = [
        block.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
        for name, block in network.named_children()
        if name.startswith("Mixed")
    ]
    outputs["pool3"] = network(images)
    for hook in hooks:
        hook.remove()
    wanted = flat_forward(state, images)
    assert len(wanted) == 12
    for name, values in wanted.items():
        assert outputs[name].shape == values.shape, name
        assert torch.allclose(outputs[name], values, rtol=1e-4, atol=1e-4 * float(values.abs().max())), name
    assert wanted["Mixed_5d"].shape == (2, 288, 35, 35)
    assert wanted["Mixed_6a"].shape == (2, 768, 17, 17)
    assert wanted["Mixed_7c"].shape == (2, 2048, 8, 8)
    assert outputs["pool3"].std(0).mean() > 1e-3  # two images that the network tells apart


@pytest.mark.parametrize(
    ("block", "inputs", "pooled"),
    [("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64), *((f"6{x}", 768, 192) for x in "bcde"), ("7b", 1280, 192)],
)
def test_average_pooling_does_not_count_padding(network: InceptionV3, block: str, inputs: int, pooled: int) -> None:
    flat = torch.rand(1, inputs, 1, 1, generator=torch.Generator().manual_seed(0)).expand(1, inputs, 5, 5)
    branch = network.get_submodule(f"Mixed_{block}")(flat)[:, -pooled:]
    assert branch.abs().sum() > 0
    assert torch.allclose(branch, branch[:, :, 2:3, 2:3].expand_as(branch), atol=1e-5)  # 4/9 at corners otherwise


def test_the_last_block_pools_maxima(network: InceptionV3) -> None:
    spot = torch.zeros(1, 2048, 8, 8)
    spot[:, :, 3, 4] = torch.rand(2048, generator=torch.Generator().manual_seed(0))
    ground = network.Mixed_7c(torch.zeros_like(spot))[0, -192:]
    branch = network.Mixed_7c(spot)[0, -192:]
    changed = (branch - ground).abs().amax(0) > 1e-3
    assert changed.nonzero().tolist() == [[y, x] for y in (2, 3, 4) for x in (3, 4, 5)]
    near = branch[:, 2:5, 3:6]
    assert torch.allclose(near, near[:, 1:2, 1:2].expand_as(near), atol=1e-5)


def test_batch_norm_has_tensorflows_epsilon() -> None:
    layer = Convolution(1, 1, 1).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(1)
        layer.bn.running_var.zero_()
        assert layer(torch.ones(1, 1, 1, 1)).item() == pytest.approx(1 / 0.001**0.5, rel=1e-5)


def test_pixels_enter_as_the_graph_takes_them(network: InceptionV3) -> None:
    entered: list[Tensor] = []
    hook = network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    ramp = torch.tensor([0.0, 128.0, 255.0]).view(1, 3, 1, 1).expand(1, 3, 299, 299)
    network(ramp)
    hook.remove()
    assert entered[0][0, :, 7, 9].tolist() == [-1, 0, 127 / 128]


def test_resize_of_two_pixels_by_hand() -> None:
    # Output i lies at 2 i / 299: between the two pixels, which are 299 apart, up to i = 149, then on the last one.
    wanted = torch.tensor([2.0 * i if i < 150 else 299.0 for i in range(299)])
    across = resize(torch.tensor([[[0.0, 299.0]]]))
    assert across.shape == (1, 299, 299)
    assert torch.allclose(across[0], wanted.expand(299, 299), atol=1e-3)
    down = resize(torch.tensor([[[0.0], [299.0]]]))
    assert torch.allclose(down[0], wanted[:, None].expand(299, 299), atol=1e-3)
    both = resize(torch.tensor([[[0, 100], [50, 250]]], dtype=torch.uint8))
    # At (46, 92): 92/299 of the way down, 184/299 across.
    y, x = 92 / 299, 184 / 299
    wanted_here = (1 - y) * (1 - x) * 0 + (1 - y) * x * 100 + y * (1 - x) * 50 + y * x * 250
    assert float(both[0, 46, 92]) == pytest.approx(wanted_here, abs=1e-3)


def test_shrinking_takes_pixels_and_averages_nothing() -> None:
    image = torch.randint(0, 256, (3, 598, 897), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(resize(image), image[:, ::2, ::3].float())
    assert torch.equal(resize(image[:, :299, :299]), image[:, :299, :299].float())


def test_features_of_files_of_any_size_and_mode(network: InceptionV3, weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (598, 299, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "tall.png")
    Image.fromarray(colours[:9, :30, 0]).save(tmp_path / "grey.png")
    Image.fromarray(colours[:, :, 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([colours[:5, :5], np.zeros((5, 5), np.uint8)])).save(tmp_path / "clear.png")
    files = [tmp_path / f"{name}.png" for name in ("tall", "grey", "deep", "clear")]
    features = extract(str(weights), files, cache=tmp_path / "cache")
    assert features.shape == (4, 2048)
    assert features.dtype == np.float32
    as_network_sees = torch.stack(
        [
            torch.from_numpy(colours[::2]).permute(2, 0, 1).float(),
            resize(torch.from_numpy(colours[:9, :30, 0]).expand(3, 9, 30)),
            torch.from_numpy(colours[::2, :, 0]).expand(3, 299, 299).float(),
            torch.full((3, 299, 299), 255.0),  # transparency lies on white
        ]
    )
    np.testing.assert_allclose(features, network(as_network_sees).numpy(), rtol=1e-4, atol=1e-4)


def test_features_are_remembered_by_weights_resize_and_input_range(
    state: State, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    first = extract(str(weights), [tmp_path / "a.png"], cache=tmp_path)
    save_file(state, tmp_path / "same.safetensors")
    other = load_inception(str(tmp_path / "same.safetensors"), "cpu")
    np.testing.assert_array_equal(other.describe(other.read([tmp_path / "a.png"])), first)

    mine = load_extractor(str(weights))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest in mine.identity
    assert digest not in other.identity
    assert mine.filter in mine.identity
    assert "no half-pixel centres" in mine.filter
    assert "(x - 128) / 128" in mine.filter
    assert "299x299" in mine.filter

    computed: list[int] = []
    monkeypatch.setattr(
        inception.Inception, "describe", lambda _, images: computed.append(1) or np.ones((len(images), 2048), "f4")
    )
    np.testing.assert_array_equal(extract(str(weights), [tmp_path / "a.png"], cache=tmp_path), first)
    assert not computed
    assert extract(str(tmp_path / "same.safetensors"), [tmp_path / "a.png"], cache=tmp_path).sum() == 2048
    monkeypatch.setattr(inception, "FILTER", "another resize")
    assert extract(str(weights), [tmp_path / "a.png"], cache=tmp_path).sum() == 2048


def test_what_training_alone_uses_may_be_there_or_not(tmp_path: Path) -> None:
    counted = {
        f"{name}.bn.num_batches_tracked": torch.tensor(7) for name, *_ in layers() if name != "Mixed_7c.branch_pool"
    }
    torch.save(hollow() | counted, tmp_path / "counted.pth")
    network = load_inception(str(tmp_path / "counted.pth"), "cpu").network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to download, with a torch hub folder of one's own."""
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / "pt_inception.pth"
    torch.save(hollow(), file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(inception, "URL", file.as_uri())
    monkeypatch.setattr(inception, "HASH_PREFIX", hashlib.sha256(file.read_bytes()).hexdigest()[:8])
    return file


def test_inception_is_downloaded_once(published: Path, tmp_path: Path) -> None:
    first = load_extractor("inception")
    kept = tmp_path / "torch" / "hub" / "checkpoints" / "pt_inception.pth"
    assert kept.read_bytes() == published.read_bytes()
    published.unlink()
    assert load_extractor("inception").identity == first.identity

    kept.write_bytes(b"cut off")
    with pytest.raises(DiptychError, match=r"pt_inception\.pth: is damaged .*delete it"):
        load_extractor("inception")


def test_another_file_at_the_address_is_not_kept(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "HASH_PREFIX", "0badbad0")
    with pytest.raises(DiptychError, match=r"cannot be downloaded .*invalid hash"):
        load_extractor("inception")
    assert not list((tmp_path / "torch" / "hub" / "checkpoints").iterdir())


@pytest.mark.usefixtures("published")
def test_without_a_network_one_line_says_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/pt_inception.pth")
    with pytest.raises(DiptychError) as told:
        load_extractor("inception")
    message = str(told.value)
    assert "\n" not in message
    assert "http://127.0.0.1:9/pt_inception.pth" in message
    assert "give its path" in message
    assert "--extractor descriptor" in message


def broken(change: Callable[[State], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        state = hollow()
        change(state)
        torch.save(state, path)

    return write


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (broken(lambda s: s.pop("Mixed_6b.branch7x7_2.bn.bias")), r"lacks 'Mixed_6b\.branch7x7_2\.bn\.bias'"),
        (broken(lambda s: s.update({"fc.weight": torch.zeros(1000, 2048)})), r"'fc\.weight' is 1000x2048.* 1008x2048"),
        (broken(lambda s: s.update({"AuxLogits.fc.bias": torch.zeros(1)})), r"holds 'AuxLogits\.fc\.bias'"),
        (broken(lambda s: s.update({"epoch": 7})), "'epoch' is no tensor"),
        (lambda path: torch.save(torch.nn.Linear(1, 1), path), "holds more than weights"),
        (lambda path: torch.save([1], path), "holds a list"),
        (lambda path: path.write_bytes(b"no weights"), "is no .pth file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: None, "cannot be read"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_other_files_are_refused_in_one_line(
    write: Callable[[Path], None], told: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"odd{suffix}"
    write(path)
    with pytest.raises(DiptychError, match=told) as found:
        load_extractor(str(path))
    assert str(found.value).startswith(str(path))
    assert "pt_inception-2015-12-05-6726825d.pth" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(DiptychError, match=r"odd\.safetensors: damaged"):
        load_inception(str(tmp_path / "odd.safetensors"), "cpu")


def test_a_cut_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    memory = io.BytesIO()
    torch.save(hollow(), memory)
    whole = memory.getvalue()
    for share in (0.0, 0.1, 0.5, 0.99):
        (tmp_path / "cut.pth").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DiptychError, match=r"cut\.pth: damaged"):
            load_inception(str(tmp_path / "cut.pth"), "cpu")
