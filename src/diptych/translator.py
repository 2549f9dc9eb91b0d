"""A trained thing: generators and what one must know to use them. A folder on disk, a function on images in memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.errors import DiptychError
from diptych.files import write_json
from diptych.images import Classes, ClassMap, Floats, class_map_of, open_image, pixels_of, to_float, to_pixels
from diptych.networks import make_generator

At = Literal["training", "native"]
SMALLEST_INPUT = 8  # pixels a side, below which reflection padding has nothing to reflect


@dataclass(frozen=True, eq=False)
class TranslatorSpec:
    """What the weights alone do not tell."""

    architectures: Mapping[str, Mapping[str, Any]]  # direction -> {"generator": kind, **keywords}
    size: tuple[int, int]  # (width, height) it was trained at
    direction: str  # the way taken unless another is asked for
    classes: Mapping[str, Classes | None]  # domain -> its classes, if it is a class map
    train_mode: bool  # keep dropout and batch statistics alive, as pix2pix does


class Translator:
    """Translates images with one or two generators.

    >>> translator = Translator.from_pretrained("runs/x")
    >>> translator("photo.jpg").save("out.png")
    """

    def __init__(self, generators: Mapping[str, nn.Module], spec: TranslatorSpec) -> None:
        self.generators = generators
        self.spec = spec

    @classmethod
    def from_pretrained(cls, folder: str | Path, checkpoint: str = "best", device: str = "cpu") -> "Translator":
        """Load a run (its `"best"` or `"last"` checkpoint) or a folder that `save_pretrained` wrote.

        Raises `DiptychError` where there is none, or where weights and description do not match.
        """
        folder = checkpoint_folder(Path(folder), checkpoint)
        try:
            record = json.loads((folder / "translator.json").read_text())
            generators, architectures = {}, {}
            for direction in record["directions"]:
                architectures[direction] = json.loads((folder / direction / "config.json").read_text())
                generator = make_generator(architectures[direction])
                generator.load_state_dict(load_file(folder / direction / "model.safetensors"))
                generators[direction] = generator.to(device)
            spec = TranslatorSpec(
                architectures=architectures,
                size=(int(record["size"][0]), int(record["size"][1])),
                direction=record["direction"],
                classes={domain: _classes_from_record(record["classes"][domain]) for domain in ("a", "b")},
                train_mode=bool(record["train_mode"]),
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as problem:
            why = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise DiptychError(f"{folder}: holds no translator that can be loaded ({why})") from None
        return cls(generators, spec)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write translator.json and, for each direction, config.json and model.safetensors."""
        folder = Path(folder)
        for direction, generator in self.generators.items():
            (folder / direction).mkdir(parents=True, exist_ok=True)
            write_json(folder / direction / "config.json", dict(self.spec.architectures[direction]))
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
            save_file(weights, folder / direction / "model.safetensors")
        record = {
            "format": 1,
            "directions": list(self.generators),
            "direction": self.spec.direction,
            "size": list(self.spec.size),
            "classes": {domain: _classes_to_record(classes) for domain, classes in self.spec.classes.items()},
            "train_mode": self.spec.train_mode,
        }
        write_json(folder / "translator.json", record)

    def __call__(
        self,
        image: str | Path | Image.Image | NDArray[np.uint8],
        direction: str | None = None,
        *,
        at: At = "training",
        raw: bool = False,
    ) -> Image.Image:
        """Translate one image, a file, a PIL image or uint8 pixels `(H, W, 3)`; the answer has its size.

        `direction` is "a_to_b" or "b_to_a" (default: the run's own).

        Where the target is a class map the answer is a palette image of class ids, each pixel the class of the nearest
        colour (of the largest logit), unless `raw` asks for the colours as generated (as expected). `at="native"` shows
        the network the image at its own size instead of the training size.
        """
        direction = self.checked_direction(direction)
        if at not in ("training", "native"):
            raise DiptychError(f"at={at!r}: the size at which the network sees an image is 'training' or 'native'")
        if isinstance(image, (str, Path)):
            opened = open_image(Path(image))
        else:
            opened = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        output = self.output(opened, direction, at=at)
        classes = self.target_classes(direction)
        if classes is None or raw:
            return Image.fromarray(to_pixels(self.colours(output, direction)))
        return classes.to_image(self.class_map(output, direction))

    def output(
        self, image: Image.Image, direction: str, *, at: At = "training", size: tuple[int, int] | None = None
    ) -> Floats:
        """The generator's output for `image`, float32, resized bilinearly to `size`; shrinking is antialiased.

        Colours `(3, H, W)` in [-1, 1] or, of a generator that ends in class logits, `(K, H, W)`: `colours` and
        `class_map` read either. `size` = (width, height) is the image's own unless given.
        """
        width, height = size or image.size
        seen = self.spec.size if at == "training" else image.size
        classes = self.spec.classes[direction[0]]
        if classes is not None:
            pixels = classes.paint(class_map_of(image, classes, "the image to translate", seen))
        else:
            pixels = pixels_of(image, seen)
        generator = self.generators[direction]
        multiple = int(generator.size_multiple)  # type: ignore[arg-type]
        below, right = (_padding(length, multiple) for length in (seen[1], seen[0]))
        pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect")
        with torch.inference_mode():
            out = self.run(torch.from_numpy(to_float(pixels))[None], direction)  # (1, C, H, W)
            out = out[:, :, : seen[1], : seen[0]]
            answer: Floats = resized(out, (width, height))[0].float().cpu().numpy()
        return answer

    def colours(self, output: Floats, direction: str) -> Floats:
        """`output` as colours in [-1, 1], float32 `(3, H, W)`; of class logits the colour to be expected."""
        if not self._ends_in_logits(direction):
            return output
        classes = self.spec.classes[direction[-1]]
        assert classes is not None
        shares = np.exp(output - output.max(0))  # (K, H, W)
        shares /= shares.sum(0)
        palette = to_float(classes.colours[classes.kept][None])[:, 0]  # (3, K)
        return np.asarray(np.einsum("ck,khw->chw", palette, shares), np.float32)

    def class_map(self, output: Floats, direction: str) -> ClassMap:
        """`output` as rows of the target's classes, uint8 `(H, W)`: the largest logit, else the nearest colour."""
        classes = self.spec.classes[direction[-1]]
        assert classes is not None
        if self._ends_in_logits(direction):
            return np.asarray(classes.kept[output.argmax(0)], np.uint8)
        return classes.nearest(output)

    def _ends_in_logits(self, direction: str) -> bool:
        return self.spec.architectures[direction].get("head") == "logits"

    def run(self, images: Tensor, direction: str) -> Tensor:
        """`(B, C, H, W)` in [-1, 1] through a generator, on its device; dropout, where alive, always draws the same."""
        generator = self.generators[direction]
        device = next(generator.parameters()).device
        was_training = generator.training
        statistics = [(buffer, buffer.clone()) for buffer in generator.buffers()]
        accelerator = device.type if device.type != "cpu" else "cuda"
        forked = [] if device.type == "cpu" else [device.index or 0]
        generator.train(self.spec.train_mode)
        try:
            with torch.random.fork_rng(forked, device_type=accelerator):
                torch.manual_seed(0)
                out: Tensor = generator(images.to(device))
            return out
        finally:
            generator.train(was_training)
            for buffer, before in statistics:  # batch statistics of what is translated are no part of the training
                buffer.copy_(before)

    def target_classes(self, direction: str) -> Classes | None:
        """The classes of the domain that `direction` leads to, if it is a class map."""
        return self.spec.classes[direction[-1]]

    def checked_direction(self, direction: str | None) -> str:
        """The way to take: `direction`, or the run's own for None; raises `DiptychError` for one it has not learned."""
        direction = direction or self.spec.direction
        if direction not in ("a_to_b", "b_to_a"):
            raise DiptychError(f"a direction is a_to_b or b_to_a, not {direction!r}")
        if direction not in self.generators:
            raise DiptychError(
                f"this run has learned {' and '.join(self.generators)} only, not {direction}; "
                f"give a run that was trained with --direction {direction}"
            )
        return direction


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """`(B, C, H, W)` continuous images at `size` = (width, height), bilinearly; shrinking is antialiased."""
    width, height = size
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)


def checkpoint_folder(folder: Path, checkpoint: str) -> Path:
    """The folder of a run's `"best"` or `"last"` checkpoint, or `folder` itself if it is a saved translator."""
    if checkpoint not in ("best", "last"):
        raise DiptychError(f"there is no checkpoint {checkpoint!r}; ask for 'best' or 'last'")
    if (folder / "translator.json").is_file():
        return folder
    if not folder.is_dir():
        raise DiptychError(f"{folder}: no such folder; give the folder of a run")
    try:
        record = json.loads((folder / "checkpoints.json").read_text())
        return folder / "checkpoints" / str(record[checkpoint]["name"])
    except FileNotFoundError:
        raise DiptychError(f"{folder}: holds no checkpoint; give the folder of a run that has saved one") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DiptychError(f"{folder / 'checkpoints.json'}: damaged; it names no {checkpoint} checkpoint") from None


def _padding(length: int, multiple: int) -> int:
    return max(-(-length // multiple) * multiple, SMALLEST_INPUT) - length


def _classes_to_record(classes: Classes | None) -> dict[str, Any] | None:
    if classes is None:
        return None
    return {
        "ids": list(classes.ids),
        "names": list(classes.names),
        "colours": classes.colours.tolist(),
        "void": classes.void,
    }


def _classes_from_record(record: dict[str, Any] | None) -> Classes | None:
    if record is None:
        return None
    colours = np.array(record["colours"], np.uint8)
    return Classes(tuple(record["ids"]), tuple(record["names"]), colours, record["void"])
