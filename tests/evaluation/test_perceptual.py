"""The perceptual distance against a network that can be worked by hand, and on real architectures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from diptych.errors import DiptychError
from diptych.evaluation.perceptual import perceptual_distances
from diptych.features.backbone import Backbone, load_backbone


class TwoLayers:
    """Hidden states: the pixels themselves `(B, 3, H, W)`, and one token of the first two channels' means."""

    device = "cpu"

    def __call__(self, pixels: torch.Tensor, output_hidden_states: bool) -> Any:
        assert output_hidden_states
        return SimpleNamespace(hidden_states=(pixels, pixels[:, :2].mean((2, 3))[:, None]))


def as_it_is(images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
    stored = np.stack([np.asarray(image) for image in images])
    return {"pixel_values": torch.from_numpy(stored / 255).permute(0, 3, 1, 2).float()}


BY_HAND = Backbone("by hand", TwoLayers(), as_it_is, pooled=False)


def save(folder: Path, name: str, pixels: list[list[tuple[int, int, int]]]) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(folder / name)
    return folder / name


def test_distances_by_hand(tmp_path: Path) -> None:
    red, green, dark = (255, 0, 0), (0, 255, 0), (51, 0, 0)
    real = [save(tmp_path / "real", f"{i}.png", [[red, red]]) for i in range(3)]
    generated = [
        save(tmp_path / "generated", "0.png", [[red, green]]),
        save(tmp_path / "generated", "1.png", [[dark, dark]]),
        save(tmp_path / "generated", "2.png", [[green, green]]),
    ]
    # Unit vectors at right angles are a squared distance of 2 apart; how bright a colour is does not count.
    # First image: 0 and 2 over two positions; the token (1/2, 1/2) against (1, 0) gives 2 - 2 cos 45 degrees.
    expected = [(1 + 2 - 2**0.5) / 2, 0, 2]
    assert perceptual_distances(BY_HAND, generated, real) == pytest.approx(expected, abs=1e-6)


def test_many_images_keep_their_order_and_tell_how_far_they_are(tmp_path: Path) -> None:
    shades = [(255, 15 * i, 0) for i in range(17)]  # more than two batches
    real = [save(tmp_path / "real", f"{i}.png", [[(255, 0, 0)]]) for i in range(17)]
    generated = [save(tmp_path / "generated", f"{i}.png", [[shade]]) for i, shade in enumerate(shades)]
    told: list[tuple[int, int]] = []
    found = perceptual_distances(BY_HAND, generated, real, lambda *progress: told.append(progress))
    assert found == pytest.approx([2 - 2 * 255 / np.hypot(255, 15 * i) for i in range(17)], abs=1e-5)
    assert told == [(8, 17), (16, 17), (17, 17)]


def resnet(folder: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)


@pytest.mark.parametrize("make", [resnet, dinov2])
def test_backbones_of_either_kind(make: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make(tmp_path / "weights")
    backbone = load_backbone(str(tmp_path / "weights"), "cpu")
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    files = []
    for name, noise in (("real", 0), ("near", 8), ("far", 80)):
        pixels = (real + noise * rng.normal(0, 1, real.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        files.append(tmp_path / f"{name}.png")
    same, near, far = perceptual_distances(backbone, files, [files[0]] * 3)
    assert same == 0
    assert 0 < near < far <= 4
    # Symmetric, as a distance must be.
    assert perceptual_distances(backbone, files[:1], files[2:]) == pytest.approx([far], rel=1e-4)


def test_a_backbone_without_hidden_states_is_named(tmp_path: Path) -> None:
    class Opaque:
        device = "cpu"

        def __call__(self, pixels: torch.Tensor, output_hidden_states: bool) -> Any:
            return SimpleNamespace(last_hidden_state=pixels)

    file = save(tmp_path / "real", "0.png", [[(1, 2, 3)]])
    with pytest.raises(DiptychError, match="Opaque does not show its hidden states; give --perceptual another"):
        perceptual_distances(Backbone("", Opaque(), as_it_is, pooled=False), [file], [file])
