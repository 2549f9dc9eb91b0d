"""`diptych check`: look a dataset over before training on it."""

import os
from pathlib import Path
from typing import Any

from diptych import __version__
from diptych.checking.checked import Checked
from diptych.checking.checked import check as look_over
from diptych.checking.page import write_check_page
from diptych.checking.survey import Place
from diptych.config import CheckSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import check_out, write_json
from diptych.images import Classes, check_apart, read_classes
from diptych.layouts import read_layout

SPLITS = ("train", "val", "test", "unpaired")
FROM_LAYOUT = ("a", "b", "val_a", "val_b", "test_a", "test_b", "a_classes", "b_classes", "pairs")


def check(settings: CheckSettings, display: Display | None = None) -> Checked:
    """Look over every image of a dataset; writes check.html and check.json into `settings.out`."""
    display = display or Silent()
    settings = _with_data(settings)
    there = [str(settings.out / name) for name in ("check.html", "check.json") if (settings.out / name).exists()]
    if there and not settings.overwrite:
        raise DiptychError(f"{there[0]} exists; choose another --out or give --overwrite")
    check_out(settings.out)
    places = _places(settings)
    check_apart(settings.out, *(place.folder for place in places))
    checked = look_over(places, settings.pairs, display.count, display.note)
    title = settings.data or os.path.commonpath([place.folder.absolute() for place in places])
    settings.out.mkdir(parents=True, exist_ok=True)
    write_check_page(settings.out / "check.html", Path(title).resolve().name, checked)
    write_json(settings.out / "check.json", {"format": 1, "diptych": __version__, **checked.record()})
    return checked


def _with_data(settings: CheckSettings) -> CheckSettings:
    """The settings with what DATA stands for in its place."""
    if settings.data is not None:
        layout = read_layout(settings.data, settings.swap)
        found: dict[str, Any] = {name: getattr(layout, name) for name in FROM_LAYOUT if getattr(settings, name) is None}
        settings = settings.model_copy(update=found)
    elif settings.swap:
        raise DiptychError("--swap is about DATA; give it, or exchange --a and --b")
    if settings.a is None:
        raise DiptychError("check needs DATA, or --a, the folder of domain a")
    return settings


def _places(settings: CheckSettings) -> list[Place]:
    tables: dict[str, Classes | None] = {
        "a": None if settings.a_classes is None else read_classes(settings.a_classes),
        "b": None if settings.b_classes is None else read_classes(settings.b_classes),
    }
    channels = {"a": settings.a_channels, "b": settings.b_channels}
    places = []
    for split in SPLITS:
        for side in ("a", "b"):
            folder = getattr(settings, side if split == "train" else f"{split}_{side}")
            if folder is not None:
                places.append(Place(split, side, folder, tables[side], channels[side]))
    return places
