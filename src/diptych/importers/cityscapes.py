"""Cityscapes (Cordts et al. 2016): leftImg8bit and gtFine; and its classes, which other road scenes are mapped to."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from diptych.errors import DiptychError
from diptych.images import Classes
from diptych.importers.labelled import Labelled, Pair, Rows, Split, find_folders, matched

WHERE = (
    "register at https://www.cityscapes-dataset.com, and unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip into one folder"
)
TRAINED = {  # id in labelIds: name and colour of each of the 19 classes, in the order of their train ids, from 0
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
IGNORED = {
    0: "unlabeled",
    1: "ego vehicle",
    2: "rectification border",
    3: "out of roi",
    4: "static",
    5: "dynamic",
    6: "ground",
    9: "parking",
    10: "rail track",
    14: "guard rail",
    15: "bridge",
    16: "tunnel",
    18: "polegroup",
    29: "caravan",
    30: "trailer",
}
LICENSE_PLATE = 34  # -1 in the official table, so that Cityscapes' own files do not hold it; those of others do
VOID_ID = 255

CLASSES = Classes(
    ids=(*range(len(TRAINED)), VOID_ID),
    names=(*(name for name, _ in TRAINED.values()), "void"),
    colours=np.array([*(colour for _, colour in TRAINED.values()), (0, 0, 0)], np.uint8),
    void=len(TRAINED),
)
"""The 19 classes by train id, and void for all that evaluations ignore."""


def rows_of(classes: Mapping[int, str | None]) -> Rows:
    """The lookup table of a dataset: its id -> the row of `CLASSES` of that name, void's for None."""
    rows = np.full(256, -1, np.int16)
    for id_, name in classes.items():
        rows[id_] = len(TRAINED) if name is None else CLASSES.names.index(name)
    return rows


LABEL_IDS = {**{id_: name for id_, (name, _) in TRAINED.items()}, **dict.fromkeys(IGNORED, None)}
ROWS = rows_of(LABEL_IDS)


def mapping_notes(pairs: Iterable[tuple[str, str | None]]) -> tuple[str, ...]:
    """A line for each Cityscapes class: which classes of a dataset become it."""
    sources: dict[str, list[str]] = {name: [] for name in CLASSES.names}
    for source, target in pairs:
        sources[target or "void"].append(source)
    return tuple(f"{name} <- {', '.join(found) or '(nothing)'}" for name, found in sources.items())


def read(source: Path) -> Labelled:
    """The training and validation images of `source`; those for testing have no labels that are known."""
    photo_folders, label_folders = find_folders(source, "leftImg8bit"), find_folders(source, "gtFine")
    if not photo_folders or not label_folders:
        absent = "gtFine" if photo_folders else "leftImg8bit"
        raise DiptychError(f"{source}: holds no folder {absent}; {WHERE}")
    splits: dict[Split, list[Pair]] = {}
    linked = 0
    for split in ("train", "val"):
        photos = {
            file.name.removesuffix("_leftImg8bit.png"): file
            for folder in photo_folders
            for file in folder.glob(f"{split}/*/[!.]*_leftImg8bit.png")
        }
        labels = {
            file.name.removesuffix("_gtFine_labelIds.png"): file
            for folder in label_folders
            for file in folder.glob(f"{split}/*/[!.]*_gtFine_labelIds.png")
        }
        pairs = []
        for name in matched(photos, labels, f"{source}: {split}"):
            ready = labels[name].with_name(f"{name}_gtFine_labelTrainIds.png")
            linked += ready.is_file()
            pairs.append(
                Pair(name, photos[name], ready) if ready.is_file() else Pair(name, photos[name], labels[name], ROWS)
            )
        if pairs:
            splits[split] = pairs
    notes = ["labelIds become the 19 train ids, all that evaluations ignore becomes void; test has no labels: left out"]
    if linked:
        notes.append(f"{linked} class maps of train ids are there already and are linked")
    return Labelled(splits, CLASSES, tuple(notes))
