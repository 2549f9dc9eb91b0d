"""In windows a generator gives what it gives at once; the window's own arithmetic by hand."""

import errno
import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diptych.errors import DiptychError
from diptych.images import Classes, PixelFormat
from diptych.networks import make_generator
from diptych.networks.dropout import PlacedDropout, dropped
from diptych.tiling import Needs, needs, run_in_windows
from diptych.tiling.layers import LAYERS, mirrored
from diptych.tiling.maps import Moments, Work, moments_of
from diptych.tiling.memory import free_memory
from diptych.tiling.scratch import ScratchFile
from diptych.translator import Tiles, Translator, TranslatorSpec


def at_once(generator: nn.Module, image: Tensor) -> Tensor:
    """`(1, C, H, W)` through the generator as ever, its buffers as before."""
    before = {name: buffer.clone() for name, buffer in generator.named_buffers()}
    with torch.inference_mode(), PlacedDropout():
        out: Tensor = generator(image)
    for name, buffer in generator.named_buffers():
        buffer.copy_(before[name])
    return out


def in_windows(generator: nn.Module, image: Tensor, tile: int, folder: Path, **more: Any) -> Tensor:
    """The same, put together from what is written; a pixel nobody writes stays NaN, one written twice is an error."""
    parts: list[Tensor] = []

    def read(rows: range, columns: range) -> Tensor:
        return image[:, :, rows.start : rows.stop, columns.start : columns.stop].clone()

    def write(rows: range, columns: range, window: Tensor) -> None:
        if not parts:
            parts.append(torch.full((1, window.shape[1], *(more.get("size") or image.shape[2:])), torch.nan))
        place = parts[0][:, :, rows.start : rows.stop, columns.start : columns.stop]
        assert place.isnan().all()
        place.copy_(window)

    _, *shape = image.shape
    run_in_windows(generator, (shape[0], shape[1], shape[2]), read, write, tile=tile, scratch=folder, **more)
    return parts[0]


def random_weights(generator: nn.Module, scale: float = 0.2) -> nn.Module:
    """Weights so large that every layer matters, and running statistics that are not those at the start."""
    for parameter in generator.parameters():
        parameter.data.normal_(0, scale)
    for name, buffer in generator.named_buffers():
        if "running" in name:
            buffer.data.uniform_(0.5, 1.5)
    return generator


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "resnet, instance": {"generator": "resnet", "blocks": 2},
    "resnet, batch": {"generator": "resnet", "blocks": 1, "norm": "batch"},
    "resnet, dropout": {"generator": "resnet", "blocks": 2, "dropout": True},
    "unet, batch": {"generator": "unet", "depth": 4},
    "unet, instance": {"generator": "unet", "depth": 3, "norm": "instance"},
    "unet, dropout": {"generator": "unet", "depth": 6, "ngf": 2},
    "unet without skips": {"generator": "unet", "depth": 3, "skips": False, "leak": 0.0},
    "fcn8s": {"generator": "fcn8s", "ngf": 2, "out_channels": 5},
    "logits": {"generator": "resnet", "blocks": 1, "out_channels": 7, "head": "logits"},
    "five channels": {"generator": "unet", "depth": 2, "in_channels": 5, "out_channels": 2},
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=4, deadline=None)
@given(
    tall=st.integers(1, 2), wide=st.integers(1, 3), tile=st.sampled_from([9, 16, 33, 70, 400]), seed=st.integers(0, 99)
)
def test_windows_give_what_the_whole_gives(
    name: str, training: bool, tall: int, wide: int, tile: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.manual_seed(seed)
    architecture = {"ngf": 3, "in_channels": 3, "out_channels": 3, **ARCHITECTURES[name]}
    generator = random_weights(make_generator(architecture)).train(training)
    multiple = int(generator.size_multiple)  # type: ignore[arg-type]
    step = multiple * -(-24 // multiple)
    image = torch.rand(1, architecture["in_channels"], tall * step + multiple, wide * step + multiple) * 2 - 1
    whole = at_once(generator, image)
    out = in_windows(generator, image, tile, tmp_path_factory.getbasetemp())
    assert out.shape == whole.shape
    assert (out - whole).abs().max() <= 1e-4 * max(1, float(whole.abs().max()))
    assert whole.std() > 1e-3


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    more=st.integers(0, 2),
    size=st.tuples(st.integers(5, 20), st.integers(5, 20)),
    tile=st.integers(2, 12),
)
def test_convolutions_of_any_shape(
    kernel: int,
    stride: int,
    padding: int,
    more: int,
    size: tuple[int, int],
    tile: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    padding = min(padding, kernel - 1)
    more = min(more, stride - 1, padding)
    layers: list[nn.Module] = [nn.Conv2d(2, 3, kernel, stride=stride, padding=padding)]
    layers.append(nn.ConvTranspose2d(3, 2, max(kernel, stride), stride=stride, padding=padding, output_padding=more))
    generator = nn.Sequential(*layers)
    image = torch.randn(1, 2, *size)
    with torch.inference_mode():
        whole = generator(image)
    if min(whole.shape[2:]) < 1:
        return
    out = in_windows(generator, image, tile, tmp_path_factory.getbasetemp(), size=tuple(whole.shape[2:]))
    assert torch.allclose(out, whole, atol=1e-5)


def test_the_border_is_mirrored() -> None:
    """0 1 2 3 goes on as ... 2 1 | 0 1 2 3 | 2 1 0 1 ..., of a single pixel there is only itself."""
    assert mirrored(range(-2, 8), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert mirrored(range(-3, 3), 1).tolist() == [0] * 6
    assert mirrored(range(-2, 4), 2).tolist() == [0, 1, 0, 1, 0, 1]
    column = np.arange(7)
    assert np.array_equal(column[mirrored(range(-6, 13), 7)], np.pad(column, 6, mode="reflect"))


class Normalised(nn.Module):
    """Nothing but a normalisation."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out


@pytest.mark.parametrize("tile", [3, 4, 100])
def test_statistics_are_those_of_the_whole_image(tile: int, tmp_path: Path) -> None:
    """A ramp 0 .. 11 from left to right: mean 5.5, variance (12^2 - 1) / 12, whatever the window."""
    ramp = torch.arange(12.0).expand(1, 1, 8, 12)
    expected = (ramp - 5.5) / (143 / 12 + 1e-5) ** 0.5
    out = in_windows(Normalised(nn.InstanceNorm2d(1)), ramp, tile, tmp_path)
    assert torch.allclose(out, expected, atol=1e-6)
    norm = nn.BatchNorm2d(1)
    norm.weight.data.fill_(3)
    norm.bias.data.fill_(-1)
    out = in_windows(Normalised(norm), ramp, tile, tmp_path)
    assert torch.allclose(out, 3 * expected - 1, atol=1e-5)


def test_moments_add_up_even_far_from_zero() -> None:
    """Three times 1000000 and three times 1000002: variance 1, of which E[x^2] - E[x]^2 has nothing left in float32."""
    low, high = torch.full((1, 1, 3, 1), 1e6), torch.full((1, 1, 1, 3), 1e6 + 2)
    both = moments_of(low) + moments_of(high)
    assert (both.count, float(both.mean), float(both.variance)) == (6, 1_000_001, 1)
    whole = Moments(1, torch.zeros(1).double(), torch.zeros(1).double()) + Moments(
        3, torch.full((1,), 4.0).double(), torch.full((1,), 6.0).double()
    )
    assert (whole.count, float(whole.mean), float(whole.scatter)) == (4, 3, 6 + 16 * 3 / 4)


def test_dropout_depends_on_the_place_only() -> None:
    x = torch.ones(1, 64, 40, 50)
    whole = dropped(x, 0.5, 3)
    assert set(whole.unique().tolist()) == {0, 2}
    assert torch.equal(dropped(x[:, :, 7:19, 11:40], 0.5, 3, 7, 11), whole[:, :, 7:19, 11:40])
    kept = (whole > 0).double()[0]  # (C, H, W)
    chance = 0.5 / kept.numel() ** 0.5  # one standard deviation of the share
    assert abs(kept.mean() - 0.5) < 4 * chance
    assert (kept.mean((1, 2)) - 0.5).abs().max() < 5 * 0.5 / 2000**0.5
    for neighbour in (kept.roll(1, 0), kept.roll(1, 1), kept.roll(1, 2), (dropped(x, 0.5, 4) > 0).double()[0]):
        assert abs((kept == neighbour).double().mean() - 0.5) < 4 * chance
    assert abs((dropped(x, 0.2, 0) > 0).double().mean() - 0.8) < 4 * chance
    assert float(dropped(x, 0.2, 0).max()) == pytest.approx(1.25)


def test_placed_dropout_leaves_the_random_numbers_alone() -> None:
    layer, x = nn.Dropout(0.5), torch.ones(1, 4, 5, 6)
    state = torch.get_rng_state()
    with PlacedDropout():
        first, second = layer(x), layer(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, dropped(x, 0.5, 0))
    assert torch.equal(second, dropped(x, 0.5, 1))
    with PlacedDropout():
        assert torch.equal(layer.eval()(x), x)


def test_scratch_and_memory_are_told_by_hand() -> None:
    """A resnet of ngf 1 at 8x12: of 96 pixels each quarter holds 2 channels and each 16th 4. Most is kept while a block
    ends: what went in, its last map and their sum, or the first and last; or while the first upsampling is written."""
    generator = make_generator({"generator": "resnet", "ngf": 1, "blocks": 1, "in_channels": 3, "out_channels": 3})
    quarter, sixteenth = 2 * 96 // 4, 4 * 96 // 16
    assert needs(generator, 3, 8, 12).scratch == 4 * max(3 * sixteenth, quarter + sixteenth)
    assert needs(generator, 3, 80, 120).scratch == 100 * needs(generator, 3, 8, 12).scratch
    wide = make_generator({"generator": "resnet", "ngf": 32, "blocks": 1})
    two_maps_and_the_image = 4 * 400 * 400 * (2 * 32 + 3)  # before and after a normalisation
    assert needs(wide, 3, 400, 400).memory == pytest.approx(2 * two_maps_and_the_image, rel=0.05)


def test_scratch_files_have_no_name_and_go_when_done(tmp_path: Path) -> None:
    """While it works there are as many bytes as were told, in files without a name; afterwards, or stopped, none."""
    generator = make_generator({"generator": "unet", "ngf": 2, "depth": 3}).eval()
    told, most = needs(generator, 3, 32, 48).scratch, 0

    def held() -> int:
        files = [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
        return sum(file.stat().st_size for file in files if str(tmp_path) in str(file.readlink()))

    def watch(share: float) -> None:
        nonlocal most
        assert 0 < share <= 1.0001
        assert not list(tmp_path.iterdir())
        most = max(most, held())
        if stop is not None and share > stop:
            raise KeyboardInterrupt

    stop: float | None = None
    in_windows(generator, torch.zeros(1, 3, 32, 48), 9, tmp_path, progress=watch)
    assert most == told
    stop = 0.5
    with pytest.raises(KeyboardInterrupt):
        in_windows(generator, torch.zeros(1, 3, 32, 48), 9, tmp_path, progress=watch)
    gc.collect()
    assert held() == 0


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("diptych.tiling.scratch.ScratchFile.write", full)
    generator = make_generator({"generator": "resnet", "ngf": 2, "blocks": 1})
    with pytest.raises(DiptychError, match=r"scratch files of 0\.0 GB cannot be kept there \(No space left") as caught:
        in_windows(generator, torch.zeros(1, 3, 16, 16), 8, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_scratch_file_cut_short_is_an_error(tmp_path: Path) -> None:
    file = ScratchFile(tmp_path, (2, 3, 4))
    file.write(range(2), range(4), torch.ones(1, 2, 2, 4))
    assert torch.equal(file.read(range(2), range(1, 4)), torch.ones(1, 2, 2, 3))
    with pytest.raises(OSError, match="too early"):
        file.read(range(3), range(4))


def test_pools_see_nothing_beyond_the_border(tmp_path: Path) -> None:
    """Of values below 0, a padded 0 would be the largest."""
    generator = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(3, stride=2, padding=1))
    image = torch.rand(1, 1, 8, 12)
    with torch.no_grad():
        generator[0].weight.fill_(1)  # type: ignore[union-attr, operator]
        generator[0].bias.fill_(-5)  # type: ignore[union-attr, operator]
        whole = generator(image)
    assert torch.allclose(in_windows(generator, image, 4, tmp_path, size=(4, 6)), whole, atol=1e-6)


def test_what_cannot_be_cut_says_so(tmp_path: Path) -> None:
    for layer, word in (
        (nn.AdaptiveAvgPool2d(1), "adaptive_avg_pool2d"),
        (nn.ReplicationPad2d(1), "replicate"),
        (nn.Upsample(scale_factor=2), "nearest"),
    ):
        generator = nn.Sequential(nn.Conv2d(3, 3, 1), layer)
        with pytest.raises(DiptychError, match=f"cannot be run in tiles, as it .*{word}"):
            needs(generator, 3, 16, 16)


def test_windows_hold_as_many_numbers_at_every_level() -> None:
    """Tile 64: at half the resolution and twice the channels 45 a side, at a quarter 32."""
    work = Work(LAYERS, (256, 512), 64, torch.device("cpu"), Path(), 1.0)

    class Map:
        cost = 0.0

        def __init__(self, height: int, width: int) -> None:
            self.height, self.width = height, width

    sizes = [next(work.windows(Map(256 // step, 512 // step))) for step in (1, 2, 4)]  # type: ignore[arg-type]
    assert [(len(rows), len(columns)) for rows, columns in sizes] == [(64, 64), (45, 45), (32, 32)]
    rows, columns = zip(*work.windows(Map(100, 130)), strict=True)  # type: ignore[arg-type]
    assert sum(len(r) * len(c) for r, c in zip(rows, columns, strict=True)) == 100 * 130


def test_a_window_reads_no_more_than_its_kernel_reaches(tmp_path: Path) -> None:
    """The image is read in windows of the tile and a few pixels around, never whole."""
    generator = make_generator({"generator": "resnet", "ngf": 2, "blocks": 1})
    widest = 0

    def read(rows: range, columns: range) -> Tensor:
        nonlocal widest
        widest = max(widest, len(rows), len(columns))
        return torch.zeros(1, 3, len(rows), len(columns))

    run_in_windows(generator, (3, 256, 256), read, lambda *_: None, tile=32, scratch=tmp_path)
    # The first stride: a window of 32 / sqrt(2) = 23 answers sees 2 * 23 + 1, and the 7x7 before it 6 more.
    assert widest == 2 * 23 + 1 + 6


# --- through the translator ---

CLASSES = Classes((3, 7, 200), ("red", "blue", "void"), np.array([[255, 0, 0], [0, 0, 255], [0, 0, 0]], np.uint8), 2)
GREY16 = PixelFormat(1, 16)


def translator(architecture: dict[str, Any], **more: Any) -> Translator:
    torch.manual_seed(3)
    full = {"in_channels": 3, "out_channels": 3, "ngf": 3, **architecture}
    spec = TranslatorSpec(
        **{
            "architectures": {"a_to_b": full},
            "size": (32, 24),
            "direction": "a_to_b",
            "classes": {"a": None, "b": None},
            "train_mode": False,
            **more,
        }
    )
    return Translator({"a_to_b": random_weights(make_generator(full), 0.3)}, spec)


def noise(width: int, height: int, channels: int = 3, bits: int = 8) -> np.ndarray[Any, Any]:
    kind = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(0).integers(0, 2**bits, (height, width, channels), kind)


@pytest.mark.parametrize("size", [(70, 51), (33, 100), (5, 90), (64, 48)])
@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_translations_in_tiles_are_those_at_once(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    """At odd sizes, too; a rounding may fall the other way, which is one step of 255."""
    numbers = {"blocks": 2} if kind == "resnet" else {"depth": 6}
    subject = translator({"generator": kind, **numbers}, train_mode=kind == "unet")
    generator = subject.generators["a_to_b"]
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    whole = subject.pixels(noise(*size), at="native").astype(int)
    tiled = subject.pixels(noise(*size), at="native", tiles=Tiles(33, tmp_path))
    assert tiled.dtype == np.uint8
    assert np.abs(tiled - whole).max() <= 1
    assert (tiled != whole).mean() < 0.01
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_deep_and_grey_images_in_tiles(tmp_path: Path) -> None:
    subject = translator(
        {"generator": "resnet", "blocks": 1, "in_channels": 5, "out_channels": 1},
        forms={"a": PixelFormat(5, 8), "b": GREY16},
    )
    image = noise(50, 41, 5)
    whole = subject.pixels(image, at="native").astype(int)
    tiled = subject.pixels(image, at="native", tiles=Tiles(32, tmp_path))
    assert (tiled.dtype, tiled.shape) == (np.uint16, (41, 50, 1))
    assert np.abs(tiled - whole).max() <= 6  # of 65535: 1e-4


@pytest.mark.parametrize("head", ["tanh", "logits"])
def test_class_maps_in_tiles(head: str, tmp_path: Path) -> None:
    """Both ends are class maps; few pixels are so undecided that a rounding moves them."""
    subject = translator(
        {"generator": "resnet", "blocks": 1, "head": head, "out_channels": 3 if head == "tanh" else 2},
        classes={"a": CLASSES, "b": CLASSES},
    )
    ids = np.array([3, 7, 200], np.uint8)[np.random.default_rng(0).integers(0, 3, (45, 62, 1))]
    whole, tiled = (subject(ids, at="native", tiles=tiles) for tiles in (None, Tiles(32, tmp_path)))
    assert (tiled.mode, tiled.size, tiled.getpalette()) == (whole.mode, whole.size, whole.getpalette())
    assert (np.asarray(tiled) != np.asarray(whole)).mean() < 0.002
    assert len(np.unique(np.asarray(whole))) == 2
    raw, raw_tiled = (subject(ids, at="native", raw=True, tiles=tiles) for tiles in (None, Tiles(32, tmp_path)))
    assert np.abs(np.asarray(raw, int) - np.asarray(raw_tiled)).max() <= 1


def test_tiles_are_for_native_only(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match="say at='native'"):
        translator({"generator": "resnet", "blocks": 1}).pixels(noise(40, 40), tiles=Tiles(32, tmp_path))


def border_gradient(image: np.ndarray[Any, Any], tile: int) -> float:
    """Mean absolute gradient across the borders of tiles, over that elsewhere; `(H, W, C)`."""
    values = image.astype(float)
    across, down = np.abs(np.diff(values, axis=1)).mean((0, 2)), np.abs(np.diff(values, axis=0)).mean((1, 2))
    borders = [line[tile - 1 :: tile] for line in (across, down)]
    others = [np.delete(line, np.arange(tile - 1, len(line), tile)) for line in (across, down)]
    return float(np.concatenate(borders).mean() / np.concatenate(others).mean())


def test_no_seams(tmp_path: Path) -> None:
    """Sky over ground, so that every tile's own statistics are wrong: tiles by themselves show, windows do not."""
    rows, columns = np.mgrid[0:192, 0:256]
    smooth = np.stack([255 * rows / 191, 127 + 100 * np.sin(columns / 40), 255 * columns / 255], 2).astype(np.uint8)
    subject = translator({"generator": "resnet", "blocks": 2})
    for parameter in subject.generators["a_to_b"].parameters():
        if parameter.dim() == 4:  # every kernel a blur, so that what is smooth stays smooth
            parameter.data.copy_(parameter.data.mean((2, 3), keepdim=True).expand_as(parameter))
        else:
            parameter.data.zero_()
    whole = subject.pixels(smooth, at="native")
    tiled = subject.pixels(smooth, at="native", tiles=Tiles(64, tmp_path))
    alone = np.empty_like(whole)
    for top in range(0, 192, 64):
        for left in range(0, 256, 64):
            place = slice(top, top + 64), slice(left, left + 64)
            alone[place] = subject.pixels(smooth[place], at="native")
    seam = border_gradient(tiled, 64) / border_gradient(whole, 64)
    assert abs(seam - 1) < 0.001
    assert border_gradient(alone, 64) / border_gradient(whole, 64) > 1.2
    error = np.mean((tiled.astype(float) - whole) ** 2)
    assert error == 0 or 10 * np.log10(255**2 / error) > 60
    assert 10 * np.log10(255**2 / np.mean((alone.astype(float) - whole) ** 2)) < 30


def test_free_memory_is_the_smaller_of_machine_and_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    meminfo.write_text("MemTotal:       9000 kB\nMemFree:         10 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr("diptych.tiling.memory.MEMINFO", meminfo)
    monkeypatch.setattr("diptych.tiling.memory.CGROUP", group)
    cpu = torch.device("cpu")
    assert free_memory(cpu) == 5000 * 1024
    group.mkdir()
    (group / "memory.current").write_text("1000000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(cpu) == 5000 * 1024
    (group / "memory.max").write_text("3000000\n")
    assert free_memory(cpu) == 2_000_000
    (group / "memory.stat").write_text("anon 5\ninactive_file 600000\nactive_file 7\n")  # may be forgotten
    assert free_memory(cpu) == 2_600_000
    (group / "memory.max").unlink()
    assert free_memory(cpu) == 5000 * 1024
    (group / "memory").mkdir()  # version 1
    (group / "memory" / "memory.limit_in_bytes").write_text("4000000\n")
    (group / "memory" / "memory.usage_in_bytes").write_text("3000000\n")
    (group / "memory" / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 700000\n")
    assert free_memory(cpu) == 1_700_000


def test_needs_of_a_translation_are_those_of_the_padded_image(tmp_path: Path) -> None:
    subject = translator({"generator": "unet", "depth": 4})
    generator = subject.generators["a_to_b"]
    assert subject.needs((33, 20), "a_to_b") == needs(generator, 3, 32, 48)
    assert isinstance(subject.needs((33, 20), "a_to_b"), Needs)
