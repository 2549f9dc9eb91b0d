"""Mapillary Vistas (Neuhold et al. 2017), versions 1.1 to 2.0, mapped to the classes of Cityscapes."""

import re
from pathlib import Path

from diptych.errors import DiptychError
from diptych.importers.cityscapes import CLASSES, mapping_notes, rows_of
from diptych.importers.labelled import Labelled, Pair, Split, files_by_stem, find_folders, matched
from diptych.reading import read_json

WHERE = "register at https://www.mapillary.com/dataset/vistas, and unpack mapillary-vistas-dataset_public_v*.zip"
CITYSCAPES = {
    "construction--flat--road": "road",
    "construction--flat--bike-lane": "road",
    "construction--flat--crosswalk-plain": "road",
    "construction--flat--service-lane": "road",
    "marking": "road",
    "marking-only": "road",
    "object--catch-basin": "road",
    "object--manhole": "road",
    "object--pothole": "road",
    "construction--flat--sidewalk": "sidewalk",
    "construction--barrier--curb": "sidewalk",
    "construction--flat--curb-cut": "sidewalk",
    "construction--flat--pedestrian-area": "sidewalk",
    "construction--flat--traffic-island": "sidewalk",
    "construction--structure--building": "building",
    "construction--structure--garage": "building",
    "construction--barrier--wall": "wall",
    "construction--barrier--fence": "fence",
    "object--support--pole": "pole",
    "object--support--utility-pole": "pole",
    "object--traffic-light": "traffic light",
    "object--traffic-sign--front": "traffic sign",
    "object--traffic-sign--direction-front": "traffic sign",
    "object--traffic-sign--information-parking": "traffic sign",
    "object--traffic-sign--temporary-front": "traffic sign",
    "nature--vegetation": "vegetation",
    "nature--terrain": "terrain",
    "nature--sky": "sky",
    "human--person": "person",
    "human--rider": "rider",
    "object--vehicle--car": "car",
    "object--vehicle--truck": "truck",
    "object--vehicle--bus": "bus",
    "object--vehicle--on-rails": "train",
    "object--vehicle--motorcycle": "motorcycle",
    "object--vehicle--bicycle": "bicycle",
}
"""Mapillary's class, or the group of classes that it begins with -> the class under which Cityscapes has such things;
what Cityscapes ignores (guard rails, bridges, parking, the backs of signs, caravans), and all else, is void."""


def read(source: Path) -> Labelled:
    """The training and validation images, by the class list that lies beside them; version 2.0 where both are."""
    root = next((folder.parent for folder in find_folders(source, "training")), None)
    configs = sorted(root.glob("config*.json"), key=_version, reverse=True) if root is not None else []
    if root is None or not configs:
        raise DiptychError(f"{source}: holds no folder training with a config*.json beside it; {WHERE}")
    config = next(
        (file for file in configs if (root / "training" / _version(file) / "labels").is_dir()),
        configs[0],
    )
    below = _version(config) if (root / "training" / _version(config) / "labels").is_dir() else ""
    names = _class_names(config)
    mapped = {id_: cityscapes_class(name) for id_, name in enumerate(names)}
    rows = rows_of(mapped)
    splits: dict[Split, list[Pair]] = {}
    official: tuple[tuple[Split, str], ...] = (("train", "training"), ("val", "validation"))
    for split, name in official:
        photo_folder, label_folder = root / name / "images", root / name / below / "labels"
        if not photo_folder.is_dir() or not label_folder.is_dir():
            absent = label_folder if photo_folder.is_dir() else photo_folder
            raise DiptychError(f"{absent}: no such folder; is {root} unpacked whole?")
        photos, labels = files_by_stem(photo_folder), files_by_stem(label_folder)
        splits[split] = [
            Pair(stem, photos[stem], labels[stem], rows) for stem in matched(photos, labels, str(root / name))
        ]
    note = f"{config.name}: {len(names)} classes become those of Cityscapes; test has no labels: left out"
    return Labelled(splits, CLASSES, (note, *mapping_notes((name, mapped[id_]) for id_, name in enumerate(names))))


def cityscapes_class(name: str) -> str | None:
    """The Cityscapes class of a class of Mapillary, None for void."""
    parts = name.split("--")
    begins = ("--".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((CITYSCAPES[begin] for begin in begins if begin in CITYSCAPES), None)


def _version(config: Path) -> str:
    """ "v2.0" of config_v2.0.json, nothing of config.json."""
    found = re.fullmatch(r"config_(v[0-9.]+)", config.stem)
    return found[1] if found else ""


def _class_names(config: Path) -> list[str]:
    """The names of the classes by id."""
    try:
        names = [str(label["name"]) for label in read_json(config)["labels"]]
    except (KeyError, TypeError) as problem:
        raise DiptychError(f"{config}: is no list of classes ({problem}); get the dataset's own again") from None
    known = {name for name in CLASSES.names if name != "void"}
    if len(names) > 255 or len(known & {cityscapes_class(name) for name in names}) < len(known) // 2:
        raise DiptychError(f"{config}: its {len(names)} classes are not those of Mapillary Vistas; get it again")
    return names
