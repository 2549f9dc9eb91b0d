"""YAML files -> training settings: the published recipes that stand here, people's own, and those saved in runs."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from diptych.config import TrainSettings, explain
from diptych.errors import DiptychError, nearest


def load_settings(run: Path) -> TrainSettings:
    """The resolved settings of a run; raises `DiptychError` where the folder holds none."""
    file = run / "experiment.yaml"
    if not file.is_file():
        raise DiptychError(f"{run}: holds no run; give the folder that diptych train made")
    return settings_from(read_recipe(file), str(file))


def recipe_file(name: str) -> Path:
    """The YAML file `name`, or the recipe of that name that comes with diptych (such as `"shukla"`)."""
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_recipes()
    if name not in shipped:
        hint = nearest(name, shipped) or ";"
        raise DiptychError(f"--recipe {name}: no such file{hint} recipes that come with diptych: {', '.join(shipped)}")
    return shipped[name]


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with diptych, by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}


def read_recipe(file: Path) -> dict[str, Any]:
    """The settings in a YAML file (safe loader), laid over those of the recipe that its `extends` names.

    Groups of settings, such as weights, are merged name by name. Raises `DiptychError` for a recipe that cannot be read
    or that extends itself.
    """
    layers = [read_yaml(file)]
    seen = [file.resolve()]
    while (name := layers[-1].pop("extends", None)) is not None:
        beside = seen[-1].parent / str(name)
        seen.append((beside if beside.is_file() else recipe_file(str(name))).resolve())
        if seen[-1] in seen[:-1]:
            raise DiptychError(f"{file}: extends itself by way of {seen[-2].name}; take one of the two out")
        layers.append(read_yaml(seen[-1]))
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = values[key] | value if both else value
    return values


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file (safe loader); raises `DiptychError` where there is none."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise DiptychError(f"{file}: cannot be read ({problem})") from None
    except yaml.YAMLError as problem:
        raise DiptychError(f"{file}: is no valid YAML ({' '.join(str(problem).split())})") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise DiptychError(f"{file}: must hold settings, one 'name: value' per line")
    return values


def settings_from(values: dict[str, Any], where: str) -> TrainSettings:
    """Checked settings; a wrong key is answered with the nearest right one, a wrong value with what is allowed."""
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as problem:
        raise DiptychError(f"{where}: {explain(problem, TrainSettings)}") from None
