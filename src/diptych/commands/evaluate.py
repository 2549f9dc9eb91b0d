"""`diptych evaluate`: scores of runs, or of a folder of translations."""

import itertools
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

from diptych import __version__
from diptych.config import EvaluateSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import PART, check_out, delete_folder, write_json, write_png
from diptych.images import check_apart, list_images, read_classes, real_path
from diptych.layouts import Layout, read_layout
from diptych.processes import agree, by_first, is_first, joined, this_process, wait
from diptych.reading import read_json
from diptych.recipes import load_settings

if TYPE_CHECKING:
    from diptych.evaluation.measuring import Measured, Subject
    from diptych.evaluation.scoring import LabelledFiles


def evaluate(settings: EvaluateSettings, display: Display | None = None) -> dict[str, Any]:
    """Score a run, several on the same images, or a folder of translations; return the record of metrics.json.

    Several runs give `{"runs": {name: record}, "differences": {name: {metric: {"difference", "interval"}}}}`: to the
    first run, over the same resamples of the images. With `settings.out` that folder gets metrics.json, the confusion
    matrix of class maps as confusion.png and, where an extractor or a segmenter saw them, the translations (PNG, at the
    truth's size) in translations/; of several runs there is one of each, by the run's name.
    """
    with joined("evaluating"):
        return _evaluate(settings, display or Silent())


def _evaluate(settings: EvaluateSettings, display: Display) -> dict[str, Any]:
    settings = _with_data(settings, display)
    agree("their settings", settings.model_dump(mode="json"))
    by_first(lambda: _check_evaluate(settings))

    from diptych.build import device_named
    from diptych.evaluation.measuring import Wanted, measure
    from diptych.evaluation.record import differences
    from diptych.features import load_extractor
    from diptych.features.backbone import load_backbone

    device = str(device_named(settings.device))
    subjects = _subjects(settings, device)
    if settings.extractor is not None:
        load_extractor(settings.extractor, device)  # what is wrong with it is found out before the work, not after
    wanted = Wanted(
        extractor=settings.extractor,
        perceptual=(settings.perceptual, load_backbone(settings.perceptual, device)) if settings.perceptual else None,
        segmenter=settings.segmenter,
        mapping=settings.mapping,
        resamples=settings.resamples,
        seed=settings.seed,
        device=device,
    )
    several = len(subjects) > 1
    with _scratch(settings.out) as scratch:
        measured = {}
        for name, subject in subjects.items():
            of_run = f" {name}" if several else ""

            def count(what: str, done: int, total: int, of_run: str = of_run) -> None:
                display.count(what + of_run, done, total)

            measured[name] = measure(subject, wanted, scratch / name, count)
        first = next(iter(measured.values()))
        record = first.record
        if several:
            record = {
                "runs": {name: one.record for name, one in measured.items()},
                "differences": {
                    name: differences(one.record, first.record, one.replicates, first.replicates)
                    for name, one in measured.items()
                    if one is not first
                },
            }
        if settings.out is not None and is_first():
            keep = scratch if settings.extractor or settings.segmenter else None
            _write(settings.out, {"format": 2, "diptych": __version__, **record}, measured, keep)
    return record


def _write(out: Path, record: Mapping[str, Any], measured: Mapping[str, "Measured"], scratch: Path | None) -> None:
    """Write metrics.json and, before it, what belongs to it: all of it or, where something goes wrong, nothing new.

    The translations are those in `scratch`, if it is given.
    """
    from diptych.evaluation.classes import ClassScores
    from diptych.pictures import confusion_matrix

    out.mkdir(parents=True, exist_ok=True)
    translations, half = out / "translations", out / f"{PART}new-translations"
    first_time, several = not (out / "metrics.json").exists(), len(measured) > 1
    new = [translations, half]
    try:
        shutil.rmtree(half, ignore_errors=True)
        for stale in _confusion_pictures(out):
            stale.unlink(missing_ok=True)
        for name, one in measured.items():
            if scratch is not None:
                shutil.copytree(scratch / name / "translations", half / name if several else half)
            if isinstance(one.scores, ClassScores):
                new.append(out / (f"confusion-{name}.png" if several else "confusion.png"))
                write_png(new[-1], confusion_matrix(one.scores.confusion, one.scores.classes))
        if translations.exists():
            delete_folder(translations)  # they may be another run's
        if half.exists():
            half.replace(translations)
        write_json(out / "metrics.json", record)
    except BaseException:
        if first_time:  # without their scores the next call would take them for someone else's
            for path in new:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _confusion_pictures(out: Path) -> list[Path]:
    """Those of the scores that are in `out`, which are written over."""
    if not (out / "metrics.json").exists():
        return []
    try:
        record = read_json(out / "metrics.json")
    except DiptychError:
        record = None
    runs = record.get("runs") if isinstance(record, dict) else None
    names = [f"confusion-{run}.png" for run in runs] if isinstance(runs, dict) else ["confusion.png"]
    return [out / name for name in names if (out / name).parent == out]


@contextmanager
def _scratch(out: Path | None) -> Iterator[Path]:
    """A folder for the block that all processes see: those of several machines share nothing but `out`."""
    if this_process().size == 1:
        with TemporaryDirectory(prefix="diptych-") as own:
            yield Path(own)
        return

    def make() -> str:
        if out is None:
            return mkdtemp(prefix="diptych-")
        folder = out.absolute() / f"{PART}evaluate"  # its name is known, as a killed process leaves it behind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return str(folder)

    folder = Path(by_first(make))
    try:
        yield folder
        wait()
    finally:
        if is_first():
            shutil.rmtree(folder, ignore_errors=True)


def _with_data(settings: EvaluateSettings, display: Display) -> EvaluateSettings:
    """The settings with what --data stands for in its place: test images, or validation where there are none."""
    if settings.data is None:
        if settings.swap:
            raise DiptychError("--swap is about --data; give it, or exchange --a and --b")
        return settings
    layout = read_layout(settings.data, settings.swap)
    split = "test" if layout.test_b is not None else "val"
    found = {"a": getattr(layout, f"{split}_a"), "b": getattr(layout, f"{split}_b")}
    if found["b"] is None:
        raise DiptychError(f"--data {settings.data}: has neither test nor validation images; give --a and --b")
    if settings.generated is not None:
        found = {"b": found["b"], "b_classes": layout.b_classes}
    found = {name: path for name, path in found.items() if getattr(settings, name) is None}
    if "a" in found or "b" in found:
        _check_sides(settings, layout)
    display.note(f"{layout.recognised}; scored: {', '.join(str(path) for path in found.values() if path is not None)}")
    return settings.model_copy(update={**found, "data": None, "swap": False})


def _check_sides(settings: EvaluateSettings, layout: Layout) -> None:
    """Raises `DiptychError` for a run that was trained on the folders of `layout` the other way round."""
    for run in settings.runs:
        if not (run / "experiment.yaml").is_file():
            continue
        trained = load_settings(run)
        sides = [folder and folder.resolve() for folder in (trained.a, trained.b)]
        if sides == [layout.b.resolve(), layout.a.resolve()]:
            mend = "take --swap out" if settings.swap else "give --swap"
            raise DiptychError(f"{run}: was trained with a and b of --data {settings.data} exchanged; {mend}")


def _check_evaluate(settings: EvaluateSettings) -> None:
    """Raises `DiptychError` for settings that do not go together."""
    if bool(settings.runs) == (settings.generated is not None):
        raise DiptychError("evaluate takes either a run or --generated DIR")
    if settings.out is not None:
        _check_out(settings.out, settings)
    if settings.generated is not None and settings.checkpoint != "best":
        raise DiptychError("--generated is scored as it is; take --checkpoint out")
    if settings.unpaired:
        if settings.extractor is None:
            raise DiptychError("--unpaired compares sets of images; say by which features: --extractor")
        if settings.generated is not None or settings.perceptual is not None or settings.segmenter is not None:
            raise DiptychError(
                "--unpaired compares what runs make of a folder with another, as sets; take --generated, "
                "--perceptual and --segmenter out"
            )
    if settings.mapping is not None and settings.segmenter is None:
        raise DiptychError("--mapping is about the classes of --segmenter; give it, or take --mapping out")
    if settings.runs:
        if settings.a is None or settings.b is None:
            raise DiptychError("to score a run give --a and --b, the folders of both domains")
        if settings.b_classes is not None:
            raise DiptychError("a run knows its classes; take --b-classes out")
    else:
        if settings.b is None:
            raise DiptychError("to score --generated give --b, the folder of the truth")
        if settings.a is not None or settings.direction is not None:
            raise DiptychError("--generated is scored against --b alone; take --a and --direction out")
        if settings.segmenter is not None:
            raise DiptychError("--segmenter reads what a run makes of label maps; give a run, or take --segmenter out")


def _check_out(out: Path, settings: EvaluateSettings) -> None:
    """Raises `DiptychError` where something would be written over that evaluate has not made, or is to read."""
    metrics, translations = out / "metrics.json", out / "translations"
    read = settings.a, settings.b, settings.generated
    if metrics.exists() and not settings.overwrite:
        raise DiptychError(f"{metrics} exists; choose another --out or give --overwrite")
    for there in (translations, out / "confusion.png"):
        if there.exists() and not metrics.exists():
            raise DiptychError(f"{there} is there, and its scores are not; choose another --out, or move it away")
    check_out(out)
    check_apart(out, *read)
    for folder in filter(None, read):
        if real_path(folder)[0].resolve().is_relative_to(translations.resolve()):
            raise DiptychError(f"--out {out}: {folder}, which is read, would be replaced; choose a folder elsewhere")


def _subjects(settings: EvaluateSettings, device: str) -> dict[str, "Subject"]:
    """What is scored, by name: of several runs that of the folder, numbered where two have the same.

    Raises `DiptychError` for runs that cannot be compared.
    """
    from diptych.evaluation.classes import same_classes
    from diptych.evaluation.measuring import Subject
    from diptych.evaluation.scoring import LabelledFiles, labelled_files
    from diptych.translator import Translator, checkpoint_folder

    if settings.generated is not None:
        assert settings.b is not None
        classes = read_classes(settings.b_classes) if settings.b_classes else None
        files = labelled_files(settings.generated, settings.b)
        scored = {"generated": str(settings.generated), **_with_note(_left_out(files, settings.b))}
        return {"generated": Subject(scored, files, classes)}
    assert settings.a is not None
    assert settings.b is not None
    subjects: dict[str, Subject] = {}
    for run in settings.runs:
        translator = Translator.from_pretrained(run, settings.checkpoint, device, settings.precision)
        direction = translator.checked_direction(settings.direction)
        classes = translator.target_classes(direction)
        for first in list(subjects.values())[:1]:
            if direction != first.direction:
                raise DiptychError(
                    f"{run}: translates {direction}, {settings.runs[0]} {first.direction}; runs are compared one way: "
                    "give --direction"
                )
            if not same_classes(classes, first.classes):
                raise DiptychError(
                    f"{run}: its classes are not those of {settings.runs[0]}; runs are compared on one classes.csv"
                )
        sides = {"a": settings.a, "b": settings.b}
        scored = {"run": str(run), "checkpoint": checkpoint_folder(run, settings.checkpoint).name}
        scored |= {"direction": direction, "precision": translator.precision}
        name = run.resolve().name
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        name = next(free for free in itertools.chain([name], numbered) if free not in subjects)
        source, target = sides[direction[0]], sides[direction[-1]]
        if settings.unpaired:
            inputs, truths = (tuple(folder / name for name in list_images(folder)) for folder in (source, target))
            files = LabelledFiles(inputs, truths)
        else:
            try:
                files = labelled_files(source, target)
            except DiptychError as problem:
                raise DiptychError(f"{problem}, or compare sets alone: --unpaired with --extractor") from None
        scored |= _with_note(_chosen_on(run, settings), _left_out(files, target))
        subjects[name] = Subject(scored, files, classes, translator, direction, settings.unpaired)
    return subjects


def _with_note(*notes: str) -> dict[str, str]:
    """What metrics.json warns of, beside what is scored."""
    said = "; ".join(filter(None, notes))
    return {"note": said} if said else {}


def _left_out(files: "LabelledFiles", truths: Path) -> str:
    count = files.truths_left_out
    return f"{count} images of {truths} have no input and are not scored" if count else ""


def _chosen_on(run: Path, settings: EvaluateSettings) -> str:
    """A warning where the best checkpoint was chosen on the very images that are scored."""
    if settings.checkpoint != "best" or not (run / "experiment.yaml").is_file():
        return ""
    trained = load_settings(run)
    validated = [folder and folder.resolve() for folder in (trained.val_a, trained.val_b)]
    if validated != [folder and folder.resolve() for folder in (settings.a, settings.b)]:
        return ""
    return "the best checkpoint was chosen on these very images; --checkpoint last is free of that choice"
