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
    paired: bool = True


TO_HAVE = "give --download, or its folder as unpacked"


def _side_by_side(about: str, name: str) -> Importer:
    return Importer(about, ready.read_side_by_side, TO_HAVE, (f"{ready.PIX2PIX}/{name}.tar.gz",))


SCENES = "photos (a) and class maps (b)"
IMPORTERS: dict[str, Importer] = {
    "cityscapes": Importer(SCENES, cityscapes.read, cityscapes.WHERE),
    "camvid": Importer(SCENES, camvid.read, camvid.WHERE, camvid.ARCHIVES),
    "gta5": Importer(SCENES, gta5.read, gta5.WHERE, gta5.ARCHIVES),
    "synscapes": Importer(SCENES, synscapes.read, synscapes.WHERE),
    "mapillary-vistas": Importer(SCENES, mapillary.read, mapillary.WHERE),
    "facades": _side_by_side("photos (a) and drawn labels (b)", "facades"),
    "maps": _side_by_side("aerial photos (a) and maps (b)", "maps"),
    "edges2shoes": _side_by_side("edges (a) and shoes (b)", "edges2shoes"),
    "horse2zebra": Importer(
        "horses (a) and zebras (b), no pairs",
        ready.read_two_folders,
        TO_HAVE,
        (f"{ready.CYCLEGAN}/horse2zebra.zip",),
        paired=False,
    ),
}
