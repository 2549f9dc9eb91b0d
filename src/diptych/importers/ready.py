"""Datasets of pix2pix and CycleGAN: they can be used as they lie, so that an index is all they need."""

from pathlib import Path

from diptych.errors import DiptychError
from diptych.importers.labelled import find_folders
from diptych.layouts import BESIDE, HALVES, Layout, recognise

PIX2PIX = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
CYCLEGAN = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets"


def read_side_by_side(source: Path) -> Layout:
    """The layout of the folder in `source` that holds train of side-by-side images.

    CycleGAN's form of such a dataset is refused: it calls the images of a pair 1_A and 1_B, so that the pairs would be
    lost.
    """
    for folder in find_folders(source, "train"):
        return recognise(folder.parent, HALVES)
    raise DiptychError(f"{source}: holds no folder train of side-by-side images; give the dataset as pix2pix has it")


def read_two_folders(source: Path) -> Layout:
    """The layout of the folder in `source` that holds trainA and trainB."""
    for folder in find_folders(source, "trainA"):
        return recognise(folder.parent, BESIDE)
    raise DiptychError(f"{source}: holds no folders trainA and trainB; give the dataset as CycleGAN has it")
