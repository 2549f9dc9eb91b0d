"""Settings -> objects. Together with the command line, the only reader of settings."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from diptych import dataset as data
from diptych.batches import Batches, rhythm_of
from diptych.cache import default_folder
from diptych.config import JudgeSettings, TrainSettings, parse_size
from diptych.dataset import Dataset
from diptych.decoded import Decoded, InMemory, OnDisk
from diptych.display import Display
from diptych.errors import DiptychError, nearest, some
from diptych.evaluation.classes import same_classes
from diptych.evaluation.scoring import LabelledFiles, labelled_files, score_translator
from diptych.features.backbone import perceptual_features
from diptych.fitting import fitted
from diptych.foreign import load_vgg16
from diptych.images import (
    Classes,
    PixelFormat,
    Pixels,
    list_images,
    open_image,
    read_class_map,
    read_classes,
    read_pixels,
    real_path,
    to_pixels,
    view,
)
from diptych.layouts import read_layout
from diptych.losses import ADVERSARIAL
from diptych.methods import METHODS
from diptych.methods.base import Method, Options, Perceptual
from diptych.networks import PATCH_LAYERS, FCN8s, PatchJudge, make_generator
from diptych.pictures import grid, matted
from diptych.precision import Precision, precision_on
from diptych.processes import this_process
from diptych.reading import Member, is_address
from diptych.shards.opening import Shards, class_maps, open_shards, read_index
from diptych.shards.opening import recognised as recognised_shards
from diptych.shards.places import is_packed
from diptych.training.compiling import compile_networks
from diptych.training.loop import Preview, Schedule, Training, Validate
from diptych.training.step import make_optimisers, prepare
from diptych.translator import Translator, TranslatorSpec

PREVIEW_ROWS = 4
GENERATOR_SETTINGS: dict[str, dict[str, Any]] = {
    "resnet": {"blocks": 9},
    "unet": {"depth": 8, "skips": True, "leak": 0.2},
    "fcn8s": {"encoder_weights": None},
}
"""The settings that only one kind of generator has, and their values unless set."""


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
    settings = _with_data(settings, method)
    values = settings.model_dump()
    maps = {side for side in ("a", "b") if values[f"{side}_classes"] is not None}
    if settings.data is not None:
        maps = class_maps(settings.data, settings.swap)
    for name in dict.fromkeys(name for other in METHODS.values() for name in other.defaults):
        if name in method.defaults:
            values[name] = method.defaults[name] if values[name] is None else values[name]
        elif values[name] is not None and values[name] is not False:
            raise DiptychError(f"{settings.method} ignores --{name.replace('_', '-')}; take it out")
    _resolve_rhythm(values, method)
    _resolve_objective(values, method, maps)

    for kind, own in GENERATOR_SETTINGS.items():
        for name, default in own.items():
            if values["generator"] == kind:
                values[name] = default if values[name] is None else values[name]
            elif values[name] is not None:
                flag = name.replace("_", "-")
                raise DiptychError(
                    f"--generator {values['generator']} ignores --{flag}; take it out, or give --{flag} None where a "
                    "recipe sets it"
                )
    if "judges" in method.update_order:
        values["judge"]["ndf"] = values["judge"]["ndf"] or values["ngf"]
    elif settings.judge != JudgeSettings():
        raise DiptychError(f"{settings.method} has no judge; take the settings of --judge out")
    elif values["generator"] == "fcn8s":
        if settings.norm is not None:
            raise DiptychError("--generator fcn8s has no normalisation; take --norm out")
        values["norm"] = None

    weights = method.default_weights(settings.direction)
    unknown = [name for name in settings.weights if name not in weights]
    if unknown:
        hint = nearest(unknown[0], weights) or ";"
        raise DiptychError(
            f"--weights: {settings.method} has no term {unknown[0]!r}{hint} its terms: {', '.join(weights)}"
        )
    values["weights"] = weights | settings.weights
    if values["perceptual"] is None:
        for name in [name for name in weights if name.startswith("perceptual")]:
            if settings.weights.get(name):
                raise DiptychError(f"--weights: {name} compares a backbone's features; give --perceptual BACKBONE")
            values["weights"][name] = 0.0
    elif not any(values["weights"][name] for name in weights if name.startswith("perceptual")):
        raise DiptychError("--perceptual: its terms weigh 0, so that nothing is compared; take it out")
    _check_channels(values, maps)
    if values["encoder_weights"] is not None and values["init_from"] is not None:
        raise DiptychError("--init-from replaces what --encoder-weights loads; take one of the two out")

    for name in ("a", "b", "unpaired_a", "unpaired_b", "out", "a_classes", "b_classes", "val_a", "val_b", "init_from"):
        if values[name] is not None:
            values[name] = Path(values[name]).resolve()
    for name in ("encoder_weights", "perceptual"):
        if values[name] is not None and Path(values[name]).exists():  # else a name on the hub
            values[name] = str(Path(values[name]).resolve())
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


def _with_data(settings: TrainSettings, method: type[Method]) -> TrainSettings:
    """The settings with what --data stands for in its place; shards stay what they are."""
    if settings.data is not None and is_packed(settings.data):
        return _with_shards(settings, settings.data, method)
    found: dict[str, Any] = {"data": None, "swap": False}
    if settings.data is not None:
        layout = read_layout(Path(settings.data), settings.swap)
        names = ["a", "b", "a_classes", "b_classes"]
        names += ["val_a", "val_b"] if layout.val_paired else []
        found |= {name: getattr(layout, name) for name in names if getattr(settings, name) is None}
        if "pairs" in method.defaults:
            found["pairs"] = layout.pairs_for(settings.pairs)
    elif settings.swap:
        raise DiptychError("--swap is about --data; give it, or exchange --a and --b")
    settings = settings.model_copy(update=found)
    missing = [side for side in ("a", "b") if getattr(settings, side) is None]
    if missing:
        raise DiptychError(f"train needs --{missing[0]}, the folder of domain {missing[0]}, or --data")
    return settings


def _with_shards(settings: TrainSettings, where: str, method: type[Method]) -> TrainSettings:
    for name in ("a", "b", "a_classes", "b_classes"):
        if getattr(settings, name) is not None:
            flag = name.replace("_", "-")
            raise DiptychError(f"--{flag}: the shards of --data {where} say that themselves; take one of the two out")
    index = read_index(where)
    pairs = settings.pairs
    if pairs is None and "pairs" in method.defaults and any(shard.group == "pairs" for shard in index.shards):
        pairs = "all"
    place = where if is_address(where) else str(Path(where).resolve())
    return settings.model_copy(update={"data": place, "pairs": pairs})


def recognised(where: str, swap: bool) -> str:
    """What --data was understood as, in words."""
    return recognised_shards(where, swap) if is_packed(where) else read_layout(Path(where), swap).recognised


def _resolve_rhythm(values: dict[str, Any], method: type[Method]) -> None:
    """Fill in what depends on the order of batches."""
    rhythm = values["rhythm"]
    if rhythm not in method.rhythms:
        raise DiptychError(f"{values['method']} has no rhythm {rhythm!r}; choose {', '.join(method.rhythms)}")
    if rhythm == "mixed" and values["batch_size"] < 2:
        raise DiptychError("--rhythm mixed puts pairs and unpaired images into each batch; give --batch-size 2 or more")
    if rhythm == "mixed" and this_process().size > 1 and values["batch_size"] % 2:
        raise DiptychError(
            f"--batch-size {values['batch_size']}: with --rhythm mixed every process has as many pairs as unpaired "
            "images; give an even number"
        )
    if values["compile"] and values["norm"] == "batch" and this_process().size > 1:
        raise DiptychError(
            "--compile cannot take the batch statistics of several processes together; take it out, or give "
            "--norm instance"
        )
    if rhythm == "phases" and values["paired_steps"] is None:
        values["paired_steps"] = min(max(1, values["steps"] // 4), values["steps"] - 1)
    elif rhythm == "phases" and values["paired_steps"] >= values["steps"]:
        raise DiptychError(
            f"--paired-steps {values['paired_steps']}: leaves none of {values['steps']} steps to the unpaired phase; "
            "give fewer, or --rhythm passes with --unpaired none to learn from pairs alone"
        )
    for name, owner in (("balance", "passes"), ("paired_steps", "phases")):
        if values[name] is not None and rhythm != owner:
            flag = name.replace("_", "-")
            raise DiptychError(
                f"--{flag} belongs to the rhythm {owner}, this one is {rhythm}; take it out, or give --{flag} None "
                "where a recipe sets it"
            )


def _resolve_objective(values: dict[str, Any], method: type[Method], class_maps: Collection[str]) -> None:
    """Fill in what depends on the target and on the kind of loss, and check that they fit together; `class_maps` are
    the sides that are such."""
    target = values["direction"][-1]
    if "loss" in method.defaults and "unpaired" in method.defaults:  # learned both ways
        if values["loss"] == "cross_entropy" and not class_maps:
            raise DiptychError("--loss cross_entropy needs the classes of a side; give --b-classes or --a-classes")
    elif "loss" in method.defaults:
        if values["loss"] is None:
            values["loss"] = "cross_entropy" if target in class_maps else "pixel"
        if values["loss"] == "cross_entropy" and target not in class_maps:
            raise DiptychError(f"--loss cross_entropy needs the classes of {target}; give --{target}-classes")
        if values["loss"] == "cross_entropy" and values["reconstruction_l2"]:
            raise DiptychError("--loss cross_entropy ignores --reconstruction-l2; take it out, or give --loss pixel")
    if values["pool_reals"] and values["adversarial"] and not ADVERSARIAL[values["adversarial"]].relativistic:
        raise DiptychError(
            f"--pool-reals: the generators' {values['adversarial']} term sees no real image; take it out, or give a "
            "relativistic one such as --adversarial rsgan"
        )


def _check_channels(values: Mapping[str, Any], class_maps: Collection[str]) -> None:
    channels = {side: values[f"{side}_channels"] for side in ("a", "b")}
    for side in ("a", "b"):
        if side in class_maps and channels[side] != 3:
            raise DiptychError(f"--{side}-channels: class maps are shown in colours, three channels; take it out")
        if channels[side] != 3 and values["weights"].get(f"perceptual_{side}"):
            raise DiptychError(
                f"--perceptual looks at three channels, {side} has {channels[side]}; give --weights perceptual_{side} 0"
            )
    if channels["a"] != channels["b"] and any(values["weights"].get(f"identity_{side}") for side in channels):
        raise DiptychError(
            "an identity term puts images into the generator that leads to them, but the channels differ: "
            f"{channels['a']} of a, {channels['b']} of b; give --weights identity_a 0 identity_b 0"
        )
    if values["encoder_weights"] is not None and channels[values["direction"][0]] != 3:
        raise DiptychError("--encoder-weights look at three channels; take them out, or leave the source's at 3")


def _check_sizes(settings: TrainSettings) -> None:
    width, height = parse_size(settings.size)
    if min(width, height) < 8:
        raise DiptychError(f"--size {settings.size}: no network can learn from that; give at least 8 pixels a side")
    multiple = {"resnet": 4, "fcn8s": 32, "unet": 2 ** (settings.depth or 0)}[settings.generator or "resnet"]
    if width % multiple or height % multiple:
        if settings.generator != "unet":
            raise DiptychError(
                f"--size {settings.size}: width and height must be multiples of {multiple} for this generator, "
                f"{settings.generator}"
            )
        possible = max(depth for depth in range(13) if width % 2**depth == 0 and height % 2**depth == 0)
        way_out = f"give --depth {possible} or less" if possible >= 2 else "give a size with more factors of 2"
        raise DiptychError(
            f"--size {settings.size}: a unet of depth {settings.depth} needs multiples of {multiple}; {way_out}"
        )
    if settings.judge.ndf is None:
        return  # there are no judges
    smallest_for = {patch: 3 * 2**layers if layers else 1 for patch, layers in PATCH_LAYERS.items()}
    smallest = smallest_for[settings.judge.patch]
    if min(width, height) < smallest:
        fitting = max(patch for patch, needed in smallest_for.items() if min(width, height) >= needed)
        raise DiptychError(
            f"--size {settings.size}: judges of patch {settings.judge.patch} need {smallest} px a side; "
            f"give --judge.patch {fitting} or a larger size"
        )


def open_dataset(settings: TrainSettings, display: Display) -> Dataset:
    """Read the folders once and settle pairs and unpaired images; every problem of the data is found here.

    Of shards only the index is read.
    """
    smallest, skip = parse_size(settings.size), settings.skip_unreadable
    packed = _open_packed(settings, display)
    domains = {} if packed is None else dict(packed.domains)
    for domain in domains.values():
        data.check_smallest(domain, smallest, settings.fit)
    for place, folder in _folders(settings).items():
        domain, skipped = _open_folder(
            settings, place, folder, packed, display, smallest=smallest, fit=settings.fit, skip_unreadable=skip
        )
        for problem in skipped:
            display.note(f"skipped {problem}")
        if domain.classes is None and getattr(open_image(domain.file(0)), "mode", "") == "P":
            question = f"if they are class maps, stop and give --{place[-1]}-classes"
            display.note(f"{domain.folder} holds palette images; {question}")
        domains[place] = domain
    domains = _of_bits(domains, {side: max(d.form.bits for p, d in domains.items() if p[-1] == side) for side in "ab"})
    dataset = Dataset(
        domains["a"], domains["b"], elsewhere_a=domains.get("elsewhere_a"), elsewhere_b=domains.get("elsewhere_b")
    )
    if settings.pairs is not None:
        dataset = data.with_pairs(dataset, settings.pairs, settings.seed, None if packed is None else packed.pairs)
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

    Raises `DiptychError` where an image of that time is gone, cannot be read any more, or has become too small or of
    another shape than its partner.
    """
    folders = _folders(settings)
    for folder in folders.values():
        if not real_path(folder)[0].is_dir():
            raise DiptychError(f"{folder}: no such folder any more; bring it back, or mend its path in experiment.yaml")
    packed = _open_packed(settings, display)
    domains = {} if packed is None else dict(packed.domains)
    places = list(dict.fromkeys([*domains, *folders]))
    unpaired_in = {side: _unpaired_in(side, places) for side in ("a", "b")}
    indices = {}
    for place, used in _used(places, record).items():
        if place in folders:
            folder, names = folders[place], sorted(used)
            domains[place], _ = _open_folder(
                *(settings, place, folder, packed, display),
                smallest=parse_size(settings.size),
                fit=settings.fit,
                skip_unreadable=None,
                names=names,
            )
        indices[place] = {name: index for index, name in enumerate(domains[place].names)}
        if gone := sorted(used - indices[place].keys()):
            raise DiptychError(f"{settings.data}: does not hold {some(gone)} any more; bring the shards back")
    domains = _of_bits(domains, record.get("bits", {"a": 8, "b": 8}))
    dataset = Dataset(
        domains["a"],
        domains["b"],
        pairs=tuple((indices["a"][left], indices["b"][right]) for left, right in record["pairs"]),
        unpaired_a=tuple(indices[unpaired_in["a"]][name] for name in record["unpaired_a"]),
        unpaired_b=tuple(indices[unpaired_in["b"]][name] for name in record["unpaired_b"]),
        elsewhere_a=domains.get("elsewhere_a"),
        elsewhere_b=domains.get("elsewhere_b"),
    )
    data.check_shapes(dataset)
    return dataset


def _used(places: Collection[str], record: Mapping[str, Any]) -> dict[str, set[str]]:
    """The names that are in use in each domain of a dataset, by the record that `Dataset.to_record` gave."""
    used: dict[str, set[str]] = {place: set() for place in places}
    for column, side in enumerate(("a", "b")):
        used[side].update(pair[column] for pair in record["pairs"])
        used[_unpaired_in(side, places)].update(record[f"unpaired_{side}"])
    return used


def _unpaired_in(side: str, places: Collection[str]) -> str:
    return f"elsewhere_{side}" if f"elsewhere_{side}" in places else side


def _of_bits(domains: Mapping[str, data.Domain], bits: Mapping[str, int]) -> dict[str, data.Domain]:
    """The domains of each side, by their place, with the bits of that side."""
    return {p: replace(d, form=PixelFormat(d.form.channels, bits[p[-1]])) for p, d in domains.items()}


def _folders(settings: TrainSettings) -> dict[str, Path]:
    """Folders of images, by the name that `Dataset` has for them: `elsewhere_a` only if that is another folder; those
    of a and b unless they are in shards."""
    folders = {side: folder for side, folder in (("a", settings.a), ("b", settings.b)) if folder is not None}
    for side, elsewhere in (("a", settings.unpaired_a), ("b", settings.unpaired_b)):
        if elsewhere is not None and (side not in folders or elsewhere.resolve() != folders[side].resolve()):
            folders[f"elsewhere_{side}"] = elsewhere
    return folders


def _open_packed(settings: TrainSettings, display: Display) -> Shards | None:
    """The shards that the settings name, if any: other datasets have become folders when they were resolved."""
    if settings.data is None:
        return None
    return open_shards(
        settings.data,
        swap=settings.swap,
        channels={"a": settings.a_channels, "b": settings.b_channels},
        cache_limit=round(settings.shard_cache_gib * 2**30),
        note=display.note,
    )


def _open_folder(
    settings: TrainSettings, place: str, folder: Path, packed: Shards | None, display: Display, **options: Any
) -> tuple[data.Domain, list[str]]:
    """`open_domain` of one of the `_folders`, with the classes of its side, in front of whoever watches."""
    side = place[-1]
    table = settings.a_classes if side == "a" else settings.b_classes
    classes = read_classes(table) if table else None
    if packed is not None:
        classes = packed.domains[side].classes
    what = "images" if place == side else "unpaired images"
    return data.open_domain(
        folder,
        classes,
        channels=settings.a_channels if side == "a" else settings.b_channels,
        progress=lambda done, total: display.count(f"reading {what} of {side}", done, total),
        note=display.note,
        **options,
    )


class NetworkMakers:
    """Makes the generators and judges that the settings describe."""

    def __init__(self, settings: TrainSettings, classes: Mapping[str, Classes | None]) -> None:
        self.settings = settings
        self.classes = classes

    def channels(self, domain: str) -> int:
        """Of the images of `domain`, "a" or "b"."""
        return self.settings.a_channels if domain == "a" else self.settings.b_channels

    def architecture(self, source: str, target: str) -> dict[str, Any]:
        """The description of the generator from domain `source` to `target`, as stored beside its weights."""
        settings, classes = self.settings, self.classes[target]
        architecture: dict[str, Any] = {
            "generator": settings.generator,
            "in_channels": self.channels(source),
            "out_channels": self.channels(target),
            "ngf": settings.ngf,
            "dropout": settings.dropout,
            "head": "tanh",
        }
        if self.palette(target) is not None:
            assert classes is not None
            architecture |= {"out_channels": len(classes.kept), "head": "logits"}
        if settings.generator == "resnet":
            architecture |= {"blocks": settings.blocks, "norm": settings.norm}
        elif settings.generator == "unet":
            architecture |= {"depth": settings.depth, "skips": settings.skips, "leak": settings.leak}
            architecture |= {"norm": settings.norm}
        return architecture

    def palette(self, domain: str) -> Tensor | None:
        """The colours `(K, C)` in [-1, 1] of the classes, if generators that lead to `domain` end in their logits."""
        classes = self.classes[domain]
        if self.settings.loss != "cross_entropy" or classes is None:
            return None
        return torch.from_numpy(classes.palette)

    def generator(self, source: str, target: str) -> nn.Module:
        generator = make_generator(self.architecture(source, target))
        if isinstance(generator, FCN8s) and self.settings.encoder_weights is not None:
            load_vgg16(generator, self.settings.encoder_weights)
        return generator

    def judge(self, *domains: str) -> nn.Module:
        settings = self.settings
        return PatchJudge(
            sum(self.channels(domain) for domain in domains),
            patch=settings.judge.patch,
            ndf=settings.judge.ndf or settings.ngf,
            norm=settings.norm or "instance",
        )


def make_method(settings: TrainSettings, make: NetworkMakers, device: torch.device) -> Method:
    """The method with fresh networks, seeded; `settings` are resolved. Only a backbone is on `device` already.

    The networks are the same in every process, the random draws that follow and those of the pools its own.
    """
    torch.manual_seed(settings.seed)
    own_seed = settings.seed
    if this_process().rank:
        own_seed = int(np.random.SeedSequence((settings.seed, this_process().rank)).generate_state(1)[0])
    options = Options(
        weights=settings.weights,
        direction=settings.direction,
        adversarial=settings.adversarial or "",
        reconstruction_l2=settings.reconstruction_l2 or 0.0,
        cycle_l2=settings.cycle_l2 or 0.0,
        loss=settings.loss or "pixel",
        palettes={domain: palette for domain in ("a", "b") if (palette := make.palette(domain)) is not None},
        perceptual=_perceptual(settings, device),
        pool_size=settings.pool_size or 0,
        paired_pool_size=settings.paired_pool_size,
        pool_reals=settings.pool_reals,
        seed=own_seed,
    )
    method = METHODS[settings.method](make, options)
    if this_process().rank:
        torch.manual_seed(own_seed)
    return method


def _perceptual(settings: TrainSettings, device: torch.device) -> Perceptual | None:
    if settings.perceptual is None:
        return None
    return perceptual_features(settings.perceptual, str(device), parse_size(settings.size))


def make_translator(
    settings: TrainSettings,
    make: NetworkMakers,
    method: Method,
    forms: Mapping[str, PixelFormat],
    precision: Precision,
) -> Translator:
    """The method's generators, not copied: the translator is always as far as the training."""
    generators = {name: network for name, network in method.networks.items() if "_to_" in name}
    spec = TranslatorSpec(
        architectures={direction: make.architecture(*direction.split("_to_")) for direction in generators},
        size=parse_size(settings.size),
        direction=settings.direction,
        classes=make.classes,
        train_mode=bool(settings.translate_in_train_mode),
        forms=forms,
        fit=settings.fit,
        precision=precision,
    )
    return Translator(generators, spec)


def initialise_from(run: Path, translator: Translator) -> None:
    """Copy the generators of another run; raises `DiptychError` where they do not fit or mean something else."""
    other = Translator.from_pretrained(run)
    missing = [direction for direction in translator.generators if direction not in other.generators]
    if missing:
        raise DiptychError(f"--init-from {run}: has no generator {missing[0]}")
    for direction, generator in translator.generators.items():
        mine, theirs = translator.spec.architectures[direction], other.spec.architectures[direction]
        shapes, their_shapes = (
            {name: tensor.shape for name, tensor in network.state_dict().items()}
            for network in (generator, other.generators[direction])
        )
        if shapes != their_shapes or any(
            theirs.get(name, value) != value for name, value in mine.items() if name != "dropout"
        ):
            raise DiptychError(f"--init-from {run}: its generator is {dict(theirs)}; give the same settings")
        target = direction[-1]
        if mine["head"] == "logits" and not same_classes(translator.spec.classes[target], other.spec.classes[target]):
            raise DiptychError(f"--init-from {run}: its logits are of other classes; give its classes, in its order")
        generator.load_state_dict(other.generators[direction].state_dict())


def device_named(name: str) -> torch.device:
    """`"auto"` takes cuda, then mps, then cpu; of several processes on a machine each has a GPU of its own.

    Raises `DiptychError` for a device that is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise DiptychError(f"--device {name}: torch finds none here; give --device cpu")
    if name == "cuda" and this_process().size > 1:
        if this_process().local >= torch.cuda.device_count():
            raise DiptychError(
                f"process {this_process().local} of this machine has no GPU of its own, there are "
                f"{torch.cuda.device_count()}; start as many processes, or give --device cpu"
            )
        torch.cuda.set_device(this_process().local)
        return torch.device("cuda", this_process().local)
    return torch.device(name)


def make_batches(settings: TrainSettings, dataset: Dataset, display: Display) -> Batches:
    """The run's batches, by step; says so where not all decoded images can be kept.

    `settings.batch_size` is that of each process.
    """
    batch_size = settings.batch_size * this_process().size
    rhythm = rhythm_of(
        settings.rhythm or "",
        len(dataset.pairs),
        max(len(dataset.unpaired_a), len(dataset.unpaired_b)),
        batch_size,
        balance=settings.balance,
        paired_steps=settings.paired_steps or 0,
    )
    budget = round(settings.cache_gib * 2**30)
    batches = Batches(
        dataset,
        rhythm,
        parse_size(settings.size),
        batch_size=batch_size,
        seed=settings.seed,
        jitter=settings.jitter,
        fit=settings.fit,
        resample=Image.Resampling[settings.resample.upper()],
        flip=settings.flip,
        decoded=Decoded(budget, OnDisk(default_folder()) if settings.cache == "disk" else InMemory()),
        share=(this_process().rank, this_process().size),
    )
    footprints = batches.footprints()
    batches.decoded.shelf.reserve(min(budget, sum(footprints)))
    fit = int(np.searchsorted(np.cumsum(footprints), budget, side="right"))
    if fit < len(footprints):
        display.note(
            f"{settings.out.name}: {fit:,} of {len(footprints):,} decoded images fit into {settings.cache_gib:g} GiB "
            f"of {settings.cache} (--cache-gib); the others are decoded each time"
        )
    return batches


def make_training(settings: TrainSettings, dataset: Dataset, device: torch.device, display: Display) -> Training:
    """Everything the loop needs, at step 0; `settings` are resolved."""
    make = NetworkMakers(settings, {"a": dataset.a.classes, "b": dataset.b.classes})
    method = make_method(settings, make, device)
    forms = {"a": dataset.a.form, "b": dataset.b.form}
    precision = precision_on(device, settings.precision, max(form.bits for form in forms.values()))
    translator = make_translator(settings, make, method, forms, precision)
    if settings.init_from is not None:
        initialise_from(settings.init_from, translator)
    prepare(method.networks.values(), device, precision)
    if settings.compile:
        compile_networks(method.networks.values())
    files = validation_files(settings, dataset)
    return Training(
        folder=settings.out,
        method=method,
        optimisers=make_optimisers(method, (settings.optim.beta1, settings.optim.beta2)),
        batches=make_batches(settings, dataset, display),
        translator=translator,
        schedule=Schedule(
            settings.steps,
            settings.optim.lr,
            settings.log_every,
            settings.val_every,
            settings.keep,
            settings.optim.clip,
        ),
        device=device,
        precision=precision,
        preview=make_preview(settings, dataset, files),
        validate=make_validation(settings.direction, files, display) if files else None,
        compiled=settings.compile,
    )


def validation_files(settings: TrainSettings, dataset: Dataset) -> LabelledFiles | None:
    """The validation images of the learned direction, each read once to find its faults; None where none are given."""
    if settings.val_a is None or settings.val_b is None:
        return None
    folders = {"a": settings.val_a, "b": settings.val_b}
    domains = {"a": dataset.a, "b": dataset.b}
    for side, folder in folders.items():
        data.open_domain(folder, domains[side].classes, channels=domains[side].form.channels, skip_unreadable=None)
    return labelled_files(folders[settings.direction[0]], folders[settings.direction[-1]])


def files_of(settings: TrainSettings, dataset: Dataset) -> dict[str, list[tuple[str, Path | str]]]:
    """Every file that a run reads, by place: name and path of its images, of those it validates on, of its tables; of
    images in shards name and what changes with them."""
    domains = {"a": dataset.a, "b": dataset.b, "elsewhere_a": dataset.elsewhere_a, "elsewhere_b": dataset.elsewhere_b}
    there = {place: domain for place, domain in domains.items() if domain is not None}
    listed = {}
    files: dict[str, list[tuple[str, Path | str]]] = {}
    for place, used in _used(there, dataset.to_record()).items():
        domain = there[place]
        if domain.packed is None:
            listed[place] = domain.folder, sorted(used)
        else:
            identity = domain.packed.identity
            files[place] = [(name, identity(index)) for index, name in enumerate(domain.names) if name in used]
    for place, folder in (("val_a", settings.val_a), ("val_b", settings.val_b)):
        if folder is not None:
            listed[place] = folder, list_images(folder)
    for place, table in (("a_classes", settings.a_classes), ("b_classes", settings.b_classes)):
        if table is not None:
            listed[place] = table.parent, [table.name]
    for place, (folder, names) in listed.items():
        files[place] = [(name, real_path(folder / name)[0]) for name in names]
    return files


def make_validation(direction: str, files: LabelledFiles, display: Display) -> Validate:
    """Scores `direction` on the validation images."""

    def progress(done: int, total: int) -> None:
        display.count("validating", done, total)

    return lambda translator: score_translator(translator, direction, files, progress).record()


def make_preview(settings: TrainSettings, dataset: Dataset, files: LabelledFiles | None) -> Preview:
    """Draws a grid input / generated / truth of the same few images every time, from validation where there is one."""
    direction = settings.direction
    domains = {"a": dataset.a, "b": dataset.b}
    source, target = domains[direction[0]], domains[direction[-1]]
    rows: list[tuple[Path | Member, Path | Member | None]]
    if files is not None:
        rows = _spread(list(zip(files.inputs, files.truths, strict=True)))
    elif dataset.pairs:
        sides = dataset.pairs if direction == "a_to_b" else [pair[::-1] for pair in dataset.pairs]
        near = _in_one_shard(source, [i for i, _ in sides])
        rows = [(source.file(i), target.file(j)) for i, j in _spread([pair for pair in sides if pair[0] in near])]
    else:
        unpaired = dataset.unpaired_a if direction == "a_to_b" else dataset.unpaired_b
        unpaired_source = dataset.unpaired_domain("a" if direction == "a_to_b" else "b")
        rows = [(unpaired_source.file(i), None) for i in _spread(sorted(_in_one_shard(unpaired_source, unpaired)))]

    def picture(path: Path | Member, domain: data.Domain, size: tuple[int, int]) -> Pixels:
        if domain.classes is not None:
            return domain.classes.paint(read_class_map(path, domain.classes, size))
        return view(read_pixels(path, size, form=domain.form))

    def preview(translator: Translator) -> Image.Image:
        drawn = []
        for path, truth in rows:
            image = open_image(path)
            cell = fitted(image.size, translator.spec.size, "stretch" if settings.fit == "stretch" else "letterbox")
            output = translator.output(image, direction, size=cell.scaled)
            colours = view(to_pixels(translator.colours(output, direction)))
            row = {"input": picture(path, source, cell.scaled), "generated": colours}
            if target.classes is not None:
                row["class"] = target.classes.paint(translator.class_map(output, direction))
            if truth is not None:
                row["truth"] = picture(truth, target, cell.scaled)
            drawn.append({title: matted(shown, cell.bars) for title, shown in row.items()})
        return grid([list(row.values()) for row in drawn], list(drawn[0]))

    return preview


def _in_one_shard(domain: data.Domain, images: Sequence[int]) -> set[int]:
    """Those of the images that lie in the shard of the first, a fair sample: previews then fetch no other."""
    packed = domain.packed
    return {index for index in images if packed is None or packed.shards[index] == packed.shards[images[0]]}


def _spread(things: Sequence[Any]) -> list[Any]:
    """A few of `things`, evenly spread from the first to the last."""
    places = np.linspace(0, len(things) - 1, min(PREVIEW_ROWS, len(things))).round().astype(int)
    return [things[place] for place in places]
