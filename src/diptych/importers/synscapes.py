"""Synscapes (Wrenninge and Unger 2018): rendered road scenes, with the ids of Cityscapes."""

from pathlib import Path

from diptych.errors import DiptychError
from diptych.importers.cityscapes import CLASSES, IGNORED, LABEL_IDS, LICENSE_PLATE, TRAINED, mapping_notes, rows_of
from diptych.importers.labelled import Labelled, Pair, files_by_stem, find_folders, matched

WHERE = "ask for it at https://synscapes.on.liu.se, and unpack it so that img/rgb and img/class stand in one folder"
ROWS = rows_of({**LABEL_IDS, LICENSE_PLATE: None})


def read(source: Path) -> Labelled:
    """All scenes, as training images: there is no official split."""
    for folder in find_folders(source, "class"):
        if (folder.parent / "rgb").is_dir():
            photos, labels = files_by_stem(folder.parent / "rgb"), files_by_stem(folder)
            break
    else:
        raise DiptychError(f"{source}: holds no img/rgb and img/class; {WHERE}")
    pairs = [Pair(name, photos[name], labels[name], ROWS) for name in matched(photos, labels, str(source))]
    sources = [(name, name) for name, _ in TRAINED.values()] + [(name, None) for name in IGNORED.values()]
    notes = (*mapping_notes([*sources, ("license plate", None)]), "it has no splits, so all of it is for training")
    return Labelled({"train": pairs}, CLASSES, notes)
