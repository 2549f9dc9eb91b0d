"""Public datasets as their authors lay them out -> what `--data` takes. One file per dataset or family."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diptych.importers import camvid, cityscapes, gta5, mapillary, ready, synscapes
from diptych.importers.labelled import Labelled
from diptych.layouts import Layout


@dataclass(frozen=True)
class Importer:
    """How a dataset is read, and how it is come by."""

    about: str  # what a and b are
    read: Callable[[Path], Labelled | Layout]
    where: str  # how a person gets it
    archives: tuple[str, ...] = ()  # addresses, where it may be had without asking


def _ready(about: str, address: str) -> Importer:
    return Importer(about, ready.read, "give --download, or its folder as unpacked", (address,))


SCENES = "photos (a) and class maps (b)"
IMPORTERS: dict[str, Importer] = {
    "cityscapes": Importer(SCENES, cityscapes.read, cityscapes.WHERE),
    "camvid": Importer(SCENES, camvid.read, camvid.WHERE, camvid.ARCHIVES),
    "gta5": Importer(SCENES, gta5.read, gta5.WHERE, gta5.ARCHIVES),
    "synscapes": Importer(SCENES, synscapes.read, synscapes.WHERE),
    "mapillary-vistas": Importer(SCENES, mapillary.read, mapillary.WHERE),
    "facades": _ready("photos (a) and drawn labels (b)", f"{ready.PIX2PIX}/facades.tar.gz"),
    "maps": _ready("aerial photos (a) and maps (b)", f"{ready.PIX2PIX}/maps.tar.gz"),
    "edges2shoes": _ready("edges (a) and shoes (b)", f"{ready.PIX2PIX}/edges2shoes.tar.gz"),
    "horse2zebra": _ready("horses (a) and zebras (b), no pairs", f"{ready.CYCLEGAN}/horse2zebra.zip"),
}
