"""GTA5, "Playing for Data" (Richter et al. 2016): frames of a game, with the ids of Cityscapes."""

from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, first_line
from diptych.importers.cityscapes import CLASSES, IGNORED, LABEL_IDS, LICENSE_PLATE, TRAINED, mapping_notes, rows_of
from diptych.importers.labelled import Labelled, Pair, Split, files_by_stem, find_folders, matched

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
            return {
                split: _ids(folder / "split.mat", f"{split}Ids") for split in splits
            }, f"split by {folder}/split.mat"
        if (folder / "train.txt").is_file():
            listed: dict[Split, set[str] | None] = {
                split: {Path(line).stem for line in (folder / f"{split}.txt").read_text().split()}
                for split in splits
                if (folder / f"{split}.txt").is_file()
            }
            return listed, f"split by the lists in {folder}"
    return {"train": None}, "no split.mat and no train.txt, so all of it is for training"


def _ids(file: Path, key: str) -> set[str]:
    """The frames that a list in MATLAB's format names."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values: Any = loadmat(str(file))[key]
        return {f"{int(value):05}" for value in values.ravel()}
    except (MatReadError, OSError, ValueError, TypeError, KeyError, NotImplementedError) as problem:
        raise DiptychError(f"{file}: holds no list {key} ({first_line(problem)}); delete it or get it again") from None
