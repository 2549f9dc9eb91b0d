"""Networks that read the classes of a photo, and which of their classes are which of the truth's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from diptych.errors import DiptychError, first_line, nearest, some
from diptych.features.backbone import UNFIT, files_digest, load_pretrained
from diptych.images import Classes, rgb
from diptych.pairs import read_two_columns
from diptych.translator import Translator, checkpoint_folder

NAMES_IN_A_MESSAGE = 30  # all of Cityscapes' fit, the 150 of ADE20K would fill a screen


class Segmenter(Protocol):
    """Reads photos; `identity` changes with what it is made of."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its classes, in the order of the indices that `read` answers with."""

    @property
    def identity(self) -> str:
        """What it is, and the SHA-256 of its weights and configuration."""

    def read(self, image: Image.Image) -> NDArray[np.int64]:
        """The class index of each pixel of a photo, `(H, W)` at the photo's own size."""


def load_segmenter(name: str, device: str) -> Segmenter:
    """A run (its best checkpoint) or saved translator that leads from photos to a class map, or a transformers model.

    The latter is whatever AutoModelForSemanticSegmentation knows, by hub name or local folder. Raises `DiptychError`
    where weights cannot be fetched, do not fit, or belong to something else.
    """
    if any((Path(name) / file).is_file() for file in ("run.json", "checkpoints.json", "translator.json")):
        return _load_run(Path(name), device)
    loaded = load_pretrained(name, device, "AutoModelForSemanticSegmentation", "semantic segmenter")
    labels = loaded.network.config.id2label
    return PretrainedSegmenter(
        names=tuple(str(labels.get(index, f"LABEL_{index}")) for index in range(loaded.network.config.num_labels)),
        identity=f"{type(loaded.network).__name__} {loaded.digest}",
        name=name,
        network=loaded.network,
        processor=loaded.processor,
    )


@dataclass(frozen=True)
class PretrainedSegmenter:
    """A segmentation model from transformers with its image processor."""

    names: tuple[str, ...]
    identity: str
    name: str  # as the person calls it
    network: Any
    processor: Any

    def read(self, image: Image.Image) -> NDArray[np.int64]:
        """Its processor resizes the photo; the logits are resized bilinearly to the photo's size, the largest wins.

        Raises `DiptychError` where the network cannot take what the processor makes of the photo.
        """
        width, height = image.size
        try:
            # A part cut out, or a rim added, would be stretched over the whole photo.
            shown = self.processor(images=[rgb(image)], do_center_crop=False, do_pad=False, return_tensors="pt")
            with torch.inference_mode():
                logits = self.network(shown["pixel_values"].to(self.network.device)).logits  # (1, K, h, w)
        except UNFIT as problem:
            raise DiptychError(
                f"{self.name}: cannot read a photo of {width}x{height} ({first_line(problem)}); mend its "
                "preprocessor_config.json or give another segmenter"
            ) from None
        logits = F.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=False)
        answer: NDArray[np.int64] = logits[0].argmax(0).cpu().numpy()
        return answer


@dataclass(frozen=True, eq=False)
class RunSegmenter:
    """A translator that leads from photos to a class map."""

    names: tuple[str, ...]
    identity: str
    translator: Translator
    direction: str

    def read(self, image: Image.Image) -> NDArray[np.int64]:
        """Rows of the target's classes, as the translator is scored: at the training size, then at the photo's."""
        output = self.translator.output(image, self.direction)
        return self.translator.class_map(output, self.direction).astype(np.int64)


def _load_run(folder: Path, device: str) -> RunSegmenter:
    saved = checkpoint_folder(folder, "best")
    translator = Translator.from_pretrained(saved, device=device)
    for direction in translator.generators:
        classes = translator.target_classes(direction)
        if classes is not None and translator.spec.classes[direction[0]] is None:
            files = [saved / "translator.json", *(saved / direction / n for n in ("config.json", "model.safetensors"))]
            return RunSegmenter(classes.names, f"diptych {direction} {files_digest(files)}", translator, direction)
    raise DiptychError(
        f"{folder}: has not learned to turn photos into a class map; give a run that was trained in that direction, "
        "with --b-classes"
    )


@dataclass(frozen=True, eq=False)
class Match:
    """What a segmenter's answers and the truth's class rows become before one is scored against the other."""

    classes: Classes  # those of the truth that are scored, then void
    of_truth: NDArray[np.uint8]  # row of the truth's classes -> row of `classes`
    of_segmenter: NDArray[np.uint8]  # class index of the segmenter -> row of `classes`
    outside: tuple[str, ...]  # the segmenter's classes that are none of the scored: wrong wherever it sees them
    left_out: tuple[str, ...]  # the truth's classes that a mapping says no segmenter class stands for: not scored


def match_classes(names: Sequence[str], classes: Classes, mapping: Path | None) -> Match:
    """Which of the truth's `classes` each of a segmenter's classes `names` is.

    The same names are the same classes; case does not count, and spaces, underscores and hyphens are equal. Several
    names may be one class. A `mapping` file goes before the names: its columns are segmenter and class; an empty class
    says that the segmenter's is none of the truth's, an empty segmenter that the truth's class is not to be scored.

    Raises `DiptychError` where a class of the truth has no match, a name has several, or the mapping is wrong.
    """
    given, left_out = _read_mapping(mapping, names, classes) if mapping is not None else ({}, set())
    found = [given[place] if place in given else _row_called(name, classes) for place, name in enumerate(names)]
    alone = [classes.names[row] for row in classes.kept if row not in left_out and row not in found]
    if alone:
        raise DiptychError(
            f"the segmenter has no class called {some(alone, NAMES_IN_A_MESSAGE)}; say in a --mapping CSV with the "
            f"columns segmenter,class which of its own it is: {some(names, NAMES_IN_A_MESSAGE)}"
        )
    kept = [row for row in classes.kept.tolist() if row not in left_out]
    if not kept:
        raise DiptychError(f"{mapping}: leaves no class to score; name the segmenter's class for some of them")
    # A void of its own: what the segmenter sees outside these classes is an answer, though never the right one.
    void = len(kept)
    row_of = {row: place for place, row in enumerate(kept)}
    return Match(
        Classes(
            (*(classes.ids[row] for row in kept), min(set(range(257)) - set(classes.ids))),
            (*(classes.names[row] for row in kept), "void"),
            np.concatenate([classes.colours[kept], np.zeros((1, 3), np.uint8)]),
            void,
        ),
        np.array([row_of.get(row, void) for row in range(len(classes))], np.uint8),
        np.array([void if row is None else row_of.get(row, void) for row in found], np.uint8),
        tuple(name for name, row in zip(names, found, strict=True) if row is None or row in left_out),
        tuple(classes.names[row] for row in sorted(left_out)),
    )


def _read_mapping(path: Path, names: Sequence[str], classes: Classes) -> tuple[dict[int, int | None], set[int]]:
    """Class index of the segmenter -> row of `classes`, or None for none of them; and the rows that are left out."""
    columns, rows = read_two_columns(path, "segmenter", "class")
    if not {"segmenter", "class"} <= set(columns):
        raise DiptychError(f"{path}: lacks a column; its first line must be segmenter,class")
    given: dict[int, int | None] = {}
    left_out = set()
    for name, class_name in rows:
        row = _row_called(class_name, classes) if class_name else None
        if class_name and row is None:
            hint = nearest(class_name, classes.names) or f"; it knows {some(classes.names, NAMES_IN_A_MESSAGE)}"
            raise DiptychError(f"{path}: the truth has no class {class_name!r}{hint}")
        places = _called(name, names) if name else []
        if name and not places:
            hint = nearest(name, names) or f"; it knows {some(names, NAMES_IN_A_MESSAGE)}"
            raise DiptychError(f"{path}: the segmenter has no class {name!r}{hint}")
        if not name and row is not None:
            left_out.add(row)
        for place in places:
            if given.get(place, row) != row:
                raise DiptychError(f"{path}: {name!r} is mapped to two classes; keep one of the lines")
            given[place] = row
    return given, left_out


def _row_called(name: str, classes: Classes) -> int | None:
    found = _called(name, classes.names)
    if len(found) > 1:
        raise DiptychError(
            f"{name!r} may be any of the classes {some(repr(classes.names[row]) for row in found)}; write it as one of "
            "them in a --mapping CSV with the columns segmenter,class"
        )
    return found[0] if found else None


def _called(name: str, names: Sequence[str]) -> list[int]:
    """The places of `name` in `names`: exactly it, else what differs in case, spaces, underscores and hyphens only."""
    exact = [place for place, other in enumerate(names) if other == name]
    return exact or [place for place, other in enumerate(names) if _plain(other) == _plain(name)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
