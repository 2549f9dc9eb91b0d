"""A trained thing: generators and what one must know to use them. A folder on disk, a function on images in memory."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from diptych.bands import Bands
from diptych.errors import DiptychError, NotFiniteError, reason
from diptych.files import write_json, write_tensors
from diptych.fitting import Fit, Fitted, fitted
from diptych.images import (
    RGB,
    Classes,
    ClassMap,
    Floats,
    PixelFormat,
    Pixels,
    class_map_of,
    classes_from_record,
    classes_to_record,
    open_image,
    pixels_of,
    spoken,
    to_float,
    to_image,
    to_pixels,
)
from diptych.networks import checked_architecture, make_generator
from diptych.networks.dropout import PlacedDropout
from diptych.precision import Precision, computing_in, precision_on
from diptych.reading import sha256
from diptych.saved import Checkpoints, SavedTranslator, read_record
from diptych.tiling import Needs, mirrored, needs, run_in_windows
from diptych.weights import check_fit, read_checked, tensors_in

At = Literal["training", "native"]
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of each direction
IN_MEMORY = "the image to translate"
Array = NDArray[np.unsignedinteger[Any]]
SMALLEST_INPUT = 8  # pixels a side, below which reflection padding has nothing to reflect


@dataclass(frozen=True, eq=False)
class TranslatorSpec:
    """What the weights alone do not tell."""

    architectures: Mapping[str, Mapping[str, Any]]  # direction -> {"generator": kind, **keywords}
    size: tuple[int, int]  # (width, height) it was trained at
    direction: str  # the way taken unless another is asked for
    classes: Mapping[str, Classes | None]  # domain -> its classes, if it is a class map
    train_mode: bool  # keep dropout and batch statistics alive, as pix2pix does
    forms: Mapping[str, PixelFormat] = field(default_factory=lambda: {"a": RGB, "b": RGB})  # domain -> channels, bits
    fit: Fit = "stretch"  # how images of another shape become the size
    precision: Precision = "fp32"  # what it was trained in


@dataclass(frozen=True)
class Tiles:
    """How an image too large for memory is translated at its own size: the same to rounding.

    In an image of one colour that is visible: instance normalisation has nothing but rounding to divide by.
    """

    side: int = 512  # of a window, in pixels: memory grows with its square
    scratch: Path = Path(tempfile.gettempdir())  # a folder for what the layers pass on, see `Translator.needs`
    progress: Callable[[float], None] = lambda _: None  # hears the share done, 0 to 1


class Translator:
    """Translates images with one or two generators.

    >>> translator = Translator.from_pretrained("runs/x")
    >>> translator("photo.jpg").save("out.png")
    """

    def __init__(
        self, generators: Mapping[str, nn.Module], spec: TranslatorSpec, precision: Precision | None = None
    ) -> None:
        self.generators = generators
        self.spec = spec
        self.precision = precision or spec.precision  # at the training size

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        checkpoint: str = "best",
        device: str = "cpu",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> "Translator":
        """Load a run (its `"best"` or `"last"` checkpoint) or a folder that `save_pretrained` wrote.

        At the training size it computes in `precision`: "auto" is bf16 for what was trained in it, where the processor
        has it, else fp32. Images seen at their own size are always computed in fp32.

        Raises `DiptychError` where there is none, or where weights and description do not match.
        """
        given, folder = Path(folder), checkpoint_folder(Path(folder), checkpoint)
        try:
            record = read_record(folder / "translator.json", SavedTranslator)
            generators: dict[str, nn.Module] = {}
            architectures: dict[str, dict[str, Any]] = {}
            for direction in record.directions:
                architectures[direction], generator = _read_generator(folder, direction, record)
                generators[direction] = generator.to(device)
            spec = TranslatorSpec(
                architectures=architectures,
                size=record.size,
                direction=record.direction,
                classes={domain: classes_from_record(record.classes[domain]) for domain in ("a", "b")},
                train_mode=record.train_mode,
                forms={domain: PixelFormat(form.channels, form.bits) for domain, form in record.forms.items()},
                fit=record.fit,
                precision=record.precision,
            )
            for direction in record.directions:
                _check_channels(spec, direction)
        except DiptychError as problem:
            if checkpoint_folder(given, checkpoint) != folder:  # a training has cleared it away meanwhile
                return cls.from_pretrained(given, checkpoint, device, precision)
            raise DiptychError(f"{folder}: holds no translator that can be loaded: {problem}") from None
        bits = max(form.bits for form in spec.forms.values())
        wanted = "fp32" if precision == "auto" and spec.precision == "fp32" else precision
        settled = precision_on(torch.device(device), wanted, bits)
        if settled == "bf16":
            for generator in generators.values():
                generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(generators, spec, settled)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write translator.json and, for each direction, config.json and model.safetensors."""
        folder = Path(folder)
        for direction, generator in self.generators.items():
            write_json(folder / direction / CONFIG, dict(self.spec.architectures[direction]))
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
            write_tensors(folder / direction / WEIGHTS, weights)
        files = [f"{direction}/{name}" for direction in self.generators for name in (CONFIG, WEIGHTS)]
        record = {
            "format": 2,
            "directions": list(self.generators),
            "direction": self.spec.direction,
            "size": list(self.spec.size),
            "classes": {domain: classes_to_record(classes) for domain, classes in self.spec.classes.items()},
            "train_mode": self.spec.train_mode,
            "forms": {domain: asdict(form) for domain, form in self.spec.forms.items()},
            "fit": self.spec.fit,
            "precision": self.spec.precision,
            "sha256": {name: sha256(folder / name) for name in files},
        }
        write_json(folder / "translator.json", record)

    def __call__(
        self,
        image: str | Path | Image.Image | Bands | Pixels,
        direction: str | None = None,
        *,
        at: At = "training",
        raw: bool = False,
        tiles: Tiles | None = None,
    ) -> Image.Image:
        """Translate one image, a file, a PIL image or pixels `(H, W, C)` of 8 or 16 bits; the answer has its size.

        `direction` is "a_to_b" or "b_to_a" (default: the run's own).

        Where the target is a class map the answer is a palette image of class ids, each pixel the class of the nearest
        colour (of the largest logit), unless `raw` asks for the colours as generated (as expected). `at="native"` shows
        the network the image at its own size instead of the training size; with `tiles` that takes less memory. Raises
        `DiptychError` where Pillow has no mode for the target, 16-bit colour or more than four bands: `pixels` gives
        any.
        """
        direction = self.checked_direction(direction)
        classes = self.target_classes(direction)
        if classes is None or raw:
            return to_image(self.pixels(image, direction, at=at, tiles=tiles))

        def decode(output: Floats) -> Array:
            return self.class_map(output, direction)

        return classes.to_image(np.asarray(self._translated(image, direction, at, tiles, decode), np.uint8))

    def pixels(
        self,
        image: str | Path | Image.Image | Bands | Pixels,
        direction: str | None = None,
        *,
        at: At = "training",
        tiles: Tiles | None = None,
    ) -> Pixels:
        """Translate one image to an array `(H, W, C)` of its size, in the channels and bits of the target.

        Where the target is a class map these are the colours as generated (as expected), uint8 `(H, W, 3)`.
        """
        way = self.checked_direction(direction)

        def decode(output: Floats) -> Array:
            return to_pixels(self.colours(output, way), self.spec.forms[way[-1]].bits)

        return self._translated(image, way, at, tiles, decode)

    def needs(self, size: tuple[int, int], direction: str) -> Needs:
        """What an image of `size` = (width, height) takes at its own size, at once or in tiles."""
        generator = self.generators[direction]
        with self._at_work(generator):
            width, height = (length + _padding(length, _multiple(generator)) for length in size)
            return needs(generator, self._channels(direction), height, width)

    def _translated(
        self,
        image: str | Path | Image.Image | Bands | Pixels,
        direction: str,
        at: At,
        tiles: Tiles | None,
        decode: Callable[[Floats], Array],
    ) -> Array:
        """What `decode` makes of the output for `image`, `(H, W)` or `(H, W, C)`; of tiles it sees one at a time."""
        opened, where = _opened(image)
        if tiles is None:
            return decode(self.output(opened, direction, at=at, where=where))
        if at != "native":
            raise DiptychError("tiles are for images seen at their own size: say at='native'")
        pixels = self._pixels_seen(opened, direction, opened.size, where)
        height, width, channels = pixels.shape
        generator = self.generators[direction]
        below, right = (_padding(length, _multiple(generator)) for length in (height, width))
        answer: list[Array] = []  # one, as soon as its shape is known

        def read(rows: range, columns: range) -> Tensor:
            window = pixels[mirrored(rows, height)[:, None], mirrored(columns, width)]
            return torch.from_numpy(to_float(window))[None]

        def write(rows: range, columns: range, window: Tensor) -> None:
            _check_finite(window, direction)
            part = decode(window[0].float().cpu().numpy())
            if not answer:
                answer.append(np.empty((height, width, *part.shape[2:]), part.dtype))
            answer[0][rows.start : rows.stop, columns.start : columns.stop] = part

        with self._at_work(generator):
            run_in_windows(
                generator,
                (channels, height + below, width + right),
                read,
                write,
                tile=tiles.side,
                scratch=tiles.scratch,
                size=(height, width),
                progress=tiles.progress,
            )
        return answer[0]

    def output(
        self,
        image: Image.Image | Bands,
        direction: str,
        *,
        at: At = "training",
        size: tuple[int, int] | None = None,
        where: str = IN_MEMORY,
    ) -> Floats:
        """The generator's output for `image`, float32, resized bilinearly to `size`; shrinking is antialiased.

        Colours `(C, H, W)` in [-1, 1] or, of a generator that ends in class logits, `(K, H, W)`: `colours` and
        `class_map` read either. `size` = (width, height) is the image's own unless given. What `fit` has put around the
        image is cut away. Raises `DiptychError` naming `where` for an image that the source domain cannot hold.
        """
        if at not in ("training", "native"):
            raise DiptychError(f"at={at!r}: the size at which the network sees an image is 'training' or 'native'")
        width, height = size or image.size
        seen = fitted(image.size, self.spec.size, self.spec.fit) if at == "training" else Fitted(image.size, image.size)
        pixels = self._pixels_seen(image, direction, seen.scaled, where)
        multiple = _multiple(self.generators[direction])
        (above, below), (left, right) = seen.bars
        below, right = below + _padding(seen.canvas[1], multiple), right + _padding(seen.canvas[0], multiple)
        pixels = np.pad(pixels, ((above, below), (left, right), (0, 0)), mode="reflect")
        precision = self.precision if at == "training" else "fp32"
        with torch.inference_mode(), computing_in(precision, self.device(direction)):
            out = self.run(torch.from_numpy(to_float(pixels))[None], direction)  # (1, C, H, W)
            out = out[:, :, above : above + seen.scaled[1], left : left + seen.scaled[0]]
            answer: Floats = resized(out, (width, height))[0].cpu().numpy()
        return answer

    def _pixels_seen(self, image: Image.Image | Bands, direction: str, size: tuple[int, int], where: str) -> Pixels:
        """The image as the network is shown it, `(H, W, C)` at `size` = (width, height); a class map in its colours."""
        classes = self.spec.classes[direction[0]]
        if classes is not None:
            return classes.paint(class_map_of(image, classes, where, size))
        return pixels_of(image, size, form=self.spec.forms[direction[0]], where=where)

    def _channels(self, direction: str) -> int:
        return 3 if self.spec.classes[direction[0]] else self.spec.forms[direction[0]].channels

    def colours(self, output: Floats, direction: str) -> Floats:
        """`output` as colours in [-1, 1], float32 `(C, H, W)`; of class logits the colour to be expected."""
        if not self._ends_in_logits(direction):
            return output
        classes = self.spec.classes[direction[-1]]
        assert classes is not None
        shares = np.exp(output - output.max(0))  # (K, H, W)
        shares /= shares.sum(0)
        return np.asarray(np.einsum("kc,khw->chw", classes.palette, shares), np.float32)

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
        """`(B, C, H, W)` in [-1, 1] through a generator, on its device; dropout, where alive, always draws the same.

        Raises `NotFiniteError` where the answer is NaN or infinite: as pixels it would be black.
        """
        generator = self.generators[direction]
        with self._at_work(generator), PlacedDropout() if self.spec.train_mode else nullcontext():
            out: Tensor = generator(images.to(self.device(direction)))
        _check_finite(out, direction)
        return out.float()

    def device(self, direction: str) -> torch.device:
        """Where that generator is."""
        return next(self.generators[direction].parameters()).device

    @contextmanager
    def _at_work(self, generator: nn.Module) -> Iterator[None]:
        """The generator in the mode it translates in; it is left as it was."""
        was_training = generator.training
        statistics = [(buffer, buffer.clone()) for buffer in generator.buffers()]
        generator.train(self.spec.train_mode)
        try:
            yield
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


def _check_finite(out: Tensor, direction: str) -> None:
    if not out.isfinite().all():
        raise NotFiniteError(f"the generator {direction} answers with NaN or infinity; its weights are spoiled")


def _opened(image: str | Path | Image.Image | Bands | Pixels) -> tuple[Image.Image | Bands, str]:
    """The image, and what messages call it."""
    if isinstance(image, (str, Path)):
        return open_image(Path(image)), spoken(Path(image))
    if not isinstance(image, np.ndarray):
        return image, IN_MEMORY
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
        raise DiptychError(
            f"an array of {image.dtype} and shape {image.shape} is no image; give uint8 or uint16 pixels (H, W, C)"
        )
    values = image if image.ndim == 3 else image[..., None]
    return Bands(values, alpha=values.shape[2] in (2, 4)), IN_MEMORY


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
    if not (folder / "checkpoints.json").exists():
        raise DiptychError(f"{folder}: holds no checkpoint; give the folder of a run that has saved one")
    record = read_record(folder / "checkpoints.json", Checkpoints)
    return folder / "checkpoints" / (record.best if checkpoint == "best" else record.last).name


def _read_generator(folder: Path, direction: str, record: SavedTranslator) -> tuple[dict[str, Any], nn.Module]:
    """A generator with its architecture. Its shapes are compared before any memory is taken for it."""
    config, weights = f"{direction}/{CONFIG}", f"{direction}/{WEIGHTS}"
    try:
        text = read_checked(folder / config, record.digest(config))
        architecture = checked_architecture(json.loads(text))
    except (ValueError, RecursionError) as problem:
        raise DiptychError(f"{config}: {reason(problem)}; copy the folder again, whole") from None
    tensors = tensors_in(read_checked(folder / weights, record.digest(weights)), Path(weights))
    with torch.device("meta"):
        check_fit(make_generator(architecture), tensors, weights)
    generator = make_generator(architecture)
    generator.load_state_dict(tensors)
    return architecture, generator


def _check_channels(spec: TranslatorSpec, direction: str) -> None:
    """Raises `DiptychError` where a generator does not take or give what the translator says of its domains."""
    architecture, classes = spec.architectures[direction], spec.classes[direction[-1]]
    wanted = {
        "in_channels": 3 if spec.classes[direction[0]] else spec.forms[direction[0]].channels,
        "out_channels": 3 if classes else spec.forms[direction[-1]].channels,
    }
    if architecture.get("head") == "logits":
        wanted["out_channels"] = len(classes.kept) if classes else 0
    for name, number in wanted.items():
        found = architecture.get(name, 3)
        if found != number:
            raise DiptychError(f"{direction}/{CONFIG}: {name} is {found}, where translator.json makes it {number}")


def _multiple(generator: nn.Module) -> int:
    return int(generator.size_multiple)  # type: ignore[arg-type]


def _padding(length: int, multiple: int) -> int:
    return max(-(-length // multiple) * multiple, SMALLEST_INPUT) - length
