"""GTA5, "Playing for Data" (Richter et al. 2016): frames of a game, with the ids of Cityscapes."""

import math
from pathlib import Path

from diptych.errors import DiptychError, reason
from diptych.importers.cityscapes import CLASSES, IGNORED, LABEL_IDS, LICENSE_PLATE, TRAINED, mapping_notes, rows_of
from diptych.importers.labelled import Labelled, Pair, Split, files_by_stem, find_folders, matched
from diptych.importers.matlab import read_vectors
from diptych.reading import read_text

SERVER = "https://download.visinf.tu-darmstadt.de/data/from_games"
WHERE = f"give --download (57 GB in parts), or unpack the images, labels and split of {SERVER}/ into one folder"
PARTS = [f"{SERVER}/data/{part:02}_{what}.zip" for part in range(1, 11) for what in ("images", "labels")]
ARCHIVES = (*PARTS, f"{SERVER}/code/read_mapping.zip")
ROWS = rows_of({**LABEL_IDS, LICENSE_PLATE: None})


def read(source: Path) -> Labelled:
    """All frames, split by split.mat or by train.txt, val.txt and test.txt where these are."""
    photos: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for found, name in ((photos, "images"), (labels, "labels")):
        for folder in find_folders(source, name):
            found |= files_by_stem(folder)
        if not found:
            raise DiptychError(f"{source}: holds no folder {name} with images in it; {WHERE}")
    # Who has made class maps of train ids keeps them beside the others.
    ready = {name.removesuffix("_labelTrainIds"): file for name, file in labels.items() if "_labelTrainIds" in name}
    labels = {name: file for name, file in labels.items() if "_labelTrainIds" not in name}
    names = matched(photos, labels, str(source))
    splits: dict[Split, list[Pair]] = {}
    listed, note = _listed(source)
    for split, wanted in listed.items():
        kept = [name for name in names if wanted is None or name in wanted]
        if kept:
            splits[split] = [
                Pair(name, photos[name], ready[name]) if name in ready else Pair(name, photos[name], labels[name], ROWS)
                for name in kept
            ]
    sources = [(name, name) for name, _ in TRAINED.values()] + [(name, None) for name in IGNORED.values()]
    notes = (*mapping_notes([*sources, ("license plate", None)]), note)
    return Labelled(splits, CLASSES, notes, leave_out_misfits=True)


def _listed(source: Path) -> tuple[dict[Split, set[str] | None], str]:
    """The names of each split, None for all that there is; and where that is from."""
    splits: tuple[Split, ...] = ("train", "val", "test")
    mappings = find_folders(source, "read_mapping")
    for folder in (source, *mappings, *(folder / "read_mapping" for folder in mappings)):
        if (folder / "split.mat").is_file():
            ids = _ids(folder / "split.mat", [f"{split}Ids" for split in splits])
            return dict(zip(splits, ids, strict=True)), f"split by {folder}/split.mat"
        if (folder / "train.txt").is_file():
            listed: dict[Split, set[str] | None] = {
                split: _names(folder / f"{split}.txt") for split in splits if (folder / f"{split}.txt").is_file()
            }
            return listed, f"split by the lists in {folder}"
    return {"train": None}, "no split.mat and no train.txt, so all of it is for training"


def _names(file: Path) -> set[str]:
    """The frames that a text names, one on a line."""
    try:
        lines = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DiptychError(
            f"{file}: cannot be read ({reason(problem)}); write the names of frames, a line each"
        ) from None
    return {Path(line.strip()).stem for line in lines if line.strip()}


def _ids(file: Path, keys: list[str]) -> list[set[str]]:
    """The frames that each of the lists `keys` in MATLAB's format names."""
    try:
        lists = read_vectors(file, set(keys))
        for key in keys:
            if key not in lists:
                raise ValueError(f"there is no {key}")
            if not all(0 <= value < math.inf and value == int(value) for value in lists[key].tolist()):
                raise ValueError(f"{key} are no numbers of frames")
    except (OSError, ValueError) as problem:
        raise DiptychError(
            f"{file}: holds no lists of frames ({reason(problem)}); put train.txt and val.txt, which name a frame "
            "on each line, in its place"
        ) from None
    return [{f"{int(value):05}" for value in lists[key].tolist()} for key in keys]
