"""The commands as functions of their settings, a file each.

Every function raises `DiptychError`, one line, for anything that the caller can mend, and writes nothing before its
input is checked.
"""

from diptych.commands.check import check
from diptych.commands.evaluate import evaluate
from diptych.commands.import_dataset import import_dataset
from diptych.commands.import_weights import import_weights
from diptych.commands.pack import pack
from diptych.commands.select import select
from diptych.commands.train import resume, train
from diptych.commands.translate import translate

__all__ = ["check", "evaluate", "import_dataset", "import_weights", "pack", "resume", "select", "train", "translate"]
