"""The methods by name. Adding one is a file here and a line in `METHODS`."""

from diptych.methods.base import Method
from diptych.methods.cyclegan import CycleGAN
from diptych.methods.pix2pix import Pix2Pix
from diptych.methods.shukla import Shukla
from diptych.methods.supervised import Supervised
from diptych.methods.tripathy import Tripathy

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "pix2pix": Pix2Pix,
    "cyclegan": CycleGAN,
    "tripathy": Tripathy,
    "shukla": Shukla,
}
