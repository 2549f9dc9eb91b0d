"""Features of a pretrained vision backbone from transformers: the paper's ResNet-50, or any other.

The features are the backbone's own pooled output (ResNet: the 2048 numbers before the classifier; DINOv2: its class
token), or the mean over all positions of its last hidden state where it has none.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.errors import DiptychError, some
from diptych.images import read_pixels

HUB_NAMES = {"resnet50": "microsoft/resnet-50"}
FILES = ("*.json", "*.safetensors")  # of a hub repository: its configurations and weights, no second format


@dataclass(frozen=True)
class Backbone:
    """A frozen network with its image processor; `identity` changes with its weights and configuration."""

    identity: str
    network: Any  # a transformers PreTrainedModel in evaluation mode
    processor: Any  # its image processor
    pooled: bool  # the network's own pooled output is trained

    def describe_files(self, files: Sequence[Path]) -> NDArray[np.float32]:
        """Image files -> their features, float32 `(N, D)`. Raises `UnreadableImageError` naming the file."""
        images = [Image.fromarray(read_pixels(file)) for file in files]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]  # (N, 3, H, W)
        with torch.no_grad():
            output = self.network(pixels.to(self.network.device))
        if self.pooled and getattr(output, "pooler_output", None) is not None:
            features = output.pooler_output.flatten(1)  # (N, D) or (N, D, 1, 1)
        else:
            hidden = output.last_hidden_state  # (N, T, D) or (N, D, H, W)
            features = hidden.mean(1) if hidden.ndim == 3 else hidden.mean((2, 3))
        result: NDArray[np.float32] = features.float().cpu().numpy()
        return result


def perceptual_features(name: str, device: str, size: tuple[int, int]) -> Callable[[Tensor], list[Tensor]]:
    """A function of images `(B, 3, H, W)` in [-1, 1]: the hidden states of backbone `name`, one for each stage.

    The images are normalised as the backbone was trained, not resized. Its weights are frozen; gradients reach the
    images. Raises `DiptychError` as `load_backbone` does, and where it cannot take images of `size` = (width, height).
    """
    backbone = load_backbone(name, device)
    network = backbone.network.requires_grad_(False)
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (backbone.processor.image_mean, backbone.processor.image_std)
    )

    def features(images: Tensor) -> list[Tensor]:
        output = network((images.to(mean.dtype) / 2 + 0.5 - mean) / std, output_hidden_states=True)
        return [state.float() for state in output.hidden_states]

    width, height = size
    try:
        features(torch.zeros(1, 3, height, width, device=device))
    except (ValueError, RuntimeError) as problem:
        raise DiptychError(
            f"--perceptual {name}: cannot take images of {width}x{height} ({_first_line(problem)}); "
            "give another backbone, such as resnet50, or the --size it was trained at"
        ) from None
    return features


def load_backbone(name: str, device: str) -> Backbone:
    """The backbone "resnet50", of a local folder, or of a hub name, on `device`.

    Raises `DiptychError` where the weights cannot be fetched, do not fit, or belong to something else.
    """
    try:
        return _load(_folder(name), name, device)
    except ImportError as problem:
        why = problem.__cause__ or problem
        raise DiptychError(
            f"transformers cannot be imported ({_first_line(why)}); where a torchvision is installed that does not fit "
            f"torch, uninstall it (diptych does not need it)"
        ) from None


def _folder(name: str) -> Path:
    if name not in HUB_NAMES and Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        # Unlike transformers' own loading, this asks the hub once: without a network it fails at once, not in minutes.
        return Path(snapshot_download(HUB_NAMES.get(name, name), allow_patterns=list(FILES)))
    except (OSError, HFValidationError, HTTPError) as problem:
        raise DiptychError(
            f"{name}: no such folder, and its weights cannot be fetched from the hub ({_first_line(problem)}); "
            "give a local folder that holds them"
        ) from None


def _load(folder: Path, name: str, device: str) -> Backbone:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what is missing is told below, in one line
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **local)  # type: ignore[no-untyped-call]
        network, report = AutoModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **local
        )
    except (OSError, ValueError, SafetensorError, StrictDataclassError) as problem:
        raise DiptychError(
            f"{name}: cannot be loaded as a vision backbone ({_first_line(problem)}); give a folder with config.json, "
            "preprocessor_config.json and model.safetensors"
        ) from None
    # transformers would fill these with random numbers. Classifiers often come without the pooler that AutoModel adds.
    missing = set(report["missing_keys"])
    untrained = {key for key in missing if not key.startswith("pooler.")} | {
        key for key, *_ in report["mismatched_keys"]
    }
    if untrained:
        raise DiptychError(
            f"{name}: its weights do not fit its config.json ({some(sorted(untrained))}); give the two that belong "
            "together"
        )
    if network.main_input_name != "pixel_values":
        raise DiptychError(
            f"{name}: a {type(network).__name__} is no backbone for images alone; give a vision backbone such as "
            "resnet50 or facebook/dinov2-base"
        )
    return Backbone(_identity(folder), network.eval().to(device), processor, pooled=not missing)


def _identity(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin"):
            with file.open("rb") as opened:
                digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return f"backbone-1 {digest.hexdigest()}"


def _first_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
