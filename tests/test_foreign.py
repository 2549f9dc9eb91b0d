"""The public code's generators, written down once more in its naming, against what becomes of their files here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import Folders, diptych, draw_scene, said_one_line, tiny, tree
from diptych.errors import DiptychError
from diptych.foreign import load_vgg16, read_generator
from diptych.networks import FCN8s, PatchJudge
from diptych.networks.dropout import PlacedDropout
from diptych.translator import Translator


def norm_of(norm: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


class PublicBlock(nn.Module):
    def __init__(self, width: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm_of(norm, width), nn.ReLU(True)]
        second = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm_of(norm, width)]
        self.conv_block = nn.Sequential(*first, *([nn.Dropout(0.5)] if dropout else []), *second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class PublicResnet(nn.Module):
    """`--netG resnet_{blocks}blocks`."""

    def __init__(self, blocks: int, norm: str, dropout: bool, ngf: int = 4, channels: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        bias = norm == "instance"

        def down(before: int, after: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, 2, 1, bias=bias), norm_of(norm, after), nn.ReLU(True)]

        def up(before: int, after: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(before, after, 3, 2, 1, 1, bias=bias), norm_of(norm, after), nn.ReLU(True)]

        begin = [nn.ReflectionPad2d(3), nn.Conv2d(channels[0], ngf, 7, bias=bias), norm_of(norm, ngf), nn.ReLU(True)]
        middle = [PublicBlock(4 * ngf, norm, dropout) for _ in range(blocks)]
        end = [nn.ReflectionPad2d(3), nn.Conv2d(ngf, channels[1], 7), nn.Tanh()]
        self.model = nn.Sequential(
            *(*begin, *down(ngf, 2 * ngf), *down(2 * ngf, 4 * ngf), *middle),
            *(*up(4 * ngf, 2 * ngf), *up(2 * ngf, ngf), *end),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class PublicLevel(nn.Module):
    """One level of `--netG unet_*` with all below it; its LeakyReLU changes the skip that it concatenates."""

    def __init__(
        self, level: int, depth: int, norm: str, dropout: bool, ngf: int, channels: tuple[int, int] = (3, 3)
    ) -> None:
        super().__init__()
        bias = norm == "instance"
        width = ngf * min(2**level, 8)
        before, above = channels if level == 0 else (ngf * min(2 ** (level - 1), 8),) * 2
        self.outermost = level == 0
        inner = [] if level == depth - 1 else [PublicLevel(level + 1, depth, norm, dropout, ngf)]
        down = nn.Conv2d(before, width, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(2 * width if inner else width, above, 4, 2, 1, bias=bias or self.outermost)
        if self.outermost:
            layers = [down, *inner, nn.ReLU(True), up, nn.Tanh()]
        elif not inner:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm_of(norm, above)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, norm_of(norm, width), *inner]
            layers += [nn.ReLU(True), up, norm_of(norm, above)]
            if dropout and above == width == 8 * ngf:
                layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out if self.outermost else torch.cat([x, out], 1)


class PublicUnet(nn.Module):
    """`--netG unet_128` (depth 7) or `unet_256` (depth 8)."""

    def __init__(self, depth: int, norm: str, dropout: bool, ngf: int = 2, channels: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        self.model = PublicLevel(0, depth, norm, dropout, ngf, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic at random: none keeps a value that a fresh network has as well."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.3)
    return network.eval()


def saved(network: nn.Module | dict[str, Any], path: Path) -> Path:
    torch.save(network.state_dict() if isinstance(network, nn.Module) else network, path)
    return path


def scene(size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(draw_scene(5)[0]).resize((size, size)), np.uint8)


def networks_input(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 `(H, W, 3)` as every network sees it: `(1, 3, H, W)` in [-1, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1))[None]


def in_eight_bits(images: Tensor) -> NDArray[np.uint8]:
    return ((images[0].numpy().transpose(1, 2, 0) + 1) * 127.5).round().astype(np.uint8)


def imported(network: nn.Module, folder: Path, size: int, *words: object) -> Translator:
    file = saved(network, folder / "latest_net_G.pth")
    out = folder / "imported"
    assert diptych("import-weights", "--a-to-b", file, "--out", out, "--size", size, *words) == 0
    return Translator.from_pretrained(out)


GENERATORS: dict[str, tuple[nn.Module, int]] = {
    f"{name} {norm}{' dropout' * dropout}": (PublicResnet(blocks, norm, dropout), 32)
    for name, blocks in (("resnet_6blocks", 6), ("resnet_9blocks", 9))
    for norm in ("instance", "batch")
    for dropout in (False, True)
} | {
    f"{name} {norm}": (PublicUnet(depth, norm, dropout=norm == "batch"), 2**depth)
    for name, depth in (("unet_32", 5), ("unet_128", 7), ("unet_256", 8))
    for norm in ("instance", "batch")
}
"""Name -> network and the size of its images."""


@pytest.mark.parametrize(("network", "size"), GENERATORS.values(), ids=list(GENERATORS))
@pytest.mark.parametrize("train_mode", [False, True], ids=["eval", "train"])
def test_a_generator_gives_the_same_pixels(network: nn.Module, size: int, train_mode: bool, tmp_path: Path) -> None:
    randomised(network)
    translator = imported(network, tmp_path, size, "--translate-in-train-mode", train_mode)
    pixels = scene(size)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with PlacedDropout(), torch.no_grad():  # as a translator does: in training mode both lose the same values
        expected = network.train(train_mode)(networks_input(pixels))
    network.load_state_dict(before)
    assert expected.std() > 0.1
    with torch.no_grad():
        assert torch.equal(translator.run(networks_input(pixels), "a_to_b"), expected)
    np.testing.assert_array_equal(np.asarray(translator(pixels)), in_eight_bits(expected))


def test_both_modes_and_both_kinds_of_norm_can_be_told_apart() -> None:
    """The networks themselves: were these equal, the test above would prove little."""
    image = networks_input(scene(32))
    with torch.no_grad():
        batch = randomised(PublicResnet(6, "batch", dropout=True))
        assert not torch.allclose(batch(image), batch.train()(image), atol=0.01)
        assert not torch.allclose(batch(image), batch(image), atol=0.01)


@pytest.mark.parametrize(
    ("network", "architecture"),
    [
        (
            PublicResnet(2, "batch", True, ngf=5),
            {"generator": "resnet", "blocks": 2, "ngf": 5, "norm": "batch", "dropout": True},
        ),
        (
            PublicResnet(9, "instance", False),
            {"generator": "resnet", "blocks": 9, "ngf": 4, "norm": "instance", "dropout": False},
        ),
        (
            PublicUnet(7, "instance", False, ngf=3),
            {"generator": "unet", "depth": 7, "ngf": 3, "norm": "instance", "dropout": False},
        ),
        (
            PublicUnet(8, "batch", False),  # whether it had dropout cannot be seen: the default there is assumed
            {"generator": "unet", "depth": 8, "ngf": 2, "norm": "batch", "dropout": True},
        ),
    ],
    ids=["resnet", "resnet_9blocks", "unet_128", "unet_256"],
)
def test_the_architecture_is_read_from_names_and_shapes(
    network: nn.Module, architecture: dict[str, Any], tmp_path: Path
) -> None:
    found, generator = read_generator(saved(network, tmp_path / "x.pth"))
    assert found == architecture | {"in_channels": 3, "out_channels": 3}
    ours, theirs = (sum(p.numel() for p in net.parameters()) for net in (generator, network))
    assert ours == theirs
    assert all(parameter.requires_grad for parameter in generator.parameters())


def as_saved_long_ago(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """InstanceNorm with statistics that were never used."""
    for place, width in ((2, 4), (5, 8), (8, 16)):
        state[f"model.{place}.running_mean"] = torch.full((width,), 9.0)
        state[f"model.{place}.running_var"] = torch.full((width,), 9.0)
    state["model.10.conv_block.2.running_mean"] = torch.full((16,), 9.0)
    state["model.10.conv_block.2.num_batches_tracked"] = torch.tensor(3)
    return state


VARIANTS: dict[str, tuple[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    "instance statistics": ("instance", as_saved_long_ago),
    "no batches counted": ("batch", lambda state: {k: v for k, v in state.items() if "num_batches" not in k}),
    "DataParallel": ("batch", lambda state: {f"module.{name}": tensor for name, tensor in state.items()}),
    "another order": ("batch", lambda state: dict(sorted(state.items(), reverse=True))),
    "double precision": (
        "batch",
        lambda state: {name: t.double() if t.is_floating_point() else t for name, t in state.items()},
    ),
}


@pytest.mark.parametrize(("norm", "change"), VARIANTS.values(), ids=list(VARIANTS))
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_older_and_other_files_of_the_same_weights(
    norm: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], zipped: bool, tmp_path: Path
) -> None:
    network = randomised(PublicResnet(2, norm, dropout=False))
    torch.save(change(dict(network.state_dict())), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    generator = read_generator(tmp_path / "x.pth")[1].eval()
    image = networks_input(scene(32))
    with torch.no_grad():
        assert torch.equal(generator(image), network(image))


def test_both_ways_with_a_class_map(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forth, back = (
        randomised(PublicResnet(6, "instance", dropout=False), seed=1),
        randomised(PublicUnet(5, "batch", dropout=True), seed=2),
    )
    out = tmp_path / "maps"
    files = ["--a-to-b", saved(forth, tmp_path / "a.pth"), "--b-to-a", saved(back, tmp_path / "b.pth")]
    call = ["import-weights", *files, "--b-classes", folders.classes, "--size", "64x32", "--out", out]
    assert diptych(*call) == 0
    told = capsys.readouterr()
    assert told.out == f"Written: {out}. Next: diptych translate {out} IMAGES --out DIR\n"
    assert "a_to_b:" in told.err
    assert "6 blocks, ngf 4, instance norm, no dropout" in told.err
    assert "depth 5, ngf 2, batch norm, dropout" in told.err

    record = json.loads((out / "translator.json").read_text())
    assert record["directions"] == ["a_to_b", "b_to_a"]
    assert record["direction"] == "a_to_b"
    assert record["size"] == [64, 32]
    assert record["train_mode"] is True  # one of them has batch norm
    assert record["classes"]["a"] is None
    assert record["classes"]["b"]["names"] == ["sky", "road", "car", "void"]

    assert diptych("translate", out, folders.val_photos, "--out", tmp_path / "labels") == 0
    assert {Image.open(file).mode for file in (tmp_path / "labels").iterdir()} == {"P"}
    assert diptych("translate", out, folders.val_labels, "--direction", "b_to_a", "--out", tmp_path / "photos") == 0
    assert {Image.open(file).mode for file in (tmp_path / "photos").iterdir()} == {"RGB"}
    sides = ["--a", folders.val_photos, "--b", folders.val_labels]
    assert diptych("evaluate", out, *sides, "--out", tmp_path / "scores") == 0
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["n"] == 4


def test_one_way_alone_is_the_way_taken(tmp_path: Path) -> None:
    file = saved(randomised(PublicResnet(6, "instance", dropout=True)), tmp_path / "x.pth")
    (tmp_path / "out").mkdir()  # empty, so nothing is lost
    assert diptych("import-weights", "--b-to-a", file, "--out", tmp_path / "out") == 0
    translator = Translator.from_pretrained(tmp_path / "out")
    assert list(translator.generators) == ["b_to_a"]
    assert translator.spec.direction == "b_to_a"
    assert translator.spec.size == (256, 256)
    assert translator.spec.train_mode is False


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (5, 2)])
@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_other_channels_than_three(kind: str, channels: tuple[int, int], tmp_path: Path) -> None:
    network = randomised(
        PublicResnet(2, "batch", dropout=False, channels=channels)
        if kind == "resnet"
        else PublicUnet(5, "batch", dropout=False, channels=channels)
    )
    translator = imported(network, tmp_path, 32, "--translate-in-train-mode", "False")
    assert [translator.spec.forms[domain].channels for domain in ("a", "b")] == list(channels)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, channels[0])).astype(np.uint8)
    with torch.no_grad():
        assert np.array_equal(translator.pixels(pixels), in_eight_bits(network(networks_input(pixels))))


def test_generators_that_disagree_about_a_domain_are_refused(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forth = saved(PublicResnet(1, "instance", dropout=False, channels=(1, 3)), tmp_path / "a.pth")
    back = saved(PublicResnet(1, "instance", dropout=False, channels=(3, 3)), tmp_path / "b.pth")
    both = ["--a-to-b", forth, "--b-to-a", back]
    assert_refused(both, ("the channels of a, 1 and 3", "one training"), tmp_path, capsys)
    with_classes = ["--a-to-b", forth, "--a-classes", folders.classes]
    assert_refused(with_classes, ("--a-classes: class maps are shown in three channels",), tmp_path, capsys)


def test_a_training_starts_from_imported_weights(folders: Folders, tmp_path: Path) -> None:
    networks = [randomised(PublicResnet(1, "instance", dropout=False), seed) for seed in (1, 2)]
    files = [saved(network, tmp_path / f"{place}.pth") for place, network in enumerate(networks)]
    out, run = tmp_path / "out", tmp_path / "run"
    assert diptych("import-weights", "--a-to-b", files[0], "--b-to-a", files[1], "--out", out) == 0
    sides = ["--a", folders.photos, "--b", folders.labels]
    # A rate so small that the step changes nothing.
    training = [*tiny("cyclegan"), "--steps", 1, "--optim.lr", 1e-30, "--init-from", out, "--out", run]
    assert diptych("train", "cyclegan", *sides, *training) == 0
    trained = Translator.from_pretrained(run, precision="fp32")
    image = networks_input(scene(32))
    with torch.no_grad():
        for direction, network in zip(("a_to_b", "b_to_a"), networks, strict=True):
            assert torch.equal(trained.run(image, direction), network(image))


class CodeInAFile:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


RESNET = "a resnet for RGB (2 blocks, ngf 4, {} norm, no dropout)"
UNET = "a unet for RGB (depth 5, ngf 2, {} norm, {}dropout)"


def resnet_state(norm: str = "instance", **changes: Tensor | None) -> dict[str, Any]:
    state = PublicResnet(2, norm, dropout=False).state_dict() | changes
    return {name: tensor for name, tensor in state.items() if tensor is not None}


def unet_state(norm: str = "batch", **changes: Tensor | None) -> dict[str, Any]:
    state = PublicUnet(5, norm, dropout=False).state_dict() | changes
    return {name: tensor for name, tensor in state.items() if tensor is not None}


ONE = torch.zeros(1)
HEAD = "model.model.0.weight"
NO_NUMBERS = "is sparse, quantised, complex or without its numbers"
BAD_FILES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a whole module": (lambda _: nn.Sequential(nn.Conv2d(3, 3, 1)), ("holds more than weights", "state_dict()")),
    "code": (CodeInAFile, ("holds more than weights", "state_dict()")),
    "a training checkpoint": (
        lambda _: {"epoch": 3, "model": resnet_state()},
        ("'epoch' is no tensor", "state_dict()"),
    ),
    "a list": (lambda _: [ONE], ("holds a list", "state_dict()")),
    "nothing": (lambda _: {}, ("holds no generator", "'nothing'", "*_net_G*.pth")),
    "a judge": (
        lambda _: {
            name.replace("layers.", "model."): tensor for name, tensor in PatchJudge(3, ndf=4).state_dict().items()
        },
        ("holds a discriminator", "*_net_D*.pth", "give a *_net_G*.pth"),
    ),
    "a pixel judge": (lambda _: {"net.0.weight": torch.zeros(4, 3, 1, 1)}, ("holds a discriminator", "*_net_G*.pth")),
    "another network": (lambda _: {"conv1.weight": ONE}, ("holds no generator", "'conv1.weight'", "*_net_G*.pth")),
    "a blind first convolution": (
        lambda _: resnet_state(**{"model.1.weight": ONE}),
        ("no convolution 'model.1.weight'",),
    ),
    "a key too few": (
        lambda _: resnet_state(**{"model.12.weight": None}),
        ("lacks 'model.12.weight'", f"which {RESNET.format('instance')} has", "*_net_G*.pth"),
    ),
    "a key too many": (
        lambda _: resnet_state(**{"model.20.weight": ONE}),
        ("holds 'model.20.weight'", f"which {RESNET.format('instance')} has not", "*_net_G*.pth"),
    ),
    "statistics of no norm": (lambda _: resnet_state(**{"model.1.running_mean": ONE}), ("'model.1.running_mean'",)),
    "a block left out": (
        lambda _: {name: t for name, t in resnet_state().items() if "model.10." not in name},
        ("lacks 'model.10.conv_block",),
    ),
    "no norm at all": (lambda _: resnet_state("batch", **{"model.2.weight": None}), ("lacks 'model.1.bias'",)),
    "instance norm with weights": (
        lambda _: {name: t for name, t in resnet_state("batch").items() if "running" not in name},
        ("lacks 'model.2.running_mean'",),
    ),
    "a unet's key too few": (
        lambda _: unet_state(**{"model.model.1.model.3.model.5.weight": None}),
        ("lacks 'model.model.1.model.3.model.5.weight'", f"which {UNET.format('batch', '')} has"),
    ),
    "a unet's key too many": (
        lambda _: unet_state("instance", **{"model.model.1.model.9.weight": ONE}),
        ("holds 'model.model.1.model.9.weight'", f"which {UNET.format('instance', 'no ')} has not"),
    ),
    "a unet's odd width": (
        lambda _: unet_state(**{"model.model.1.model.1.weight": torch.zeros(5, 2, 4, 4)}),
        ("'model.model.1.model.1.weight' is 5x2x4x4", "has 4x2x4x4"),
    ),
    "complex numbers": (lambda _: unet_state(**{HEAD: torch.zeros(1, dtype=torch.complex64)}), (HEAD, NO_NUMBERS)),
    "no numbers": (lambda _: unet_state(**{HEAD: torch.zeros(4, 3, 4, 4).to_sparse()}), (HEAD, NO_NUMBERS)),
    "NaN": (lambda _: unet_state(**{HEAD: torch.full((2, 3, 4, 4), torch.nan)}), (HEAD, "holds NaN or infinity")),
    "a first convolution of another rank": (
        lambda _: unet_state(**{HEAD: torch.zeros(2, 3)}),
        ("no convolution 'model.model.0.weight', which is 2x3",),
    ),
    "a unet of one level": (
        lambda _: {"model.model.0.weight": torch.zeros(2, 3, 4, 4), "model.model.0.bias": torch.zeros(2)},
        ("lacks 'model.model.1.model.1.weight'",),
    ),
}


@pytest.mark.parametrize(("content", "mentions"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_file_that_is_no_such_generator_is_refused(
    content: Callable[[Path], object], mentions: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.pth"
    torch.save(content(tmp_path / "made by unpickling"), file)
    assert_refused(["--a-to-b", file], (str(file), *mentions), tmp_path, capsys)


BAD_BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "damaged, or no .pth file"),
    "text": (lambda _: b"hello", "damaged, or no .pth file"),
    "a picture": (lambda _: b"\x89PNG\r\n\x1a\n", "is no .pth file"),
    "half": (lambda good: good[: len(good) // 2], "damaged, or no .pth file"),
    "a byte": (lambda good: good[:1], ".pth file"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(("spoil", "mention"), BAD_BYTES.values(), ids=list(BAD_BYTES))
def test_a_damaged_file_is_refused(
    spoil: Callable[[bytes], bytes], mention: str, zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.pth"
    torch.save(resnet_state(), file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(spoil(file.read_bytes()))
    assert_refused(["--b-to-a", file], (str(file), mention), tmp_path, capsys)


BAD_CALLS: dict[str, tuple[Callable[[Path], list[object]], tuple[str, ...]]] = {
    "no generator": (lambda _: [], ("nothing to import", "--a-to-b or --b-to-a")),
    "no such file": (lambda _: ["--a-to-b", "no.pth"], ("no.pth: cannot be read", "give a .pth")),
    "a folder": (lambda here: ["--a-to-b", here], ("cannot be read", "give a .pth")),
    "the second one": (lambda here: ["--a-to-b", here / "x.pth", "--b-to-a", "no.pth"], ("no.pth: cannot be read",)),
    "no such classes": (
        lambda here: ["--a-to-b", here / "x.pth", "--a-classes", "no.csv"],
        ("no.csv: cannot be read", "id,name,red,green,blue"),
    ),
    "no size": (lambda here: ["--a-to-b", here / "x.pth", "--size", "big"], ("'big' is no size", "such as 128x96")),
    "out is full": (lambda here: ["--a-to-b", here / "x.pth", "--out", here], ("is not empty", "choose another --out")),
    "out is a file": (lambda here: ["--a-to-b", here / "x.pth", "--out", here / "x.pth"], ("is a file", "another")),
    "a word too many": (lambda here: ["--a-to-b", here / "x.pth", "--ngf", 4], ("unknown flag --ngf",)),
}


@pytest.mark.parametrize(("words", "mentions"), BAD_CALLS.values(), ids=list(BAD_CALLS))
def test_a_wrong_call_is_refused(
    words: Callable[[Path], list[object]],
    mentions: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved(resnet_state(), tmp_path / "x.pth")
    assert_refused(words(tmp_path), mentions, tmp_path, capsys)


def assert_refused(
    words: list[object], mentions: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(folder)
    out = [] if "--out" in words else ["--out", folder / "out"]
    assert diptych("import-weights", *words, *out) == 2
    line = said_one_line(capsys)
    for mention in mentions:
        assert mention in line
    assert tree(folder) == before


VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def vgg16_state(naming: str) -> dict[str, Tensor]:
    """A VGG-16 of ngf 4 with random weights: its last features are 32 wide, its two hidden layers 256."""
    torch.manual_seed(1)
    state = {}
    width = 3
    for place, after in zip(VGG16_CONVOLUTIONS, (4, 4, 8, 8, 16, 16, 16, *[32] * 6), strict=True):
        state[f"features.{place}.weight"] = torch.randn(after, width, 3, 3)
        state[f"features.{place}.bias"] = torch.randn(after)
        width = after
    first, second = torch.randn(256, 32 * 7 * 7), torch.randn(256, 256)
    biases = torch.randn(2, 256)
    if naming == "torchvision":
        state |= {"classifier.0.weight": first, "classifier.3.weight": second, "classifier.6.weight": torch.randn(9, 2)}
        return state | {"classifier.0.bias": biases[0].clone(), "classifier.3.bias": biases[1].clone()}
    state |= {"pre_logits.fc1.weight": first.view(256, 32, 7, 7), "pre_logits.fc2.weight": second.view(256, 256, 1, 1)}
    state |= {"head.fc.weight": torch.randn(9, 2)}
    return state | {"pre_logits.fc1.bias": biases[0].clone(), "pre_logits.fc2.bias": biases[1].clone()}


def save_vgg16(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("naming", ["torchvision", "timm"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_vgg16_of_either_naming(naming: str, suffix: str, tmp_path: Path) -> None:
    network = FCN8s(ngf=4)
    untouched = {name: tensor.clone() for name, tensor in network.state_dict().items() if "score" in name}
    load_vgg16(network, str(save_vgg16(vgg16_state(naming), tmp_path / f"vgg16{suffix}")))
    state = vgg16_state("torchvision")
    for place in VGG16_CONVOLUTIONS:
        assert torch.equal(network.features[place].weight, state[f"features.{place}.weight"])
        assert torch.equal(network.features[place].bias, state[f"features.{place}.bias"])
    # A classifier of 7x7 features is a convolution of them, seen at its middle.
    features = torch.randn(1, 32, 7, 7)
    with torch.no_grad():
        hidden = nn.functional.linear(features.flatten(1), state["classifier.0.weight"], state["classifier.0.bias"])
        torch.testing.assert_close(network.fc6(features)[:, :, 3, 3], hidden, rtol=1e-4, atol=1e-3)
        logits = nn.functional.linear(hidden, state["classifier.3.weight"], state["classifier.3.bias"])
        torch.testing.assert_close(network.fc7(hidden[:, :, None, None])[:, :, 0, 0], logits, rtol=1e-4, atol=1e-2)
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in untouched.items())


@pytest.mark.parametrize(
    ("change", "mention"),
    [
        ({"features.28.bias": None}, "lacks 'features.28.bias'"),
        ({"classifier.3.weight": None}, "lacks 'classifier.3.weight' or 'pre_logits.fc2.weight'"),
        (
            {"features.0.weight": torch.zeros(8, 3, 3, 3)},
            "'features.0.weight' is 8x3x3x3, where this network has 4x3x3x3",
        ),
        ({"features.5.bias": torch.zeros(9)}, "'features.5.bias' is 9, where this network has 8"),
        ({"classifier.0.weight": torch.zeros(256, 32)}, "'classifier.0.weight' is 256x32, where"),
    ],
)
def test_vgg16_that_does_not_fit_is_refused(change: dict[str, Tensor | None], mention: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in (vgg16_state("torchvision") | change).items() if tensor is not None}
    file = save_vgg16(state, tmp_path / "vgg16.pth")
    network = FCN8s(ngf=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(DiptychError) as told:
        load_vgg16(network, str(file))
    assert str(told.value).startswith(f"{file}: ")
    assert mention in str(told.value)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("name", ["vgg16.safetensors", "vgg16.pth"])
def test_vgg16_damaged(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(DiptychError, match=rf"{name}: damaged"):
        load_vgg16(FCN8s(ngf=4), str(tmp_path / name))


def test_vgg16_from_the_hub(tmp_path: Path) -> None:
    """From its cache alone, asking nobody; what is not there is told in one line."""
    snapshot = tmp_path / "models--timm--vgg16.tv_in1k" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    save_vgg16(vgg16_state("timm"), snapshot / "model.safetensors")
    refs = tmp_path / "models--timm--vgg16.tv_in1k" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    code = (
        "from diptych.errors import DiptychError\nfrom diptych.foreign import load_vgg16\n"
        "from diptych.networks import FCN8s\n"
        "network = FCN8s(ngf=4)\nload_vgg16(network, 'timm/vgg16.tv_in1k')\n"
        "print(network.features[28].bias.sum().item())\n"
        "for name in ('timm/vgg16.other', '/no/such/file.pth'):\n"
        "    try: load_vgg16(network, name)\n"
        "    except DiptychError as told: print(told)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    total, *refusals = done.stdout.splitlines()
    assert float(total) == pytest.approx(vgg16_state("timm")["features.28.bias"].sum().item(), rel=1e-5)
    assert len(refusals) == 2
    assert refusals[0].startswith("timm/vgg16.other: no such file, and its weights cannot be fetched from the hub (")
    assert refusals[1].startswith("/no/such/file.pth: no such file of weights")
    assert all("give a .pth or .safetensors file" in told for told in refusals)
