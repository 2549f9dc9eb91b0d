"""Weights that other projects trained, read into the networks here: the same numbers under other names.

Generators of pytorch-CycleGAN-and-pix2pix (`*_net_G*.pth`). Its `--netG resnet_6blocks` and `resnet_9blocks` are one
sequence `model.N`, with n residual blocks:

- `model.1`, `.4`, `.7`: convolutions; `model.2`, `.5`, `.8`: norms
- `model.10.conv_block` to `model.(9+n).conv_block`: `.1` convolution, `.2` norm, `.5` convolution, `.6` norm, where
  dropout moves the last two to `.6` and `.7`
- `model.(10+n)`, `.(13+n)`: transposed convolutions; `.(11+n)`, `.(14+n)`: norms; `.(17+n)`: the last convolution

Its `unet_128` (depth 7) and `unet_256` (depth 8) nest one level in the next: level 0 is `model.model`, level 1
`model.model.1.model`, and each further one `.3.model` of the one above:

- level 0: `.0` convolution, `.3` transposed convolution
- levels between: `.1` convolution, `.2` norm, `.5` transposed convolution, `.6` norm
- innermost level: `.1` convolution, `.3` transposed convolution, `.4` norm

Convolutions have a bias where the norm is instance norm, the last one always. Batch norm has `weight`, `bias`,
`running_mean`, `running_var` and, since PyTorch 0.4.1, `num_batches_tracked`. Instance norm has nothing; the statistics
that PyTorch before 0.4 saved for it are not used and are dropped. A `module.` before every name, of DataParallel, is
taken off.

That code's LeakyReLU works in place, so its skip connections carry activated values: the decoder's ReLU makes the same
of these as of the plain ones here. Dropout of a U-Net leaves no trace in the file. It is taken to be as it is there by
default, on with batch norm (pix2pix) and off with instance norm (CycleGAN); the weights are the same either way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.errors import DiptychError, first_line
from diptych.networks import FCN8s, make_generator
from diptych.weights import read_weights, shape

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
WANTED = "give a *_net_G*.pth of pytorch-CycleGAN-and-pix2pix"
WANTED_VGG16 = "give weights of VGG-16 as torchvision or timm saves them"
VGG16_CLASSIFIER = {"fc6": ("classifier.0", "pre_logits.fc1"), "fc7": ("classifier.3", "pre_logits.fc2")}
"""Layer of FCN8s -> its name in torchvision's and in timm's VGG-16."""


def read_generator(path: Path) -> tuple[dict[str, Any], nn.Module]:
    """The generator in a `.pth` of pytorch-CycleGAN-and-pix2pix: its architecture, as for `make_generator`, and itself.

    Raises `DiptychError` naming the first key that is missing, has another shape, or belongs to no such generator.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in read_weights(path).items()}
    architecture = _recognised(state, path)
    generator = _without_weights(architecture)
    if architecture["norm"] == "instance":
        for name in _without_weights({**architecture, "norm": "batch"}).state_dict():
            if name.endswith(STATISTICS):
                state.pop(_public_name(name, architecture), None)

    weights = {}
    for name, mine in generator.state_dict().items():
        public = _public_name(name, architecture)
        if name.endswith("num_batches_tracked"):
            state.setdefault(public, torch.zeros((), dtype=torch.int64))
        if public not in state:
            raise DiptychError(f"{path}: lacks {public!r}, which {describe(architecture)} has; {WANTED}")
        weights[name] = state.pop(public)
        if weights[name].shape != mine.shape:
            raise DiptychError(
                f"{path}: {public!r} is {shape(weights[name])}, where {describe(architecture)} has {shape(mine)}; "
                f"{WANTED}"
            )
        if not weights[name].isfinite().all():
            raise DiptychError(f"{path}: {public!r} holds NaN or infinity; give a checkpoint from before that")
    if state:
        raise DiptychError(f"{path}: holds {next(iter(state))!r}, which {describe(architecture)} has not; {WANTED}")
    generator.to_empty(device="cpu").load_state_dict(weights)
    return architecture, generator


def describe(architecture: Mapping[str, Any]) -> str:
    """A generator that `read_generator` found, in words."""
    kind = architecture["generator"]
    size = f"{architecture['blocks']} blocks" if kind == "resnet" else f"depth {architecture['depth']}"
    dropout = "" if architecture["dropout"] else "no "
    ends = architecture["in_channels"], architecture["out_channels"]
    images = "for RGB" if ends == (3, 3) else f"from {ends[0]} to {ends[1]} channels"
    return f"a {kind} {images} ({size}, ngf {architecture['ngf']}, {architecture['norm']} norm, {dropout}dropout)"


def load_vgg16(network: FCN8s, where: str) -> None:
    """Copy ImageNet weights of VGG-16 into the features, fc6 and fc7 of `network`; its other layers stay as they are.

    `where` is a .pth, .pt or .safetensors file, or a hub name such as "timm/vgg16.tv_in1k". Raises `DiptychError` where
    the weights cannot be fetched, or do not fit: then nothing is copied.
    """
    state = read_weights(Path(where) if Path(where).is_file() else _fetched(where))
    weights = {}
    for name, mine in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer in VGG16_CLASSIFIER:
            names = [f"{public}.{kind}" for public in VGG16_CLASSIFIER[layer]]
        elif name.startswith("features."):
            names = [name]
        else:
            continue
        found = [public for public in names if public in state]
        if not found:
            raise DiptychError(f"{where}: lacks {' or '.join(map(repr, names))}; {WANTED_VGG16}")
        tensor = state[found[0]]
        # torchvision flattens its (512, 7, 7) features, so that each row of its weights is a kernel laid out flat.
        if tensor.shape not in (mine.shape, (len(mine), mine[0].numel())):
            raise DiptychError(
                f"{where}: {found[0]!r} is {shape(tensor)}, where this network has {shape(mine)} (VGG-16's own "
                f"with --ngf 64); {WANTED_VGG16}"
            )
        weights[name] = tensor.reshape(mine.shape)
    network.load_state_dict(weights, strict=False)


def _recognised(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The architecture that the names, and the first and last convolution, speak of."""
    blocks = {name.split(".")[1] for name in state if name.startswith("model.") and ".conv_block." in name}
    first = "model.1.weight" if blocks else "model.model.0.weight"
    if first not in state or state[first].ndim != 4 or 0 in state[first].shape:
        if "model.0.weight" in state or "net.0.weight" in state:
            raise DiptychError(f"{path}: holds a discriminator (*_net_D*.pth), which translates nothing; {WANTED}")
        but = f"which is {shape(state[first])}" if first in state else f"but {next(iter(state), 'nothing')!r}"
        raise DiptychError(f"{path}: holds no generator known here: no convolution {first!r}, {but}; {WANTED}")
    last, axis = (f"model.{17 + len(blocks)}.weight", 0) if blocks else ("model.model.3.weight", 1)
    ends = state[last].shape[axis] if last in state and state[last].ndim == 4 else 0
    common = {"in_channels": state[first].shape[1], "out_channels": ends or 3, "ngf": len(state[first])}
    if blocks:
        size = {"generator": "resnet", "blocks": len(blocks)}
        batch_norm = "model.2.weight" in state
        dropout = "model.10.conv_block.5.weight" not in state
    else:
        depth = 2
        while f"{_unet_level(depth)}1.weight" in state:
            depth += 1
        size = {"generator": "unet", "depth": depth}
        batch_norm = dropout = f"{_unet_level(depth - 1)}4.weight" in state
    return {**size, **common, "norm": "batch" if batch_norm else "instance", "dropout": dropout}


def _public_name(name: str, architecture: Mapping[str, Any]) -> str:
    """What the public code calls the parameter or buffer `name` of our generator."""
    if architecture["generator"] == "resnet":
        return name.replace("layers.", "model.").replace(".branch.", ".conv_block.")
    half, row, layer, kind = name.split(".")
    innermost = architecture["depth"] - 1
    if half == "encoder":
        return f"{_unet_level(int(row))}{layer}.{kind}"
    level = innermost - int(row)
    before = 2 if level in (0, innermost) else 4  # layers of the encoder and the next level, which stand first
    return f"{_unet_level(level)}{before + int(layer)}.{kind}"


def _unet_level(level: int) -> str:
    return "model.model." + "1.model." * (level > 0) + "3.model." * (level - 1)


def _without_weights(architecture: Mapping[str, Any]) -> nn.Module:
    """The generator with shapes only."""
    with torch.device("meta"):
        return make_generator(architecture)


def _fetched(name: str) -> Path:
    if Path(name).suffix in (".pth", ".pt", ".safetensors") or Path(name).exists():
        raise DiptychError(f"{name}: no such file of weights; give a .pth or .safetensors file, or a hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        # Unlike a download of the one file, this asks the hub once: without a network it fails at once.
        return Path(snapshot_download(name, allow_patterns=["model.safetensors"])) / "model.safetensors"
    except (OSError, HFValidationError, HTTPError) as problem:
        raise DiptychError(
            f"{name}: no such file, and its weights cannot be fetched from the hub ({first_line(problem)}); "
            "give a .pth or .safetensors file of VGG-16's weights"
        ) from None
