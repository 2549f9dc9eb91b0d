"""What a study's YAML says -> a checked plan: every run by name, with all it needs. Nothing here looks at images.

The grid is the product of the axes. Every label of an axis, and every row outside the grid, lays `data`, `select`,
`train` and `evaluate` over the study's own; the recipe that is named last is laid beneath all of `train`.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from diptych.build import resolve
from diptych.config import EvaluateSettings, SelectSettings, Settings, TrainSettings, explain
from diptych.errors import DiptychError, nearest, some
from diptych.evaluation.record import NAMES
from diptych.layouts import read_layout
from diptych.methods import METHODS
from diptych.recipes import lay_over, read_recipe, recipe_file, settings_from

LAYERS = ("data", "select", "train", "evaluate")
KEYS = ("title", "about", "metrics", *LAYERS, "axes", "seeds", "skip", "rows", "published", "curve")
FOLDERS = ("a", "b", "a_classes", "b_classes", "val_a", "val_b", "test_a", "test_b")
DATA = ("data", *FOLDERS, "unpaired_a", "unpaired_b")
TRAINED_ON = ("a", "b", "a_classes", "b_classes", "val_a", "val_b")
ELSEWHERE = ("unpaired_a", "unpaired_b")  # trained on, too, by the methods that take unpaired images
SETTLED_BY_THE_STUDY = {
    "select": ("photos", "out", "seed"),
    "train": (*TRAINED_ON, *ELSEWHERE, "data", "swap", "out", "seed"),
    "evaluate": ("runs", "generated", "data", "swap", "a", "b", "b_classes", "out", "overwrite"),
}
"""Settings that `data`, `seeds` and the study's folder decide."""

Labels = Mapping[str, str]  # axis -> the row's label on it
Model = TypeVar("Model", bound=Settings)


@dataclass(frozen=True)
class Selection:
    """A choice of images to pair, made once for all runs with the same `settings` (of `diptych select`)."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One training and its score."""

    name: str
    seed: int
    selection: Selection | None
    train: Mapping[str, Any]  # all that `diptych train` is given
    evaluate: Mapping[str, Any]  # what `diptych evaluate` is given besides the run
    settings: TrainSettings  # `train`, resolved


@dataclass(frozen=True)
class Row:
    """A line of the table: the runs that differ in nothing but their seed, and what was published for them."""

    labels: Labels
    layers: Mapping[str, Any]  # data, select, train (its recipe written out), evaluate
    runs: tuple[Run, ...]
    published: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """A study, run by run. `axes` are the table's first columns, `curves` pairs (axis, metric)."""

    title: str
    about: str
    metrics: tuple[str, ...]
    axes: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    published: tuple[Mapping[str, Any], ...]
    curves: tuple[tuple[str, str], ...]

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the rows."""
        return [run for row in self.rows for run in row.runs]

    def to_study(self) -> dict[str, Any]:
        """The same study with every row and every recipe written out; it does not depend on other files any more."""
        return {
            "title": self.title,
            "about": self.about,
            "metrics": list(self.metrics),
            "seeds": list(self.seeds),
            "rows": [{"labels": dict(row.labels), **row.layers} for row in self.rows],
            "published": [dict(entry) for entry in self.published],
            "curve": [{"x": x, "y": y} for x, y in self.curves],
        }


def folder_of(out: Path, room: str, name: str) -> Path:
    """Where the study in `out` keeps a selection ("selections"), a run ("runs") or its score ("scores")."""
    return out.absolute() / room / name


def make_plan(study: Mapping[str, Any], where: str, out: Path) -> Plan:
    """Expand and check what a study says; `where` names its file in errors, `out` is its folder.

    Raises `DiptychError`, one line, for whatever is wrong in any of its runs.
    """
    _check_keys(study, KEYS, where)
    metrics = [str(name) for name in _list(study, "metrics", where)]
    if not metrics:
        raise DiptychError(
            f"{where}: names no metrics, so its table would be empty; give metrics: [mean_iou] or others"
        )
    _check_keys(metrics, NAMES, f"{where}: metrics")
    seeds = _list(study, "seeds", where) if "seeds" in study else [0]
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise DiptychError(f"{where}: seeds: {seeds}: give different whole numbers, such as [0, 1, 2]")
    base = {layer: study.get(layer) or {} for layer in LAYERS}
    _check_overlay(base, where)
    axes = {
        str(axis): {
            str(label): overlay
            for label, overlay in _mapping(values, f"{where}: axes: {axis}").items()
            if overlay is not None  # how a study that extends another takes a label out
        }
        for axis, values in _mapping(study.get("axes") or {}, f"{where}: axes").items()
        if values is not None
    }
    for axis, overlays in axes.items():
        for label, overlay in overlays.items():
            _check_overlay(overlay, f"{where}: axes: {axis}: {label}")

    combinations: list[tuple[Labels, list[Mapping[str, Any]]]] = []
    labels: Labels
    skipped = [_labels(entry, axes, f"{where}: skip") for entry in _list(study, "skip", where)]
    if axes:
        for chosen in itertools.product(*axes.values()):
            labels = dict(zip(axes, chosen, strict=True))
            if not any(_belongs(entry, labels) for entry in skipped):
                combinations.append((labels, [axes[axis][label] for axis, label in labels.items()]))
    for number, entry in enumerate(_list(study, "rows", where), start=1):
        place = f"{where}: rows: number {number}"
        _check_keys(_mapping(entry, place), ("labels", *LAYERS), place)
        labels = {str(axis): str(label) for axis, label in _mapping(entry.get("labels") or {}, place).items()}
        if axes:
            _check_keys(labels, axes, f"{place}: labels")
        overlay = {layer: entry[layer] for layer in LAYERS if layer in entry}
        _check_overlay(overlay, place)
        combinations.append((labels, [overlay]))
    if not combinations:
        raise DiptychError(f"{where}: plans no run; give axes or rows, and skip not all of them")
    columns = tuple(axes) or tuple(dict.fromkeys(axis for labels, _ in combinations for axis in labels))

    published = [_published(entry, metrics, columns, where) for entry in _list(study, "published", where)]
    for entry in published:
        if not any(_belongs(entry["labels"], labels) for labels, _ in combinations):
            raise DiptychError(f"{where}: published: no row has the labels {dict(entry['labels'])}; mend or drop them")
    rows = []
    for labels, laid in combinations:
        layers = _merge(base, laid, f"{where}: {_name(labels, columns)}")
        numbers: dict[str, float] = {}
        for entry in published:
            if _belongs(entry["labels"], labels):
                numbers |= {name: value for name, value in entry.items() if name != "labels"}
        runs = tuple(_run(labels, columns, layers, seed, where, out) for seed in seeds)
        rows.append(Row(labels, layers, runs, numbers))
    names = [run.name.casefold() for row in rows for run in row.runs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DiptychError(f"{where}: two runs would be called {some(twice)}; give their rows different labels")
    return Plan(
        title=str(study.get("title") or Path(where).stem),
        about=" ".join(str(study.get("about") or "").split()),
        metrics=tuple(metrics),
        axes=columns,
        seeds=tuple(seeds),
        rows=tuple(rows),
        published=tuple(published),
        curves=tuple(_curve(entry, metrics, columns, where) for entry in _curve_entries(study)),
    )


def _merge(base: Mapping[str, Any], overlays: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    """The layers of one row: an overlay's `select: null` means no selection, whatever the others say."""
    merged: dict[str, Any] = dict(base)
    for overlay in overlays:
        merged = lay_over(merged, {layer: values or {} for layer, values in overlay.items()})
    if any(overlay.get("select", {}) is None for overlay in overlays):
        merged["select"] = None
    recipe = merged["train"].get("recipe")
    train = {name: value for name, value in merged["train"].items() if name != "recipe"}
    if recipe is not None:
        try:
            train = lay_over(read_recipe(recipe_file(str(recipe))), train)
        except DiptychError as problem:
            raise DiptychError(f"{where}: {problem}") from None
    # Absolute, so that the study goes on from wherever it is started again.
    data = {name: str(Path(str(folder)).absolute()) for name, folder in merged["data"].items() if folder is not None}
    try:
        return merged | {"train": train, "data": spelled_out(data)}
    except DiptychError as problem:
        raise DiptychError(f"{where}: {problem}") from None


def spelled_out(data: Mapping[str, str]) -> dict[str, str]:
    """What is said of the data, with the folders and tables of the dataset that it names, unless it names others.

    Raises `DiptychError` for a dataset whose pairs are those of a CSV.
    """
    said = {name: path for name, path in data.items() if name != "data"}
    if "data" not in data:
        return said
    layout = read_layout(Path(data["data"]))
    if layout.pairs is not None:
        raise DiptychError(
            f"data: {layout.pairs}: a study pairs images of the same name; give the partners those names, and the "
            "folders as --a and --b"
        )
    found = {name: str(path) for name in FOLDERS if (path := getattr(layout, name)) is not None}
    if not layout.val_paired:  # no partners to validate with, but sets to compare
        for side in ("a", "b"):
            found.setdefault(f"test_{side}", found.pop(f"val_{side}"))
    return found | said


def _run(labels: Labels, columns: Sequence[str], layers: Mapping[str, Any], seed: int, where: str, out: Path) -> Run:
    name = "--".join([*filter(None, [_name(labels, columns)]), f"seed{seed}"])
    place = f"{where}: {name}"
    data = layers["data"]
    for side in ("a", "b"):
        if side not in data:
            raise DiptychError(f"{place}: data names no folder of {side}; give --{side}")
    train = {**layers["train"], "seed": seed, "out": str(folder_of(out, "runs", name))}
    train |= {key: data[key] for key in TRAINED_ON if key in data}
    method = METHODS.get(str(train.get("method")))
    takes_unpaired = method is not None and "unpaired" in method.defaults
    if takes_unpaired:
        train |= {key: data[key] for key in ELSEWHERE if key in data}
    selection = _selection(layers["select"], data, seed, place, takes_unpaired)
    if selection is not None:
        chosen = folder_of(out, "selections", selection.name)
        if layers["select"]["budget"]:
            train["pairs"] = str(chosen / "pairs.csv")
        if takes_unpaired and selection.settings.get("unpaired") is not None:
            train["unpaired"] = str(chosen / "unpaired.csv")
    settings = settings_from(train, place)
    try:
        settings = resolve(settings)
    except DiptychError as problem:
        raise DiptychError(f"{place}: {problem}") from None

    scored = {side: data.get(f"test_{side}", data.get(f"val_{side}")) for side in ("a", "b")}
    for side, folder in scored.items():
        if folder is None:
            raise DiptychError(f"{place}: data names nothing to score; give --val-{side} or --test-{side}")
    evaluate = {**layers["evaluate"], **scored}
    _checked(EvaluateSettings, evaluate, f"{place}: evaluate")
    return Run(name, seed, selection, train, evaluate, settings)


def _selection(
    values: Mapping[str, Any] | None, data: Mapping[str, str], seed: int, place: str, takes_unpaired: bool
) -> Selection | None:
    """What is selected first: wherever the budget is more than 0, and, where it is 0, by methods that take unpaired
    images, if `unpaired` says how many: those that other rows choose their pairs among."""
    if values is None:
        return None
    chosen = {"partners": data["b"], **values, "photos": data["a"], "seed": seed}
    if values.get("budget") == 0:
        chosen["budget"] = 1  # the unpaired ones are chosen first, whatever the budget; the pair goes unused
    settings = _checked(SelectSettings, {**chosen, "out": "out"}, f"{place}: select")
    if "budget" not in values or (values["budget"] == 0 and not (takes_unpaired and settings.unpaired)):
        return None
    content = settings.model_dump(mode="json", exclude={"out", "device"})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]
    within = f"-of-{settings.unpaired}" if settings.unpaired is not None else ""
    return Selection(f"{settings.selector}-{settings.budget}{within}-seed{seed}-{digest}", chosen)


def _checked(model: type[Model], values: Mapping[str, Any], place: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as problem:
        raise DiptychError(f"{place}: {explain(problem, model)}") from None


def _name(labels: Labels, columns: Iterable[str]) -> str:
    """The labels, in the order of the axes, as part of a file name."""
    words = (re.sub(r"[^\w.+-]+", "-", labels[axis]).strip("-.") for axis in columns if axis in labels)
    return "--".join(word for word in words if word)


def _belongs(wanted: Labels, labels: Labels) -> bool:
    """Whether the row's labels include those wanted."""
    return all(labels.get(axis) == label for axis, label in wanted.items())


def _labels(entry: Any, axes: Mapping[str, Mapping[str, Any]], place: str) -> Labels:
    labels = {str(axis): str(label) for axis, label in _mapping(entry, place).items()}
    _check_keys(labels, axes, place)
    for axis, label in labels.items():
        _check_keys([label], axes[axis], f"{place}: {axis}")
    if not labels:
        raise DiptychError(f"{place}: an empty entry would leave everything out; name labels or drop it")
    return labels


def _published(entry: Any, metrics: Sequence[str], columns: Sequence[str], where: str) -> dict[str, Any]:
    place = f"{where}: published"
    numbers = {str(key): value for key, value in _mapping(entry, place).items()}
    labels = {str(axis): str(label) for axis, label in _mapping(numbers.pop("labels", {}), place).items()}
    _check_keys(labels, columns, f"{place}: labels")
    _check_keys(numbers, metrics, place)
    for name, value in numbers.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise DiptychError(f"{place}: {name}: {value!r} is no number; give one, such as .237")
    return {"labels": labels, **{name: float(value) for name, value in numbers.items()}}


def _curve_entries(study: Mapping[str, Any]) -> list[Any]:
    entries = study.get("curve") or []
    return entries if isinstance(entries, list) else [entries]


def _curve(entry: Any, metrics: Sequence[str], columns: Sequence[str], where: str) -> tuple[str, str]:
    place = f"{where}: curve"
    _check_keys(_mapping(entry, place), ("x", "y"), place)
    for key, known in (("x", columns), ("y", metrics)):
        if key not in entry:
            raise DiptychError(f"{place}: has no {key}; give x, an axis, and y, a metric")
        _check_keys([str(entry[key])], known, f"{place}: {key}")
    return str(entry["x"]), str(entry["y"])


def _check_overlay(overlay: Any, place: str) -> None:
    """Raises `DiptychError` where a layer is unknown, is no mapping, or sets what the study itself decides."""
    _check_keys(_mapping(overlay, place), LAYERS, place)
    for layer, values in overlay.items():
        names = _mapping(values or {}, f"{place}: {layer}")
        if layer == "data":
            _check_keys(names, DATA, f"{place}: data")
        for name in SETTLED_BY_THE_STUDY.get(layer, ()):
            if name in names:
                owner = "seeds" if name == "seed" else "data" if name in DATA else "the study's folder"
                raise DiptychError(f"{place}: {layer}: {name} comes from {owner}; take it out")


def _check_keys(found: Iterable[Any], known: Iterable[str], place: str) -> None:
    known = list(known)
    for key in found:
        if key not in known:
            hint = nearest(str(key), known) or f"; there are {', '.join(known)}"
            raise DiptychError(f"{place}: does not know {str(key)!r}{hint}")


def _mapping(value: Any, place: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise DiptychError(f"{place}: must be a mapping, 'name: value' (it is {value!r})")
    return value


def _list(study: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = study.get(key) or []
    if not isinstance(value, list):
        raise DiptychError(f"{where}: {key}: must be a list, [...] (it is {value!r})")
    return value
