import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from diptych.errors import DiptychError
from diptych.features import extract
from diptych.features.backbone import Backbone, load_backbone, perceptual_features


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier, saved the way microsoft/resnet-50 is."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier without the pooler that AutoModel gives it."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """19 pictures, more than a batch, of the size that the processors ask for: only normalisation is left."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    files = [folder / f"{index}.png" for index in range(19)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(file)
    return files


def network_input(files: list[Path]) -> torch.Tensor:
    stored = np.stack([np.asarray(Image.open(file)) for file in files])  # (N, 32, 32, 3)
    return torch.from_numpy(stored / 127.5 - 1).permute(0, 3, 1, 2).float()  # both processors: mean and spread 0.5


def close(features: NDArray[np.float32], expected: torch.Tensor) -> None:
    np.testing.assert_allclose(features, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_resnet_gives_its_pooled_features(resnet: Path, pictures: list[Path], tmp_path: Path) -> None:
    features = extract(str(resnet), pictures, cache=tmp_path)
    assert features.shape == (19, 12)
    assert features.dtype == np.float32
    network = transformers.ResNetForImageClassification.from_pretrained(resnet).eval().resnet
    maps = network.encoder(network.embedder(network_input(pictures))).last_hidden_state  # (19, 12, h, w)
    close(features, maps.mean((2, 3)))


def test_dinov2_gives_its_class_token(pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "dino"
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    network = transformers.Dinov2Model.from_pretrained(folder).eval()
    tokens = network.layernorm(network.encoder(network.embeddings(network_input(pictures))).last_hidden_state)
    close(extract(str(folder), pictures, cache=tmp_path / "c"), tokens[:, 0])


def test_without_a_trained_pooler_it_is_the_mean_over_tokens(vit: Path, pictures: list[Path], tmp_path: Path) -> None:
    network = transformers.ViTForImageClassification.from_pretrained(vit).eval().vit
    close(extract(str(vit), pictures, cache=tmp_path), network(network_input(pictures)).last_hidden_state.mean(1))


def _described(backbone: Backbone, files: list[Path]) -> NDArray[np.float32]:
    return backbone.describe(backbone.read(files))


def test_images_are_read_upright_and_in_full_depth(resnet: Path, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    grey = np.round(ramp / 257).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "plain.png")
    turned = Image.fromarray(np.rot90(grey)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left of what is meant
    turned.save(tmp_path / "turned.png", exif=exif)
    files = [tmp_path / name for name in ("plain.png", "deep.png", "turned.png")]
    plain, deep, upright = _described(load_backbone(str(resnet), "cpu"), files)
    np.testing.assert_allclose(deep, plain, atol=1e-6)
    np.testing.assert_allclose(upright, plain, atol=1e-6)


def test_identity_is_that_of_weights_and_configuration(resnet: Path, tmp_path: Path) -> None:
    before = load_backbone(str(resnet), "cpu").identity
    copy = shutil.copytree(resnet, tmp_path / "copy")
    (copy / "README.md").write_text("of no account")
    assert load_backbone(str(copy), "cpu").identity == before
    settings = copy / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("0.5", "0.4"))
    assert load_backbone(str(copy), "cpu").identity != before


def rename_first_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[-1]
    tensors["unheard.of"] = tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class Harmful:
    """Whoever unpickles it runs its code."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise AssertionError('unpickled')",)


def pickled(folder: Path, weights: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def index_of_a_pickle(folder: Path) -> None:
    names = list(load_file(folder / "model.safetensors"))
    pickled(folder, {"weight": Harmful()})
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def named_pickle(folder: Path) -> None:
    pickled(folder, {"weight": Harmful()})
    change(folder / "config.json", transformers_weights="pytorch_model.bin")


def piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


DAMAGES = {
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 300),
    "other weights": rename_first_weights,
    "other widths": lambda folder: replace(folder / "config.json", "12", "16"),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "broken configuration": lambda folder: (folder / "config.json").write_text("{"),
    "unknown kind": lambda folder: (folder / "config.json").write_text('{"model_type": "zork"}'),
    "nonsense widths": lambda folder: replace(folder / "config.json", "12", '"wide"'),
    "no processor": lambda folder: (folder / "preprocessor_config.json").unlink(),
    "nested too deeply": lambda folder: (folder / "config.json").write_text("[" * 100_000),
    "unknown activation": lambda folder: replace(folder / "config.json", '"relu"', '"zork"'),
    "negative widths": lambda folder: replace(folder / "config.json", "12", "-12"),
    "no widths": lambda folder: change(folder / "config.json", hidden_sizes=None),
    "more weights than any memory holds": lambda folder: change(folder / "config.json", hidden_sizes=[10**6, 10**6]),
    "more weights than there are": lambda folder: change(folder / "config.json", hidden_sizes=[8000, 8000]),
    "a pickle": lambda folder: pickled(folder, {"weight": Harmful()}),
    "weights in a pickle": lambda folder: pickled(folder, load_file(folder / "model.safetensors")),
    "a pickle in an index": index_of_a_pickle,
    "a pickle in the configuration": named_pickle,
    "a named pipe": lambda folder: piped(folder / "model.safetensors"),
    "nothing at all": lambda folder: [file.unlink() for file in folder.iterdir()],
}


def replace(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_does_not_hold_a_backbone_is_told_in_one_line(damage: str, resnet: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(resnet, tmp_path / "damaged")
    DAMAGES[damage](folder)
    with pytest.raises(DiptychError, match=r"damaged: (cannot be loaded|its weights do not fit)") as told:
        extract(str(folder), [tmp_path / "never opened.png"])
    assert "--features descriptor" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "values", [{"size": {"shortest_edge": -5}}, {"image_mean": ["x"]}, {"size": {"height": 10**9, "width": 10**9}}]
)
def test_a_processor_that_asks_for_nonsense_is_told_in_one_line(
    values: dict[str, Any], vit: Path, pictures: list[Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(vit, tmp_path / "odd")
    change(folder / "preprocessor_config.json", **values)
    with pytest.raises(DiptychError, match=r"odd cannot take the \d+ images from .*preprocessor_config.json$") as told:
        extract(str(folder), pictures)
    assert "\n" not in str(told.value)


def test_a_processor_without_numbers_is_no_measure(resnet: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(resnet, tmp_path / "odd")
    change(folder / "preprocessor_config.json", image_mean=["x"])
    with pytest.raises(DiptychError, match=r"--perceptual .*odd: cannot take images of 32x24"):
        perceptual_features(str(folder), "cpu", (32, 24))


def test_a_network_for_text_and_images_is_refused(vit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    text = {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "max_position_embeddings": 4}
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.CLIPConfig(
        text_config=text | small, vision_config={"image_size": 32, "patch_size": 16} | small
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    shutil.copy(vit / "preprocessor_config.json", folder)
    with pytest.raises(DiptychError, match="CLIPModel is no backbone for images alone"):
        load_backbone(str(folder), "cpu")


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, which has no weights in its hub cache and may not ask for any."""
    source = str(Path(__file__).parents[2] / "src")
    path = os.pathsep.join([environment.pop("PYTHONPATH", ""), source]).strip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_weights_that_cannot_be_fetched(tmp_path: Path) -> None:
    code = (
        "import time\nfrom diptych.errors import DiptychError\nfrom diptych.features.backbone import load_backbone\n"
        "for name in ('resnet50', 'microsoft/resnet-50', '/no/such/folder'):\n"
        "    started = time.monotonic()\n"
        "    try: load_backbone(name, 'cpu')\n"
        "    except DiptychError as told: print(time.monotonic() - started, told, sep='|')\n"
    )
    lines = run_python(code, HF_HUB_CACHE=str(tmp_path), HF_HOME=str(tmp_path)).splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("resnet50", "microsoft/resnet-50", "/no/such/folder"), strict=True):
        seconds, told = line.split("|")
        assert float(seconds) < 30
        assert told.startswith(f"{name}: no such folder, and its weights cannot be fetched from the hub")
        assert "give a local folder that holds them" in told


def test_weights_from_the_hub_cache(resnet: Path, pictures: list[Path], tmp_path: Path) -> None:
    cached = tmp_path / "models--microsoft--resnet-50"
    shutil.copytree(resnet, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    code = (
        "from pathlib import Path\nfrom diptych.features.backbone import load_backbone\n"
        f"backbone = load_backbone('resnet50', 'cpu')\nprint(backbone.identity)\n"
        f"print(backbone.describe(backbone.read([Path({str(pictures[0])!r})])).shape)"
    )
    printed = run_python(code, HF_HUB_CACHE=str(tmp_path))
    assert printed.splitlines() == [load_backbone(str(resnet), "cpu").identity, "(1, 12)"]


def test_a_broken_torchvision_is_told(resnet: Path, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms is missing")')
    (tmp_path / "torchvision-0.99.0.dist-info").mkdir()
    (tmp_path / "torchvision-0.99.0.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.99.0\n")
    code = (
        "from diptych.errors import DiptychError\nfrom diptych.features.backbone import load_backbone\n"
        f"try: load_backbone({str(resnet)!r}, 'cpu')\nexcept DiptychError as told: print(told)"
    )
    told = run_python(code, PYTHONPATH=str(tmp_path))
    assert "(operator torchvision::nms is missing)" in told
    assert "uninstall it" in told
    assert len(told.splitlines()) == 1


def test_perceptual_features_are_the_hidden_states_of_normalised_images(resnet: Path, tmp_path: Path) -> None:
    mean, spread = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    network = transformers.AutoModel.from_pretrained(resnet).eval()
    network.save_pretrained(tmp_path)
    transformers.ConvNextImageProcessorPil(image_mean=mean, image_std=spread).save_pretrained(tmp_path)
    features = perceptual_features(str(tmp_path), "cpu", (24, 16))
    images = (torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1).requires_grad_()
    found = features(images)
    normalised = ((images + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(spread).view(3, 1, 1)
    wanted = network(normalised, output_hidden_states=True).hidden_states
    assert len(found) == len(wanted) == 3
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    sum(state.sum() for state in found).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_perceptual_backbone_is_frozen(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diptych.features.backbone as module

    backbone = load_backbone(str(resnet), "cpu")
    monkeypatch.setattr(module, "load_backbone", lambda name, device: backbone)
    perceptual_features(str(resnet), "cpu", (32, 32))
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    assert not backbone.network.training


def test_a_backbone_that_cannot_take_the_size_is_refused(vit: Path) -> None:
    perceptual_features(str(vit), "cpu", (32, 32))
    with pytest.raises(DiptychError, match=r"--perceptual .*vit.*: cannot take images of 48x32"):
        perceptual_features(str(vit), "cpu", (48, 32))
