"""Datasets of pix2pix and CycleGAN: they can be used as they lie, so that an index is all they need."""

from pathlib import Path

from diptych.errors import DiptychError
from diptych.importers.labelled import find_folders
from diptych.layouts import Layout, read_layout

PIX2PIX = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
CYCLEGAN = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets"


def read(source: Path) -> Layout:
    """The layout of the folder in `source` that holds train, or trainA and trainB."""
    for name in ("trainA", "train"):
        for folder in find_folders(source, name):
            return read_layout(folder.parent)
    raise DiptychError(f"{source}: holds no folder train (side-by-side images), or trainA and trainB; give it whole")
