"""Features of a pretrained vision backbone from transformers: the paper's ResNet-50, or any other.

The features are the backbone's own pooled output (ResNet: the 2048 numbers before the classifier; DINOv2: its class
token), or the mean over all positions of its last hidden state where it has none.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.errors import DiptychError, first_line, some
from diptych.images import read_view
from diptych.reading import leads_out, open_file, read_text
from diptych.weights import HARMLESS, UNREADABLE

HUB_NAMES = {"resnet50": "microsoft/resnet-50"}
UNFIT = (*UNREADABLE, ArithmeticError, MemoryError)
"""What transformers raises for a network or a processor of nonsense."""
FILES = ("*.json", "*.safetensors")  # of a hub repository: its configurations and weights, no second format


@dataclass(frozen=True)
class Backbone:
    """A frozen network with its image processor; `identity` changes with its weights and configuration."""

    identity: str
    network: Any  # a transformers PreTrainedModel in evaluation mode
    processor: Any  # its image processor
    pooled: bool  # the network's own pooled output is trained
    name: str = ""  # as the person calls it

    def read(self, files: Sequence[Path]) -> Tensor:
        """Image files -> what the network sees, float32 `(N, 3, H, W)`.

        Raises `DiptychError` where the processor is of nonsense, `UnreadableImageError` naming a file.
        """
        images = [Image.fromarray(read_view(file)) for file in files]
        with self._explained(f"the {len(images)} images from {files[0]} on"):
            pixels: Tensor = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels

    def output_for(self, pixels: Tensor, **options: bool) -> Any:
        """What the network answers to what `read` gave. Raises `DiptychError` where it is of nonsense."""
        with self._explained(f"images of the shape {tuple(pixels.shape[1:])}"), torch.no_grad():
            return self.network(pixels.to(self.network.device), **options)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except UNFIT as problem:
            raise DiptychError(
                f"the backbone {self.name} cannot take {what} ({first_line(problem)}); give another, or mend its "
                "preprocessor_config.json"
            ) from None

    def describe(self, pixels: Tensor) -> NDArray[np.float32]:
        """What `read` gave -> features, float32 `(N, D)`. Raises as `output_for` does."""
        output = self.output_for(pixels)
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

    def features(images: Tensor) -> list[Tensor]:
        output = network((images.to(mean.dtype) / 2 + 0.5 - mean) / std, output_hidden_states=True)
        return [state.float() for state in output.hidden_states]

    width, height = size
    try:
        mean, std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (backbone.processor.image_mean, backbone.processor.image_std)
        )
        features(torch.zeros(1, 3, height, width, device=device))
    except UNFIT as problem:
        raise DiptychError(
            f"--perceptual {name}: cannot take images of {width}x{height} ({first_line(problem)}); "
            "give another backbone, such as resnet50, or the --size it was trained at"
        ) from None
    return features


def load_backbone(name: str, device: str) -> Backbone:
    """The backbone "resnet50", of a local folder, or of a hub name, on `device`.

    Raises `DiptychError` where the weights cannot be fetched, do not fit, or belong to something else.
    """
    # Classifiers often come without the pooler that AutoModel adds.
    loaded = load_pretrained(name, device, "AutoModel", "vision backbone", may_lack="pooler.")
    network = loaded.network
    if network.main_input_name != "pixel_values":
        raise DiptychError(
            f"{name}: a {type(network).__name__} is no backbone for images alone; give a vision backbone such as "
            "resnet50 or facebook/dinov2-base"
        )
    return Backbone(f"backbone-1 {loaded.digest}", network, loaded.processor, not loaded.missing, name)


@dataclass(frozen=True)
class Pretrained:
    """What a folder in the format of transformers holds."""

    digest: str  # SHA-256 of its weights and configuration
    network: Any  # a transformers PreTrainedModel in evaluation mode
    processor: Any  # its image processor
    missing: frozenset[str]  # weights that the network has and the folder does not


def load_pretrained(name: str, device: str, auto: str, what: str, may_lack: str | None = None) -> Pretrained:
    """The network that transformers' class `auto` makes of a local folder or hub name, with its image processor.

    `what` calls it in messages. Raises `DiptychError` where the weights cannot be fetched, do not fit, or leave a part
    untrained whose name does not begin with `may_lack`.
    """
    try:
        return _load(_folder(name), name, device, auto, what, may_lack)
    except ImportError as problem:
        why = problem.__cause__ or problem
        raise DiptychError(
            f"transformers cannot be imported ({first_line(why)}); where a torchvision is installed that does not fit "
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
            f"{name}: no such folder, and its weights cannot be fetched from the hub ({first_line(problem)}); "
            "give a local folder that holds them"
        ) from None


def _load(folder: Path, name: str, device: str, auto: str, what: str, may_lack: str | None) -> Pretrained:
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers.utils import logging

    damaged = (*UNFIT, SafetensorError, StrictDataclassError)

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what is missing is told below, in one line
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        _check_files(folder)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **local)  # type: ignore[no-untyped-call]
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        _check_numbers(folder, getattr(transformers, auto), config)
        network, report = getattr(transformers, auto).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # a pytorch_model.bin is a pickle
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **local,
        )
    except damaged as problem:
        raise DiptychError(
            f"{name}: cannot be loaded as a {what} ({first_line(problem)}); give a folder with config.json, "
            "preprocessor_config.json and model.safetensors"
        ) from None
    # transformers would fill these with random numbers.
    missing = frozenset(report["missing_keys"])
    allowed = {key for key in missing if may_lack is not None and key.startswith(may_lack)}
    untrained = (missing - allowed) | {key for key, *_ in report["mismatched_keys"]}
    if untrained:
        raise DiptychError(
            f"{name}: its weights do not fit its config.json ({some(sorted(untrained))}); give the two that belong "
            "together"
        )
    files = [file for file in sorted(folder.iterdir()) if file.suffix in (".json", ".safetensors")]
    return Pretrained(files_digest(files), network.eval().to(device), processor, missing)


def _check_files(folder: Path) -> None:
    """Raises `ValueError` for a named pipe among the files, which transformers would wait for, and where an index,
    or the configuration, names anything but safetensors files beside it: transformers would read a pickle there."""
    odd = [path.name for path in folder.iterdir() if path.exists() and not (path.is_file() or path.is_dir())]
    if odd:
        raise ValueError(f"{odd[0]} is no file")
    index = folder / "model.safetensors.index.json"
    named = set(json.loads(read_text(index))["weight_map"].values()) if index.exists() else set()
    named |= {json.loads(read_text(folder / "config.json")).get("transformers_weights") or "model.safetensors"}
    for name in named:
        if PurePath(name).suffix != ".safetensors" or leads_out(name):
            raise ValueError(f"{name!r} is named for the weights, but is no .safetensors file of the folder")


def _check_numbers(folder: Path, auto: Any, config: Any) -> None:
    """Raises `ValueError` where `config` describes far more numbers than the folder's weights hold: memory would be
    taken for all of them before a shape is compared."""
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in auto.from_config(config).parameters())
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if numbers > held and 4 * numbers > HARMLESS:
        raise ValueError(f"config.json describes {numbers:,} weights, in {held:,} bytes of model.safetensors")


def files_digest(files: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of `files`, hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with open_file(file) as opened:
            digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
