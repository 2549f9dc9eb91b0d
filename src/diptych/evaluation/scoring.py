"""Files against files -> one record: what is in metrics.json, what validation logs, what the table shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.errors import DiptychError, some
from diptych.evaluation import classes as class_family
from diptych.evaluation import pictures as picture_family
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.pictures import PictureScores
from diptych.images import (
    Classes,
    Floats,
    class_map_of,
    list_images,
    open_image,
    pixels_of,
    read_class_map,
    read_pixels,
    to_float,
)
from diptych.pairs import same_stem
from diptych.translator import Translator, resized

Progress = Callable[[int, int], None]
OUTPUT_FILTER = "bilinear (antialiased when shrinking)"


@dataclass(frozen=True)
class LabelledFiles:
    """Inputs and their truths, in step."""

    inputs: tuple[Path, ...]
    truths: tuple[Path, ...]


def labelled_files(inputs: Path, truths: Path) -> LabelledFiles:
    """The images of two folders that have the same stem.

    Raises `DiptychError` where an input has no truth: a score over an unsaid part of a folder means nothing.
    """
    names = list_images(inputs)
    partners = same_stem(names, list_images(truths), truths)
    alone = [name for name in names if name not in partners]
    if alone:
        raise DiptychError(
            f"{inputs}: no file of the same stem in {truths} for {some(alone)}; add it or take these out"
        )
    return LabelledFiles(
        tuple(inputs / name for name in names),
        tuple(truths / partners[name] for name in names),
    )


def score_translator(
    translator: Translator, direction: str, files: LabelledFiles, progress: Progress | None = None
) -> dict[str, Any]:
    """Translate every input at the training size and score it at its truth's size."""
    classes = translator.target_classes(direction)
    scores = ClassScores(classes) if classes else PictureScores()
    for done, (source, target) in enumerate(zip(files.inputs, files.truths, strict=True), start=1):
        truth = read_class_map(target, classes) if classes else read_pixels(target)
        output = translator.output(open_image(source), direction, size=(truth.shape[1], truth.shape[0]))
        if isinstance(scores, ClassScores):
            scores.add_map(translator.class_map(output, direction), truth)
        else:
            scores.add(output, truth)  # (3, H, W)
        if progress is not None:
            progress(done, len(files.inputs))
    width, height = translator.spec.size
    source_filter = "nearest" if translator.spec.classes[direction[0]] else "bicubic"
    return _record(scores, f"input {source_filter} to {width}x{height}; output {OUTPUT_FILTER} to the truth's size")


def score_folder(
    generated: Path, truths: Path, classes: Classes | None, progress: Progress | None = None
) -> dict[str, Any]:
    """Score images of one folder against those of the same stem in another.

    Where `classes` are given, grey and palette images hold class ids (resized by nearest neighbour to the truth's
    size) and RGB images continuous colours (resized bilinearly, then each pixel takes the nearest class colour).
    """
    files = labelled_files(generated, truths)
    scores = ClassScores(classes) if classes else PictureScores()
    for done, (source, target) in enumerate(zip(files.inputs, files.truths, strict=True), start=1):
        image = open_image(source)
        if isinstance(scores, ClassScores):
            assert classes is not None
            truth = read_class_map(target, classes)
            size = (truth.shape[1], truth.shape[0])
            if image.mode in ("P", "L", "1", "I", "I;16"):
                scores.add_map(class_map_of(image, classes, str(source), size), truth)
            else:
                scores.add(_continuous(image, size), truth)
        else:
            truth = read_pixels(target)
            scores.add(_continuous(image, (truth.shape[1], truth.shape[0])), truth)
        if progress is not None:
            progress(done, len(files.inputs))
    return _record(scores, f"{OUTPUT_FILTER}, class ids by nearest neighbour, to the truth's size")


def _continuous(image: Image.Image, size: tuple[int, int]) -> Floats:
    """A saved translation as its generator gave it, float32 `(3, H, W)`, at `size` = (width, height)."""
    values = torch.from_numpy(to_float(pixels_of(image)))[None]
    return np.asarray(resized(values, size)[0].numpy())


def _record(scores: ClassScores | PictureScores, resize_filter: str) -> dict[str, Any]:
    by_class = isinstance(scores, ClassScores)
    result = scores.result()
    return {
        "scores": {name: value for name, value in result.items() if name != "n"},
        "n": result["n"],
        "primary": scores.primary,
        "protocol": class_family.PROTOCOL if by_class else picture_family.PROTOCOL,
        "filter": resize_filter,
    }


def flat_scores(record: dict[str, Any]) -> dict[str, float]:
    """The single numbers of a record, by name: what a curve or a table row can show."""
    return {name: value for name, value in record["scores"].items() if isinstance(value, float)}


def table_rows(record: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Name and value of every number of a record, per class last."""
    rows = [(name.replace("_", " "), f"{value:.4f}") for name, value in flat_scores(record).items()]
    for name, row in record["scores"].get("per_class", {}).items():
        iou = "absent" if row["iou"] is None else f"{row['iou']:.4f}"
        rows.append((f"IoU {name}", iou))
    return rows
