"""A YAML grid of runs -> runs that may be stopped at any instant -> one table beside published numbers, one page."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, nearest
from diptych.reading import is_file
from diptych.recipes import read_yaml


def study_file(name: str) -> Path:
    """The YAML file `name`, or the study of that name that comes with diptych."""
    if is_file(Path(name)):
        return Path(name)
    shipped = shipped_studies()
    if name not in shipped:
        hint = nearest(name, shipped) or ";"
        raise DiptychError(f"{name}: no such file{hint} studies that come with diptych: {', '.join(shipped)}")
    return shipped[name]


def shipped_studies() -> dict[str, Path]:
    """The studies that come with diptych, by name."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "shipped").glob("*.yaml"))}


def read_study(file: Path) -> dict[str, Any]:
    """What a study's YAML file says, laid over the study that its `extends` names; mappings are merged name by name.

    Raises `DiptychError` for a study that cannot be read or that extends itself.
    """
    layers = [read_yaml(file)]
    seen = [file.resolve()]
    while (name := layers[-1].pop("extends", None)) is not None:
        if not isinstance(name, str):
            raise DiptychError(f"{seen[-1]}: extends: {reprlib.repr(name)} is no name of a study; give one, or a file")
        beside = [seen[-1].parent / name, seen[-1].parent / f"{name}.yaml"]
        there = next((path for path in beside if is_file(path)), None)
        seen.append((there or study_file(name)).resolve())
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
