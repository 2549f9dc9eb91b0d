"""YAML files -> training settings: the published recipes that stand here, people's own, and those saved in runs."""

import os
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from diptych.config import TrainSettings, explain
from diptych.errors import DiptychError, nearest, reason
from diptych.reading import is_file, read_text

LONGEST = 2**20
"""Characters of a YAML file, and parts of it once every alias is written out; settings stay far below."""
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What the loader raises for a value that is not what its tag says, such as a 32nd of May."""


def load_settings(run: Path) -> TrainSettings:
    """The resolved settings of a run; raises `DiptychError` where the folder holds none."""
    file = run / "experiment.yaml"
    if not file.is_file():
        raise DiptychError(f"{run}: holds no run; give the folder that diptych train made")
    return settings_from(read_recipe(file), str(file))


def recipe_file(name: str) -> Path:
    """The YAML file `name`, or the recipe of that name that comes with diptych (such as `"shukla"`)."""
    return file_named(name, shipped_recipes(), "recipes", "--recipe ")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with diptych, by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}


def read_recipe(file: Path) -> dict[str, Any]:
    """The settings in a YAML file, laid over those of the recipe that its `extends` names; see `read_layers`."""
    return read_layers(file, recipe_file, "a recipe")


def file_named(name: str, shipped: Mapping[str, Path], kinds: str, flag: str = "") -> Path:
    """The file `name`, or the one of that name among those that come with diptych."""
    if is_file(Path(name)):
        return Path(name)
    if name not in shipped:
        hint = nearest(name, shipped) or ";"
        raise DiptychError(f"{flag}{name}: no such file{hint} {kinds} that come with diptych: {', '.join(shipped)}")
    return shipped[name]


def read_layers(file: Path, find: Callable[[str], Path], kind: str) -> dict[str, Any]:
    """What a YAML file says (safe loader), laid over the file that its `extends` names; mappings are merged by name.

    `extends` names a file beside this one, with or without its .yaml, or what `find` finds. Raises `DiptychError` for
    `kind` that cannot be read or that extends itself.
    """
    layers = [read_yaml(file)]
    seen = [file.resolve()]
    while (name := layers[-1].pop("extends", None)) is not None:
        if not isinstance(name, str):
            raise DiptychError(f"{seen[-1]}: extends: {reprlib.repr(name)} is no name of {kind}; give one, or a file")
        # One's own shukla.yaml may extend shukla, the one that comes with diptych.
        endings = ("",) if name == seen[-1].stem else ("", ".yaml")
        beside = (seen[-1].parent / f"{name}{ending}" for ending in endings)
        there = next((path for path in beside if is_file(path)), None)
        seen.append((there or find(name)).resolve())
        if seen[-1] in seen[:-1]:
            raise DiptychError(f"{file}: extends itself by way of {seen[-2].name}; take one of the two out")
        layers.append(read_yaml(seen[-1]))
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values = lay_over(values, layer)
    return values


def lay_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`: mappings that both have are merged name by name, anything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = lay_over(merged[key], value) if both else value
    return merged


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file (safe loader); raises `DiptychError` where there is none."""
    try:
        text = read_text(file)
        if len(text) > LONGEST:
            raise DiptychError(f"{file}: is longer than a million characters, as no settings are; give another file")
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as problem:
        raise DiptychError(f"{file}: is no valid YAML ({' '.join(str(problem).split())})") from None
    except RecursionError:
        raise DiptychError(f"{file}: is no valid YAML (nested too deeply); mend it") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DiptychError(f"{file}: cannot be read ({reason(problem)}); give a YAML file in UTF-8") from None
    except UNREADABLE as problem:
        raise DiptychError(f"{file}: holds a value that cannot be read ({reason(problem)}); mend it") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise DiptychError(f"{file}: must hold settings, one 'name: value' per line")
    return values


class _Loader(yaml.SafeLoader):
    """The safe loader, for files that may come from anyone: each name once, no aliases that grow beyond all bounds."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _parts(node, {}) > LONGEST:
            raise yaml.YAMLError("with its aliases written out it holds more than a million parts")
        return node


def _parts(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values `node` holds once every alias is written out; `known` are those counted before, by id.

    Raises `YAMLError` for a node that holds itself, a name given twice, or text that no file's name can hold.
    """
    if isinstance(node, yaml.ScalarNode):
        try:
            if b"\0" in os.fsencode(node.value):
                raise yaml.YAMLError(f"a NUL in {node.value!r}")
        except UnicodeEncodeError:
            raise yaml.YAMLError(f"half a character in {node.value!r}") from None
        return 1
    line = node.start_mark.line + 1
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError(f"what begins in line {line} holds itself")
        return known[id(node)]
    known[id(node)] = 0  # until it is counted
    inner = list(node.value)
    if isinstance(node, yaml.MappingNode):
        names = Counter(key.value for key, _ in inner if isinstance(key, yaml.ScalarNode))
        twice = [name for name, times in names.items() if times > 1]
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} stands twice in what begins in line {line}")
        inner = [part for entry in inner for part in entry]
    known[id(node)] = 1 + sum(_parts(part, known) for part in inner)
    return known[id(node)]


def settings_from(values: dict[str, Any], where: str) -> TrainSettings:
    """Checked settings; a wrong key is answered with the nearest right one, a wrong value with what is allowed."""
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as problem:
        raise DiptychError(f"{where}: {explain(problem, TrainSettings)}") from None
