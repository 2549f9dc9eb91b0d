"""The commands as functions of their settings: `select`, `train`, `resume`, `translate`, `evaluate`, `import_weights`.

Every function raises `DiptychError`, one line, for anything that the caller can mend, and writes nothing before its
input is checked.
"""

import itertools
import json
import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from diptych import __version__
from diptych.config import (
    EvaluateSettings,
    ImportWeightsSettings,
    ResumeSettings,
    SelectSettings,
    TrainSettings,
    TranslateSettings,
    parse_size,
)
from diptych.dataset import open_domain
from diptych.display import Display, Silent
from diptych.errors import DiptychError, some
from diptych.files import write_json, write_text
from diptych.images import list_images, open_image, read_classes, read_pixels
from diptych.pairs import read_rows, same_stem, write_pairs
from diptych.recipes import load_settings

if TYPE_CHECKING:
    from diptych.evaluation.measuring import Subject


def select(settings: SelectSettings, display: Display | None = None) -> Path:
    """Choose which images to pair (Shukla et al., section 3.2); return the path of pairs.csv.

    Writes pairs.csv (columns a,b), chosen.png (contact sheet) and map.png (all images in two dimensions) into
    `settings.out`. With `settings.unpaired` the images to pair are chosen among so many for the unpaired passes, which
    are chosen first and written to unpaired.csv. Either choice starts from the seed anew, so that pairs.csv is the one
    of two calls, the second within the selection of the first.
    """
    display = display or Silent()
    out, folder = settings.out, settings.photos
    written = ("pairs.csv", "unpaired.csv", "chosen.png", "map.png")
    there = [str(out / name) for name in written if (out / name).exists()]
    if there:
        raise DiptychError(f"{there[0]} exists, and pairs.csv may hold your partners; choose another --out")
    _check_out(out)
    if settings.skip_unreadable:
        domain, skipped = open_domain(folder, None, skip_unreadable=True)
        there_are = list(domain.names)
        for problem in skipped:
            display.note(f"skipped {problem}")
    else:
        there_are = list_images(folder)
    names = there_are
    within_rows: list[tuple[str, str]] = []
    if settings.within is not None:
        within_rows = read_rows(settings.within)
        listed = [left for left, _ in within_rows if left]
        _check_present(listed, names, settings.within, folder)
        names = sorted(set(listed))
    given_rows = read_rows(settings.given) if settings.given is not None else []
    given = [left for left, _ in given_rows if left]
    if settings.given is not None:
        _check_present(given, there_are, settings.given, folder)
        names = sorted({*names, *given})
    if settings.budget < 1:
        raise DiptychError(f"--budget {settings.budget}: choose at least 1 image")
    if settings.unpaired is not None and settings.unpaired > len(names):
        raise DiptychError(
            f"--unpaired {settings.unpaired}: there are only {len(names)} images to choose from; give at most that many"
        )
    if settings.unpaired is not None and settings.budget > settings.unpaired:
        raise DiptychError(
            f"--budget {settings.budget}: is chosen among the {settings.unpaired} of --unpaired; give at most that many"
        )
    if settings.budget > len(names):
        raise DiptychError(
            f"--budget {settings.budget}: there are only {len(names)} images to choose from; give at most that many"
        )
    if settings.budget < len(set(given)):
        raise DiptychError(f"--budget {settings.budget}: {settings.given} holds {len(set(given))} already; they count")
    partners: dict[str, str] = {}
    if settings.partners is not None:
        partners = same_stem(names, list_images(settings.partners), settings.partners)

    from diptych.build import device_named
    from diptych.features import extract
    from diptych.pictures import contact_sheet, selection_map
    from diptych.selection import SELECTORS

    features = extract(
        settings.features,
        [folder / name for name in names],
        device=str(device_named(settings.device)),
        progress=lambda done, total: display.count(f"{settings.features} features", done, total),
    )  # (N, D)
    stay = set(given)

    def choose(count: int, among: NDArray[np.int64]) -> NDArray[np.int64]:
        """`count` of the rows `among`, both sorted; those of the given images stay."""
        fixed = [place for place, row in enumerate(among) if names[row] in stay]
        rng = np.random.default_rng(settings.seed)
        return among[SELECTORS[settings.selector](features[among], count, rng, fixed)]

    everything = np.arange(len(names), dtype=np.int64)
    unpaired = everything if settings.unpaired is None else choose(settings.unpaired, everything)
    rows = choose(settings.budget, unpaired)
    chosen = [names[row] for row in rows]

    partners |= {left: right for left, right in [*within_rows, *given_rows] if right}
    thumbnails = [read_pixels(folder / name) for name in chosen]
    out.mkdir(parents=True, exist_ok=True)
    contact_sheet(thumbnails, chosen).save(out / "chosen.png")
    selection_map(features, rows.tolist(), chosen, thumbnails).save(out / "map.png")
    if settings.unpaired is not None:
        first = [names[row] for row in unpaired]
        # A training takes a column that names only some labels for the whole of what it may use.
        known = partners if all(name in partners for name in first) else {}
        write_pairs(out / "unpaired.csv", [(name, known.get(name, "")) for name in first])
    write_pairs(out / "pairs.csv", [(name, partners.get(name, "")) for name in chosen])
    return out / "pairs.csv"


def _check_out(out: Path) -> None:
    """Raises `DiptychError` where no folder can be made: found out before hours of work, not after."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise DiptychError(f"{there}: is a file; choose another --out")
    if not os.access(there, os.W_OK):
        raise DiptychError(f"{there}: may not be written to; choose another --out")


def _check_present(listed: list[str], names: list[str], file: Path, folder: Path) -> None:
    present = set(names)
    absent = [name for name in listed if name not in present]
    if absent:
        raise DiptychError(f"{file}: {some(absent)} is not in {folder}; mend the names in column a")


def train(
    settings: TrainSettings, display: Display | None = None, stop: Callable[[], bool] = lambda: False
) -> tuple[Path, int]:
    """Train a method; return the run folder and the step reached, which is lower where `stop()` became true.

    The folder holds run.json, experiment.yaml, data.json, log.jsonl, previews/, tensorboard/, checkpoints/ and, at the
    end, report.html.
    """
    from diptych.build import device_named, make_training, open_dataset, resolve

    display = display or Silent()
    settings = resolve(settings)
    if (settings.out / "run.json").exists():
        raise DiptychError(
            f"{settings.out}: holds a run already; choose another --out, or diptych resume {settings.out}"
        )
    _check_out(settings.out)
    device = device_named(settings.device)
    dataset = open_dataset(settings, display)
    training = make_training(settings, dataset, device, display)
    settings = settings.model_copy(update={"precision": training.precision})  # whatever machine resumes it

    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / "experiment.yaml", yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
    write_json(settings.out / "data.json", dataset.to_record())
    record = {
        "format": 1,
        "diptych": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
        "precision": training.precision,
        "data": {name: len(rows) for name, rows in dataset.to_record().items()},
        "parameters": {
            name: sum(p.numel() for p in network.parameters()) for name, network in training.method.networks.items()
        },
    }
    write_json(settings.out / "run.json", record)
    return settings.out, _run(training, display, stop)


def resume(
    settings: ResumeSettings, display: Display | None = None, stop: Callable[[], bool] = lambda: False
) -> tuple[Path, int]:
    """Go on with a run from its last checkpoint, up to `settings.steps` where given; return folder and step reached.

    The run continues as if it had never stopped: the same batches, pools, optimisers and random draws.
    """
    from diptych.build import device_named, make_training, reopen_dataset
    from diptych.training.resume import load_training
    from diptych.translator import checkpoint_folder

    display = display or Silent()
    folder = settings.run
    old = load_settings(folder)
    changes: dict[str, Any] = {"out": folder.absolute()}
    if settings.steps is not None:
        changes["steps"] = settings.steps
    if settings.device is not None:
        changes["device"] = settings.device
    now = old.model_copy(update=changes)
    checkpoint = checkpoint_folder(folder, "last") if (folder / "checkpoints.json").exists() else None
    done = int(checkpoint.name) if checkpoint is not None else 0
    if done >= now.steps:
        raise DiptychError(f"{folder}: has finished its {done} steps; to go on give --steps with a larger number")
    device = device_named(now.device)
    try:
        record = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise DiptychError(f"{folder / 'data.json'}: missing or damaged ({problem}); train again, elsewhere") from None
    dataset = reopen_dataset(now, record, display)
    if checkpoint is not None:
        training = make_training(
            now.model_copy(update={"init_from": None, "encoder_weights": None}), dataset, device, display
        )
        step, sums = load_training(checkpoint, training.method, training.optimisers)
        training = replace(training, step=step, sums=sums)
    else:
        training = make_training(now, dataset, device, display)
        display.note(f"{folder.name}: no checkpoint was saved; starting again from step 0")
    write_text(folder / "experiment.yaml", yaml.safe_dump(now.model_dump(mode="json"), sort_keys=False))
    return folder, _run(training, display, stop)


def _run(training: Any, display: Display, stop: Callable[[], bool]) -> int:
    from diptych.report import Picture, write_report
    from diptych.training.loop import train as run_loop

    folder, data = training.folder, training.batches.dataset
    counts = f"{len(data.pairs)} pairs; unpaired: {len(data.unpaired_a)} of a, {len(data.unpaired_b)} of b"
    display.note(f"{folder.name}: {counts}; {training.device.type}, {training.precision}")
    step = run_loop(training, display, stop)
    if not (folder / "checkpoints.json").exists():
        return step  # stopped before the first step: there is nothing to report
    previews = sorted((folder / "previews").glob("*.png"))
    index = json.loads((folder / "checkpoints.json").read_text())
    best = index["best"]
    figures = [("steps", f"{step:,}")]
    if best["value"] is not None:
        figures.append((f"best {best['metric'].replace('_', ' ')}", f"{best['value']:.3f} at step {best['step']:,}"))
    write_report(
        folder / "report.html",
        folder.name,
        f"{load_settings(folder).method}, {step:,} of {training.schedule.steps:,} steps.",
        figures=figures,
        pictures=[Picture(f"Preview at step {int(previews[-1].stem):,}", previews[-1])] if previews else [],
        runs={folder.name: folder},
    )
    return step


def translate(settings: TranslateSettings, display: Display | None = None) -> list[Path]:
    """Translate an image or a folder; return the files written, PNG, in folders like the inputs'."""
    from diptych.build import device_named
    from diptych.images import UnreadableImageError
    from diptych.translator import Translator

    display = display or Silent()
    if settings.images.is_dir():
        root, names = settings.images, list_images(settings.images)
    elif settings.images.is_file():
        root, names = settings.images.parent, [settings.images.name]
    else:
        raise DiptychError(f"{settings.images}: no such file; give an image or a folder of images")
    targets = [settings.out / Path(name).with_suffix(".png") for name in names]
    inputs, answers = root.resolve(), settings.out.resolve()
    if answers == inputs or (settings.images.is_dir() and answers.is_relative_to(inputs)):
        raise DiptychError(f"--out {settings.out}: lies among the images to translate; choose a folder elsewhere")
    twice = [str(target) for target, times in Counter(targets).items() if times > 1]
    if twice:
        raise DiptychError(f"{some(twice)}: two inputs would be written there; rename one of them")
    there = [str(target) for target in targets if target.exists()]
    _check_out(settings.out)
    if there and not settings.overwrite:
        raise DiptychError(f"{some(there)}: there already; choose another --out or give --overwrite")
    device = device_named(settings.device)
    translator = Translator.from_pretrained(settings.run, settings.checkpoint, str(device))
    direction = translator.checked_direction(settings.direction)

    written: list[Path] = []
    for done, (name, target) in enumerate(zip(names, targets, strict=True), start=1):
        try:
            image = open_image(root / name)
        except UnreadableImageError as problem:
            if not settings.skip_unreadable:
                raise UnreadableImageError(
                    f"{problem}, or --skip-unreadable ({len(written)} translated so far)"
                ) from None
            display.note(f"skipped {problem}")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        translator(image, direction, at=settings.at, raw=settings.raw).save(target)
        written.append(target)
        display.count("translating", done, len(names))
    return written


def evaluate(settings: EvaluateSettings, display: Display | None = None) -> dict[str, Any]:
    """Score a run, several on the same images, or a folder of translations; return the record of metrics.json.

    Several runs give `{"runs": {name: record}, "differences": {name: {metric: {"difference", "interval"}}}}`: to the
    first run, over the same resamples of the images. With `settings.out` that folder gets metrics.json, the confusion
    matrix of class maps as confusion.png and, where an extractor or a segmenter saw them, the translations (PNG, at the
    truth's size) in translations/; of several runs there is one of each, by the run's name.
    """
    display = display or Silent()
    _check_evaluate(settings)

    from diptych.build import device_named
    from diptych.evaluation.classes import ClassScores
    from diptych.evaluation.measuring import Wanted, measure
    from diptych.evaluation.record import differences
    from diptych.features import load_extractor
    from diptych.features.backbone import load_backbone
    from diptych.pictures import confusion_matrix

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
    with TemporaryDirectory(prefix="diptych-") as scratch:
        measured = {}
        for name, subject in subjects.items():
            of_run = f" {name}" if several else ""

            def count(what: str, done: int, total: int, of_run: str = of_run) -> None:
                display.count(what + of_run, done, total)

            measured[name] = measure(subject, wanted, Path(scratch) / name, count)
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
        if settings.out is not None:
            settings.out.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(settings.out / "translations", ignore_errors=True)  # they may be another run's
            for name, one in measured.items():
                if settings.extractor or settings.segmenter:
                    to = settings.out / "translations" / (name if several else "")
                    shutil.copytree(Path(scratch) / name / "translations", to, dirs_exist_ok=True)
                if isinstance(one.scores, ClassScores):
                    picture = confusion_matrix(one.scores.confusion, one.scores.classes)
                    picture.save(settings.out / (f"confusion-{name}.png" if several else "confusion.png"))
            write_json(settings.out / "metrics.json", {"format": 2, "diptych": __version__, **record})
    return record


def _check_evaluate(settings: EvaluateSettings) -> None:
    """Raises `DiptychError` for settings that do not go together."""
    if bool(settings.runs) == (settings.generated is not None):
        raise DiptychError("evaluate takes either a run or --generated DIR")
    if settings.out is not None and (settings.out / "metrics.json").exists() and not settings.overwrite:
        raise DiptychError(f"{settings.out / 'metrics.json'} exists; choose another --out or give --overwrite")
    if settings.out is not None:
        _check_out(settings.out)
        for folder in (settings.a, settings.b, settings.generated):
            if folder is not None and settings.out.resolve().is_relative_to(folder.resolve()):
                raise DiptychError(
                    f"--out {settings.out}: lies among the images of {folder}; choose a folder elsewhere"
                )
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
        return {"generated": Subject({"generated": str(settings.generated)}, files, classes)}
    assert settings.a is not None
    assert settings.b is not None
    subjects: dict[str, Subject] = {}
    for run in settings.runs:
        translator = Translator.from_pretrained(run, settings.checkpoint, device)
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
        scored |= {"direction": direction, **_chosen_on(run, settings)}
        name = run.resolve().name
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        name = next(free for free in itertools.chain([name], numbered) if free not in subjects)
        source, target = sides[direction[0]], sides[direction[-1]]
        if settings.unpaired:
            sets = (tuple(folder / name for name in list_images(folder)) for folder in (source, target))
            files = LabelledFiles(*sets)
        else:
            try:
                files = labelled_files(source, target)
            except DiptychError as problem:
                raise DiptychError(f"{problem}, or compare sets alone: --unpaired with --extractor") from None
        subjects[name] = Subject(scored, files, classes, translator, direction, settings.unpaired)
    return subjects


def _chosen_on(run: Path, settings: EvaluateSettings) -> dict[str, str]:
    """A warning for metrics.json where the best checkpoint was chosen on the very images that are scored."""
    if settings.checkpoint != "best" or not (run / "experiment.yaml").is_file():
        return {}
    trained = load_settings(run)
    validated = [folder and folder.resolve() for folder in (trained.val_a, trained.val_b)]
    if validated != [folder and folder.resolve() for folder in (settings.a, settings.b)]:
        return {}
    return {"note": "the best checkpoint was chosen on these very images; --checkpoint last is free of that choice"}


def import_weights(settings: ImportWeightsSettings, display: Display | None = None) -> Path:
    """Turn generators of pytorch-CycleGAN-and-pix2pix into a translator; return its folder.

    The way taken unless another is asked for is a to b, where there is one.
    """
    from diptych.foreign import describe, read_generator
    from diptych.translator import Translator, TranslatorSpec

    display = display or Silent()
    files = {"a_to_b": settings.a_to_b, "b_to_a": settings.b_to_a}
    given = {direction: file for direction, file in files.items() if file is not None}
    if not given:
        raise DiptychError("nothing to import; give --a-to-b or --b-to-a, a *_net_G*.pth")
    _check_out(settings.out)
    if settings.out.exists() and any(settings.out.iterdir()):
        raise DiptychError(f"{settings.out}: is not empty; choose another --out")
    tables = {"a": settings.a_classes, "b": settings.b_classes}
    classes = {domain: read_classes(table) if table else None for domain, table in tables.items()}
    architectures, generators = {}, {}
    for direction, file in given.items():
        architectures[direction], generators[direction] = read_generator(file)
    batch_norm = any(architecture["norm"] == "batch" for architecture in architectures.values())
    train_mode = settings.translate_in_train_mode
    spec = TranslatorSpec(
        architectures=architectures,
        size=parse_size(settings.size),
        direction=next(iter(given)),
        classes=classes,
        train_mode=batch_norm if train_mode is None else train_mode,
    )
    for direction, file in given.items():
        display.note(f"{direction}: {file} holds {describe(architectures[direction])}")
    Translator(generators, spec).save_pretrained(settings.out)
    return settings.out
