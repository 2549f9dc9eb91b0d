"""A YAML grid of runs -> runs that may be stopped at any instant -> one table beside published numbers, one page."""

from pathlib import Path
from typing import Any

from diptych.recipes import file_named, read_layers


def study_file(name: str) -> Path:
    """The YAML file `name`, or the study of that name that comes with diptych."""
    return file_named(name, shipped_studies(), "studies")


def shipped_studies() -> dict[str, Path]:
    """The studies that come with diptych, by name."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "shipped").glob("*.yaml"))}


def read_study(file: Path) -> dict[str, Any]:
    """What a study's YAML file says, laid over the study that its `extends` names; see `read_layers`."""
    return read_layers(file, study_file, "a study")
