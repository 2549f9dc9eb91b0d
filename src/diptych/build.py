"""Settings -> objects. Together with the command line, the only reader of settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from diptych import dataset as data
from diptych.batches import Batches
from diptych.config import TrainSettings, parse_size
from diptych.dataset import Dataset
from diptych.display import Display
from diptych.errors import DiptychError, nearest
from diptych.evaluation.scoring import LabelledFiles, labelled_files, score_translator
from diptych.images import Classes, Pixels, open_image, read_class_map, read_classes, read_pixels, to_pixels
from diptych.methods import METHODS
from diptych.methods.base import Method, Options
from diptych.networks import PATCH_LAYERS, PatchJudge, make_generator
from diptych.pictures import grid
from diptych.training.loop import Preview, Schedule, Training, Validate
from diptych.training.step import Precision, make_optimisers, prepare
from diptych.translator import Translator, TranslatorSpec

PREVIEW_ROWS = 4
CHANNELS = 3


def resolve(settings: TrainSettings) -> TrainSettings:
    """Fill in what depends on the method and the generator, and check that everything fits together.

    Raises `DiptychError` for an unknown method or term, a setting that the method or generator ignores, or sizes that
    the networks cannot take.
    """
    if settings.method not in METHODS:
        known = ", ".join(METHODS)
        raise DiptychError(
            f"unknown method {settings.method!r}{nearest(settings.method, METHODS) or '; choose'} ({known})"
        )
    method = METHODS[settings.method]
    values = settings.model_dump()
    for name in dict.fromkeys(name for other in METHODS.values() for name in other.defaults):
        if name in method.defaults:
            values[name] = method.defaults[name] if values[name] is None else values[name]
        elif values[name] is not None and values[name] is not False:
            raise DiptychError(f"{settings.method} ignores --{name.replace('_', '-')}; take it out")
    if values["rhythm"] not in method.rhythms:
        raise DiptychError(f"{settings.method} has no rhythm {values['rhythm']!r}; choose {', '.join(method.rhythms)}")

    for name, kind, default in (("blocks", "resnet", 9), ("depth", "unet", 8)):
        if values["generator"] == kind:
            values[name] = values[name] or default
        elif values[name] is not None:
            raise DiptychError(f"--generator {values['generator']} ignores --{name}; take it out")
    values["judge"]["ndf"] = values["judge"]["ndf"] or values["ngf"]

    weights = method.default_weights(settings.direction)
    unknown = [name for name in settings.weights if name not in weights]
    if unknown:
        hint = nearest(unknown[0], weights) or ";"
        raise DiptychError(
            f"--weights: {settings.method} has no term {unknown[0]!r}{hint} its terms: {', '.join(weights)}"
        )
    values["weights"] = weights | settings.weights

    for name in ("a", "b", "out", "a_classes", "b_classes", "val_a", "val_b", "init_from"):
        if values[name] is not None:
            values[name] = Path(values[name]).resolve()
    for name in ("pairs", "unpaired"):
        text = values[name]
        if text is not None and text not in ("all", "none") and not text.isdecimal():
            values[name] = str(Path(text).resolve())
    if values["unpaired"] == "none":
        values["unpaired"] = "0"
    settings = TrainSettings(**values)
    _check_sizes(settings)
    if (settings.val_a is None) != (settings.val_b is None):
        raise DiptychError(f"--val-a and --val-b go together; give --val-{'a' if settings.val_a is None else 'b'} too")
    return settings


def _check_sizes(settings: TrainSettings) -> None:
    width, height = parse_size(settings.size)
    if min(width, height) < 8:
        raise DiptychError(f"--size {settings.size}: no network can learn from that; give at least 8 pixels a side")
    multiple = 4 if settings.generator == "resnet" else 2 ** (settings.depth or 0)
    if width % multiple or height % multiple:
        if settings.generator == "resnet":
            raise DiptychError(
                f"--size {settings.size}: width and height must be multiples of 4 for a resnet generator"
            )
        possible = max(depth for depth in range(13) if width % 2**depth == 0 and height % 2**depth == 0)
        way_out = f"give --depth {possible} or less" if possible >= 2 else "give a size with more factors of 2"
        raise DiptychError(
            f"--size {settings.size}: a unet of depth {settings.depth} needs multiples of {multiple}; {way_out}"
        )
    smallest_for = {patch: 3 * 2**layers if layers else 1 for patch, layers in PATCH_LAYERS.items()}
    smallest = smallest_for[settings.judge.patch]
    if min(width, height) < smallest:
        fitting = max(patch for patch, needed in smallest_for.items() if min(width, height) >= needed)
        raise DiptychError(
            f"--size {settings.size}: judges of patch {settings.judge.patch} need {smallest} px a side; "
            f"give --judge.patch {fitting} or a larger size"
        )


def open_dataset(settings: TrainSettings, display: Display) -> Dataset:
    """Read both folders once and settle pairs and unpaired images; every problem of the data is found here."""
    smallest, skip = parse_size(settings.size), settings.skip_unreadable
    domains = {}
    for side in ("a", "b"):
        domain, skipped = _open_side(settings, side, display, smallest=smallest, skip_unreadable=skip)
        for problem in skipped:
            display.note(f"skipped {problem}")
        if domain.classes is None and open_image(domain.file(0)).mode == "P":
            question = f"if they are class maps, stop and give --{side}-classes"
            display.note(f"{domain.folder} holds palette images; {question}")
        domains[side] = domain
    dataset = Dataset(domains["a"], domains["b"])
    if settings.pairs is not None:
        dataset = data.with_pairs(dataset, settings.pairs, settings.seed)
        if not dataset.pairs and settings.rhythm != "pairs":
            run = settings.out.name
            display.note(f"{run}: no pairs are known, so it learns from unpaired images only; --pairs gives it some")
    if settings.unpaired is not None:
        dataset = data.with_unpaired(dataset, settings.unpaired, settings.unpaired_excludes_pairs, settings.seed)
    if settings.rhythm == "pairs" and not dataset.pairs:
        raise DiptychError(f"{settings.method} learns from pairs and has none; give --pairs")
    if settings.rhythm != "pairs" and not (dataset.unpaired_a or dataset.pairs):
        raise DiptychError("nothing to train on: neither pairs nor unpaired images; give --pairs or --unpaired")
    return dataset


def reopen_dataset(settings: TrainSettings, record: Mapping[str, Any], display: Display) -> Dataset:
    """The dataset of an earlier start of the run, from the record that `Dataset.to_record` gave.

    Raises `DiptychError` where an image of that time is gone or cannot be read any more.
    """
    used = {
        "a": sorted({left for left, _ in record["pairs"]} | set(record["unpaired_a"])),
        "b": sorted({right for _, right in record["pairs"]} | set(record["unpaired_b"])),
    }
    domains, places = {}, {}
    for folder in (settings.a, settings.b):
        if not folder.is_dir():
            raise DiptychError(f"{folder}: no such folder any more; bring it back, or mend its path in experiment.yaml")
    for side in ("a", "b"):
        domains[side], _ = _open_side(settings, side, display, skip_unreadable=None, names=used[side])
        places[side] = {name: place for place, name in enumerate(domains[side].names)}
    return Dataset(
        domains["a"],
        domains["b"],
        pairs=tuple((places["a"][left], places["b"][right]) for left, right in record["pairs"]),
        unpaired_a=tuple(places["a"][name] for name in record["unpaired_a"]),
        unpaired_b=tuple(places["b"][name] for name in record["unpaired_b"]),
    )


def _open_side(settings: TrainSettings, side: str, display: Display, **options: Any) -> tuple[data.Domain, list[str]]:
    """`open_domain` of one side's folder, with its classes, in front of whoever watches."""
    folder, table = (settings.a, settings.a_classes) if side == "a" else (settings.b, settings.b_classes)
    classes = read_classes(table) if table else None
    return data.open_domain(
        folder,
        classes,
        progress=lambda done, total: display.count(f"reading images of {side}", done, total),
        **options,
    )


class NetworkMakers:
    """Makes the generators and judges that the settings describe."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings

    def architecture(self) -> dict[str, Any]:
        """The generators' description, as stored beside their weights."""
        settings = self.settings
        kind = settings.generator or ""
        size = {"blocks": settings.blocks} if kind == "resnet" else {"depth": settings.depth}
        return {
            "generator": kind,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "ngf": settings.ngf,
            **size,
            "norm": settings.norm,
            "dropout": settings.dropout,
        }

    def generator(self, source: str, target: str) -> nn.Module:
        del source, target  # both domains have three channels
        return make_generator(self.architecture())

    def judge(self, *domains: str) -> nn.Module:
        settings = self.settings
        return PatchJudge(
            CHANNELS * len(domains),
            patch=settings.judge.patch,
            ndf=settings.judge.ndf or settings.ngf,
            norm=settings.norm or "instance",
        )


def make_method(settings: TrainSettings) -> Method:
    """The method with fresh networks, seeded; `settings` are resolved."""
    torch.manual_seed(settings.seed)
    options = Options(
        weights=settings.weights,
        direction=settings.direction,
        adversarial=settings.adversarial or "",
        pool_size=settings.pool_size or 0,
        seed=settings.seed,
    )
    return METHODS[settings.method](NetworkMakers(settings), options)


def make_translator(settings: TrainSettings, dataset: Dataset, method: Method) -> Translator:
    """The method's generators, not copied: the translator is always as far as the training."""
    generators = {name: network for name, network in method.networks.items() if "_to_" in name}
    architecture = NetworkMakers(settings).architecture()
    spec = TranslatorSpec(
        architectures=dict.fromkeys(generators, architecture),
        size=parse_size(settings.size),
        direction=settings.direction,
        classes={"a": dataset.a.classes, "b": dataset.b.classes},
        train_mode=bool(settings.translate_in_train_mode),
    )
    return Translator(generators, spec)


def initialise_from(run: Path, generators: Mapping[str, nn.Module]) -> None:
    """Copy the generators of another run; raises `DiptychError` where they do not fit."""
    other = Translator.from_pretrained(run)
    missing = [direction for direction in generators if direction not in other.generators]
    if missing:
        raise DiptychError(f"--init-from {run}: has no generator {missing[0]}")
    for direction, generator in generators.items():
        mine, theirs = generator.state_dict(), other.generators[direction].state_dict()
        if {name: t.shape for name, t in mine.items()} != {name: t.shape for name, t in theirs.items()}:
            raise DiptychError(
                f"--init-from {run}: its generator is {dict(other.spec.architectures[direction])}; "
                "give the same settings"
            )
        generator.load_state_dict(theirs)


def device_named(name: str) -> torch.device:
    """`"auto"` takes cuda, then mps, then cpu; raises `DiptychError` for a device that is not there."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise DiptychError(f"--device {name}: torch finds none here; give --device cpu")
    return torch.device(name)


def precision_on(device: torch.device, wanted: Literal["auto", "fp32", "bf16"]) -> Precision:
    """`"auto"` takes bf16 where the processor computes in it, not where it is emulated."""
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        # torch.ops.mkldnn would also say yes where bf16 is emulated, at half the speed of fp32.
        native = bool(torch._C._has_mkldnn) and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def make_batches(settings: TrainSettings, dataset: Dataset) -> Batches:
    """The run's batches, by step."""
    return Batches(
        dataset,
        settings.rhythm or "",
        parse_size(settings.size),
        batch_size=settings.batch_size,
        seed=settings.seed,
        jitter=settings.jitter,
        flip=settings.flip,
    )


def make_training(settings: TrainSettings, dataset: Dataset, device: torch.device, display: Display) -> Training:
    """Everything the loop needs, at step 0; `settings` are resolved."""
    method = make_method(settings)
    translator = make_translator(settings, dataset, method)
    if settings.init_from is not None:
        initialise_from(settings.init_from, translator.generators)
    precision = precision_on(device, settings.precision)
    prepare(method.networks.values(), device, precision)
    files = validation_files(settings, dataset)
    return Training(
        folder=settings.out,
        method=method,
        optimisers=make_optimisers(method, (settings.optim.beta1, settings.optim.beta2)),
        batches=make_batches(settings, dataset),
        translator=translator,
        schedule=Schedule(settings.steps, settings.optim.lr, settings.log_every, settings.val_every, settings.keep),
        device=device,
        precision=precision,
        preview=make_preview(settings, dataset, files),
        validate=make_validation(settings.direction, files, display) if files else None,
    )


def validation_files(settings: TrainSettings, dataset: Dataset) -> LabelledFiles | None:
    """The validation images of the learned direction, each read once to find its faults; None where none are given."""
    if settings.val_a is None or settings.val_b is None:
        return None
    folders = {"a": settings.val_a, "b": settings.val_b}
    domains = {"a": dataset.a, "b": dataset.b}
    for side, folder in folders.items():
        data.open_domain(folder, domains[side].classes, skip_unreadable=None)
    return labelled_files(folders[settings.direction[0]], folders[settings.direction[-1]])


def make_validation(direction: str, files: LabelledFiles, display: Display) -> Validate:
    """Scores `direction` on the validation images."""

    def validate(translator: Translator) -> dict[str, Any]:
        return score_translator(
            translator, direction, files, lambda done, total: display.count("validating", done, total)
        )

    return validate


def make_preview(settings: TrainSettings, dataset: Dataset, files: LabelledFiles | None) -> Preview:
    """Draws a grid input / generated / truth of the same few images every time, from validation where there is one."""
    direction = settings.direction
    domains = {"a": dataset.a, "b": dataset.b}
    source, target = domains[direction[0]], domains[direction[-1]]
    rows: list[tuple[Path, Path | None]]
    if files is not None:
        rows = _spread(list(zip(files.inputs, files.truths, strict=True)))
    elif dataset.pairs:
        sides = dataset.pairs if direction == "a_to_b" else [pair[::-1] for pair in dataset.pairs]
        rows = [(source.file(i), target.file(j)) for i, j in _spread(sides)]
    else:
        unpaired = dataset.unpaired_a if direction == "a_to_b" else dataset.unpaired_b
        rows = [(source.file(i), None) for i in _spread(unpaired)]

    def picture(path: Path, classes: Classes | None, size: tuple[int, int]) -> Pixels:
        return classes.paint(read_class_map(path, classes, size)) if classes else read_pixels(path, size)

    def preview(translator: Translator) -> Image.Image:
        size = translator.spec.size
        drawn = []
        for path, truth in rows:
            values = translator.continuous(open_image(path), direction, size=size)
            row = {"input": picture(path, source.classes, size), "generated": to_pixels(values)}
            if target.classes is not None:
                row["nearest class"] = target.classes.paint(target.classes.nearest(values))
            if truth is not None:
                row["truth"] = picture(truth, target.classes, size)
            drawn.append(row)
        return grid([list(row.values()) for row in drawn], list(drawn[0]))

    return preview


def _spread(things: Sequence[Any]) -> list[Any]:
    """A few of `things`, evenly spread from the first to the last."""
    places = np.linspace(0, len(things) - 1, min(PREVIEW_ROWS, len(things))).round().astype(int)
    return [things[place] for place in places]
