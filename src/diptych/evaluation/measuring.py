"""A run, or a folder of translations, measured in every way that was asked for: the record of metrics.json."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.evaluation import bootstrap, perceptual
from diptych.evaluation.bootstrap import Numbers
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.fcn_score import fcn_score
from diptych.evaluation.perceptual import perceptual_distances
from diptych.evaluation.pictures import PictureScores
from diptych.evaluation.scoring import LabelledFiles, Scored, score_folder, score_translator, translated_sets
from diptych.evaluation.sets import set_scores
from diptych.features.backbone import Backbone
from diptych.images import RGB, Classes
from diptych.processes import by_first
from diptych.translator import Translator


@dataclass(frozen=True)
class Subject:
    """What is measured: a translator in one direction, or translations that are files already."""

    scored: dict[str, str]  # what metrics.json calls it
    files: LabelledFiles
    classes: Classes | None  # of the truth
    translator: Translator | None = None
    direction: str = ""
    unpaired: bool = False  # the files are no pairs, only two sets


@dataclass(frozen=True)
class Wanted:
    """What is measured beside the paired scores, and how often the images are resampled."""

    extractor: str | None
    perceptual: tuple[str, Backbone] | None  # its name and itself
    segmenter: str | None
    mapping: Path | None
    resamples: int
    seed: int
    device: str


@dataclass(frozen=True)
class Measured:
    """A record, and what it takes to compare it with another and to draw it."""

    record: dict[str, Any]
    replicates: dict[str, Numbers]  # by the names of the differences
    scores: ClassScores | PictureScores | None


def measure(subject: Subject, wanted: Wanted, folder: Path, count: Callable[[str, int, int], None]) -> Measured:
    """Measure `subject`; where sets of files are compared, they are written into `folder`.

    There translations/ holds the translations at the truth's size and real/, of class maps, the truth in its colours.
    `count(what, done, total)` is told how far each piece of work is.
    """
    further: dict[str, Any] = {}
    replicates: dict[str, Numbers] = {}
    if wanted.segmenter is not None:  # first: it is the one most likely to find something to mend
        assert subject.translator is not None
        further["fcn_score"] = fcn_score(
            wanted.segmenter,
            subject.translator,
            subject.direction,
            subject.files,
            mapping=wanted.mapping,
            device=wanted.device,
            resamples=wanted.resamples,
            seed=wanted.seed,
            progress=lambda done, total: count("FCN-score", done, total),
            resampled=replicates,
        )
    scored = _scored(subject, folder if wanted.extractor or wanted.perceptual or wanted.segmenter else None, count)
    seen = "" if scored.form == RGB else "; seen in 8-bit RGB: the first three bands, or grey"
    if wanted.perceptual is not None:
        name, backbone = wanted.perceptual
        scored.further["perceptual_distance"] = perceptual_distances(
            backbone, scored.generated, scored.real, lambda done, total: count("perceptual distance", done, total)
        )
        protocol = perceptual.PROTOCOL + seen
        further["perceptual"] = {"backbone": name, "identity": backbone.identity, "protocol": protocol}
    if wanted.extractor is not None:
        further["sets"] = set_scores(
            scored.real,
            scored.generated,
            wanted.extractor,
            device=wanted.device,
            seed=wanted.seed,
            resamples=wanted.resamples,
            progress=lambda done, total: count(f"{wanted.extractor} features", done, total),
            resampled=replicates,
        )
        shown = "class maps in their colours" if subject.classes else "translations at the truth's size"
        if subject.unpaired:
            shown = "translations at the input's size"
        further["sets"]["images"] = f"{shown}, against the true images{seen}"
    paired = by_first(lambda: scored.replicates(wanted.resamples, wanted.seed))
    how = {"resamples": wanted.resamples, "seed": wanted.seed, "kind": bootstrap.KIND}
    record = {
        "scored": subject.scored,
        **scored.record(),
        "intervals": bootstrap.intervals(paired),
        "bootstrap": how if paired else None,
        **further,
    }
    return Measured(record, replicates | paired, scored.scores)


def _scored(subject: Subject, keep: Path | None, count: Callable[[str, int, int], None]) -> Scored:
    def progress(done: int, total: int) -> None:
        count("scoring", done, total)

    if subject.translator is None:
        return score_folder(subject.files, subject.classes, progress, keep)
    if subject.unpaired:
        assert keep is not None
        return translated_sets(subject.translator, subject.direction, subject.files, progress, keep)
    return score_translator(subject.translator, subject.direction, subject.files, progress, keep)
