"""Files against files -> what was measured of every image, and its record, as validation logs it.

Several processes share the images out among them; each then has the whole.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.bands import Bands
from diptych.errors import DiptychError, some
from diptych.evaluation import bootstrap
from diptych.evaluation.bootstrap import Numbers
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.pictures import PictureScores, image_means
from diptych.fitting import in_words
from diptych.images import (
    RGB,
    Classes,
    ClassMap,
    Floats,
    PixelFormat,
    Pixels,
    class_map_of,
    convertible,
    file_suffix,
    list_images,
    open_image,
    pixels_of,
    read_class_map,
    read_header,
    read_pixels,
    to_float,
    to_pixels,
    write_pixels,
)
from diptych.pairs import same_stem
from diptych.processes import shared_out
from diptych.translator import Translator, resized

Progress = Callable[[int, int], None]
OUTPUT_FILTER = "bilinear (antialiased when shrinking)"


@dataclass(frozen=True)
class LabelledFiles:
    """Inputs and their truths, in step."""

    inputs: tuple[Path, ...]
    truths: tuple[Path, ...]
    truths_left_out: int = 0  # those that no input belongs to


def labelled_files(inputs: Path, truths: Path) -> LabelledFiles:
    """The images of two folders that have the same stem.

    Raises `DiptychError` where an input has no truth: a score over an unsaid part of a folder means nothing.
    """
    names, there_are = list_images(inputs), list_images(truths)
    partners = same_stem(names, there_are, truths)
    alone = [name for name in names if name not in partners]
    if alone:
        raise DiptychError(
            f"{inputs}: no file of the same stem in {truths} for {some(alone)}; add it or take these out"
        )
    return LabelledFiles(
        tuple(inputs / name for name in names),
        tuple(truths / partners[name] for name in names),
        len(there_are) - len(names),
    )


@dataclass(frozen=True)
class Translation:
    """An input translated, at the truth's size."""

    colours: Callable[[], Floats]  # (C, H, W) in [-1, 1]
    rows: ClassMap | None  # (H, W), where the target is a class map


Translate = Callable[[Path, tuple[int, int]], Translation]
"""Input file, (width, height) of its truth -> the translation."""


@dataclass(frozen=True)
class Scored:
    """What was measured of each image, and the files that were compared, where they were kept."""

    scores: ClassScores | PictureScores | None  # None where nothing is paired
    filter: str
    form: PixelFormat = RGB  # of the pictures that are compared
    generated: tuple[Path, ...] = ()  # the translations at the truth's size, PNG or TIFF
    real: tuple[Path, ...] = ()  # what they are compared with: pictures, class maps in their colours
    further: dict[str, list[float]] = field(default_factory=dict)  # other numbers of each image, by name

    def metrics(self, counts: Numbers) -> dict[str, Numbers]:
        """Every number by name, `(R,)`, for images that count `counts` `(R, N)` times."""
        assert self.scores is not None
        return self.scores.metrics(counts) | image_means(self.further, counts)

    def replicates(self, resamples: int, seed: int) -> dict[str, Numbers]:
        """Every number by name, `(resamples,)`; runs scored on the same images have the same resamples."""
        return bootstrap.replicates(self.metrics, len(self.scores), resamples, seed) if self.scores is not None else {}

    def record(self) -> dict[str, Any]:
        """The scores as plain values, with N, protocol and filter."""
        if self.scores is None:
            alone = {"scores": {}, "n": len(self.generated), "primary": None, "protocol": "no pairs: sets alone"}
            return {**alone, "filter": self.filter}
        everything = np.ones((1, len(self.scores)))
        further = {name: float(mean[0]) for name, mean in image_means(self.further, everything).items()}
        return {
            "scores": {**self.scores.result(), **further},
            "n": len(self.scores),
            "primary": self.scores.primary,
            "protocol": self.scores.protocol,
            "filter": self.filter,
        }


def score_translator(
    translator: Translator,
    direction: str,
    files: LabelledFiles,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> Scored:
    """Translate every input at the training size and score it at its truth's size.

    With `keep`, the images that are compared stay in that folder: translations/, and real/ where the truth is class
    maps, which are shown in their colours.
    """
    classes = translator.target_classes(direction)

    def translate(source: Path, size: tuple[int, int]) -> Translation:
        output = translator.output(open_image(source), direction, size=size, where=str(source))
        rows = translator.class_map(output, direction) if classes else None
        return Translation(lambda: translator.colours(output, direction), rows)

    resize_filter = f"{_input_filter(translator, direction)}; output {OUTPUT_FILTER} to the truth's size"
    return _score(files, classes, translator.spec.forms[direction[-1]], translate, resize_filter, progress, keep)


def translated_sets(
    translator: Translator, direction: str, files: LabelledFiles, progress: Progress | None, keep: Path
) -> Scored:
    """Translate images that have no truth, each at its own size, to be compared with `files.truths` as sets alone.

    The translations are kept in `keep`/translations, and class maps to compare with, in their colours, in `keep`/real.
    Raises `DiptychError` where two translations would have one name.
    """
    classes, form = translator.target_classes(direction), translator.spec.forms[direction[-1]]
    root = Path(os.path.commonpath([file.parent for file in files.inputs]))
    stems = Counter(str(file.with_suffix("")) for file in files.inputs)
    if twice := [stem for stem, times in stems.items() if times > 1]:
        raise DiptychError(f"{some(twice)}: two inputs have this stem, and their translations one name; rename one")

    def translated(source: Path) -> Path:
        output = translator.output(open_image(source), direction, where=str(source))
        name = source.relative_to(root).with_suffix(file_suffix(form.channels))
        shown = classes.paint(translator.class_map(output, direction)) if classes else to_pixels(output, form.bits)
        return _save(keep / "translations" / name, shown)

    def painted(place: int) -> Path:
        assert classes is not None
        return _save(keep / "real" / f"{place}.png", classes.paint(read_class_map(files.truths[place], classes)))

    generated = shared_out(files.inputs, translated, progress)
    real = files.truths if classes is None else shared_out(range(len(files.truths)), painted)
    how = f"{_input_filter(translator, direction)}; output {OUTPUT_FILTER}"
    return Scored(None, how, form, tuple(generated), tuple(real))


def _input_filter(translator: Translator, direction: str) -> str:
    kind = "nearest" if translator.spec.classes[direction[0]] else "bicubic"
    return f"input {kind} {in_words(translator.spec.size, translator.spec.fit)}"


def score_folder(
    files: LabelledFiles, classes: Classes | None, progress: Progress | None = None, keep: Path | None = None
) -> Scored:
    """Score translations that are files already against their truths.

    Where `classes` are given, grey and palette images hold class ids (resized by nearest neighbour to the truth's
    size) and RGB images continuous colours (resized bilinearly, then each pixel takes the nearest class colour).
    Pictures are compared in 16 bits where a truth has so many, and in RGB unless the truths have bands that cannot
    become it. `keep` is as in `score_translator`.
    """
    form = RGB if classes else _form_of(files.truths)

    def translate(source: Path, size: tuple[int, int]) -> Translation:
        image = open_image(source)
        if classes and not isinstance(image, Bands) and image.mode in ("P", "L", "1", "I", "I;16"):
            rows = class_map_of(image, classes, str(source), size)
            return Translation(lambda: to_float(classes.paint(rows)), rows)
        colours = _continuous(image, size, form, str(source))
        return Translation(lambda: colours, classes.nearest(colours) if classes else None)

    resize_filter = f"{OUTPUT_FILTER}, class ids by nearest neighbour, to the truth's size"
    return _score(files, classes, form, translate, resize_filter, progress, keep)


def _form_of(files: tuple[Path, ...]) -> PixelFormat:
    headers = [read_header(file) for file in files]
    other = [header.channels for header in headers if not convertible(header, RGB.channels)]
    return PixelFormat(other[0] if other else RGB.channels, max(header.bits for header in headers))


def _score(
    files: LabelledFiles,
    classes: Classes | None,
    form: PixelFormat,
    translate: Translate,
    resize_filter: str,
    progress: Progress | None,
    keep: Path | None,
) -> Scored:
    scores = ClassScores(classes) if classes else PictureScores(form)
    root = Path(os.path.commonpath([file.parent for file in files.inputs]))
    stems = Counter(str(file.with_suffix("")) for file in files.inputs)
    if twice := [stem for stem, times in stems.items() if times > 1]:
        raise DiptychError(f"{some(twice)}: two inputs have this stem, and their translations one name; rename one")

    def score(source: Path, target: Path) -> tuple[Path | None, Path | None]:
        truth = read_class_map(target, classes) if classes else read_pixels(target, form=form)
        translation = translate(source, (truth.shape[1], truth.shape[0]))
        if isinstance(scores, ClassScores):
            assert translation.rows is not None
            scores.add_map(translation.rows, truth)
        else:
            scores.add(translation.colours(), truth)
        if keep is None:
            return None, None
        name = source.relative_to(root).with_suffix(file_suffix(form.channels))
        shown = classes.paint(translation.rows) if translation.rows is not None and classes else None
        shown = to_pixels(translation.colours(), form.bits) if shown is None else shown
        generated = _save(keep / "translations" / name, shown)
        return generated, _save(keep / "real" / name, classes.paint(truth)) if classes else target

    sides = list(zip(files.inputs, files.truths, strict=True))
    kept = shared_out(sides, lambda side: score(*side), progress)
    scores.take_together()
    generated, real = (tuple(file for file in column if file is not None) for column in zip(*kept, strict=True))
    return Scored(scores, resize_filter, form, generated, real)


def _save(path: Path, pixels: Pixels) -> Path:
    write_pixels(path, pixels)
    return path


def _continuous(image: Image.Image | Bands, size: tuple[int, int], form: PixelFormat, where: str) -> Floats:
    """A saved translation as its generator gave it, float32 `(C, H, W)`, at `size` = (width, height)."""
    values = torch.from_numpy(to_float(pixels_of(image, form=form, where=where)))[None]
    return np.asarray(resized(values, size)[0].numpy())
