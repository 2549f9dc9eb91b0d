"""The main job in a few minutes and without any download: scenes, selection, two trainings, scores, a report."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from diptych import __version__, commands
from diptych.config import DemoSettings, EvaluateSettings, JudgeSettings, OptimSettings, SelectSettings, TrainSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import write_png, write_text
from diptych.images import list_images, open_image, read_class_map, read_pixels
from diptych.pairs import read_rows
from diptych.pictures import grid
from diptych.report import Picture, Table, write_report
from diptych.scenes import CLASSES, KINDS, write_scenes

SIZE = (96, 64)  # (width, height)
SCENES = {"train": 160, "validation": 16, "unseen": 48}
RANDOM_DRAWS = 20
MARKER = "this-is-a-demo.txt"  # only a folder that holds it is ever deleted
ROWS_SHOWN = 6


def demo(settings: DemoSettings, display: Display | None = None) -> Path:
    """Run the demo into `settings.out`; return the path of its report.html.

    A hybrid (shukla: the chosen pairs and every scene, unpaired) and pix2pix on the same pairs alone are trained with
    the same generator, batch and number of steps, and scored on scenes that neither has seen.
    """
    display = display or Silent()
    out = settings.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MARKER).is_file():
            raise DiptychError(f"{out}: holds something that no demo made; choose another --out")
        if not settings.overwrite:
            raise DiptychError(f"{out}: holds a demo already; choose another --out or give --overwrite")
        for path in out.iterdir():  # the folder itself may be a link
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    write_text(out / MARKER, f"Made by diptych {__version__}; diptych demo --overwrite deletes this folder.\n")

    for place, (split, count) in enumerate(SCENES.items()):
        write_scenes(out / "scenes" / split, count, seed=3 * settings.seed + place, size=SIZE)
    display.note(f"drew {sum(SCENES.values())} street scenes, {SIZE[0]}x{SIZE[1]}, in {out / 'scenes'}")

    scenes = out / "scenes" / "train"
    pairs = commands.select(
        SelectSettings(
            photos=scenes / "photos",
            partners=scenes / "labels",
            out=out / "selection",
            budget=settings.budget,
            features="descriptor",
            seed=settings.seed,
        ),
        display,
    )
    chosen = [left for left, _ in read_rows(pairs)]
    coverage = coverage_sentence(scenes, chosen, settings.seed)
    display.note(coverage)

    runs = {
        "hybrid": _train("shukla", "hybrid", settings, scenes, pairs, display),
        "pairs only": _train("pix2pix", "pairs-only", settings, scenes, pairs, display),
    }
    unseen = out / "scenes" / "unseen"
    scores = {
        name: commands.evaluate(
            EvaluateSettings(
                runs=(run,), checkpoint="last", a=unseen / "photos", b=unseen / "labels", out=run / "scores"
            ),
            display,
        )
        for name, run in runs.items()
    }
    for name, record in scores.items():
        display.note(f"{name}: mean IoU {record['scores']['mean_iou']:.3f} on {record['n']} unseen scenes")

    _draw_comparison(unseen, runs, out / "unseen.png")
    write_report(
        out / "report.html",
        "A few pairs, and everything unpaired",
        f"{SCENES['train']} street photos, of which {settings.budget} have a label map. The hybrid learns from these "
        "pairs and from all photos and label maps, unpaired; the other run from the same pairs alone. Both had the "
        f"same generator, {settings.steps} steps and scenes of {SIZE[0]}x{SIZE[1]}; both are scored on "
        f"{SCENES['unseen']} scenes that neither has seen. {_verdict(scores)} {coverage}",
        figures=[(f"mean IoU, {name}", f"{record['scores']['mean_iou']:.3f}") for name, record in scores.items()],
        pictures=[
            Picture("Unseen scenes: photo, what each run makes of it, and the truth", out / "unseen.png"),
            Picture(f"The {settings.budget} scenes that were chosen to be paired", out / "selection" / "chosen.png"),
            Picture("All scenes in the plane of their features, the chosen ones marked", out / "selection" / "map.png"),
        ],
        tables=[_scores_table(scores)],
        runs=runs,
    )
    return out / "report.html"


def _train(method: str, name: str, settings: DemoSettings, scenes: Path, pairs: Path, display: Display) -> Path:
    own: dict[str, Any] = {"translate_in_train_mode": False} if method == "pix2pix" else {}
    validation = scenes.parent / "validation"
    folder, _ = commands.train(
        TrainSettings(
            method=method,
            a=scenes / "photos",
            b=scenes / "labels",
            b_classes=scenes / "classes.csv",
            pairs=str(pairs),
            out=settings.out / "runs" / name,
            size=f"{SIZE[0]}x{SIZE[1]}",
            steps=settings.steps,
            batch_size=4,
            optim=OptimSettings(lr=5e-4),  # a training this short needs longer strides
            generator="resnet",
            blocks=4,
            ngf=16,
            norm="instance",
            dropout=False,
            judge=JudgeSettings(patch=34),
            seed=settings.seed,
            val_a=validation / "photos",
            val_b=validation / "labels",
            val_every=max(1, settings.steps // 8),
            log_every=5,
            keep=1,
            **own,
        ),
        display,
    )
    return folder


def kinds_of(scenes: Path) -> dict[str, str]:
    """Photo name -> kind of scene, from the kinds.csv that `write_scenes` wrote."""
    with (scenes / "kinds.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["kind"] for row in csv.DictReader(file)}


def coverage_sentence(scenes: Path, chosen: Sequence[str], seed: int) -> str:
    """How many kinds of scene the chosen ones cover, beside the median of random draws of as many."""
    kind = kinds_of(scenes)
    rng = np.random.default_rng(seed)
    draws = [rng.choice(sorted(kind), len(chosen), replace=False) for _ in range(RANDOM_DRAWS)]
    by_chance = median(len({kind[str(name)] for name in draw}) for draw in draws)
    covered = len({kind[name] for name in chosen})
    verdict = "more than" if covered > by_chance else "no more than" if covered == by_chance else "fewer than"
    return (
        f"The {len(chosen)} chosen scenes cover {covered} of {len(KINDS)} kinds, {verdict} the median of "
        f"{RANDOM_DRAWS} random draws ({by_chance:g})."
    )


def _verdict(scores: dict[str, dict[str, Any]]) -> str:
    hybrid, alone = (scores[name]["scores"]["mean_iou"] for name in ("hybrid", "pairs only"))
    if hybrid > alone:
        return f"On unseen scenes the unpaired images brought {hybrid - alone:+.3f} mean IoU over the pairs alone."
    return (
        f"On unseen scenes the hybrid did not win this time ({hybrid - alone:+.3f} mean IoU); "
        "a training this short settles little: --steps gives it longer."
    )


def _scores_table(scores: dict[str, dict[str, Any]]) -> Table:
    metrics = ("pixel_accuracy", "class_accuracy", "mean_iou")
    first = next(iter(scores.values()))
    rows = [
        (name, *(f"{record['scores'][metric]:.3f}" for metric in metrics), *_per_class(record))
        for name, record in scores.items()
    ]
    return Table(
        caption=f"Scores on {first['n']} unseen scenes",
        header=("run", *(metric.replace("_", " ") for metric in metrics), *(f"IoU {name}" for name in CLASSES.names)),
        rows=tuple(rows),
        note=f"{first['protocol']}; {first['filter']}.",
    )


def _per_class(record: dict[str, Any]) -> list[str]:
    ious = [row["iou"] for row in record["scores"]["per_class"].values()]
    return ["absent" if iou is None else f"{iou:.3f}" for iou in ious]


def _draw_comparison(unseen: Path, runs: dict[str, Path], path: Path) -> None:
    from diptych.translator import Translator

    translators = {name: Translator.from_pretrained(run, "last") for name, run in runs.items()}
    kind = kinds_of(unseen)
    names = list_images(unseen / "photos")
    # One scene of each kind, in the order of the kinds, then whatever comes first.
    firsts = [next((name for name in names if kind[name] == wanted), None) for wanted in KINDS]
    shown = [name for name in firsts if name is not None][:ROWS_SHOWN]
    rows = []
    for name in shown:
        photo = unseen / "photos" / name
        row = [read_pixels(photo)]
        for translator in translators.values():
            row.append(np.asarray(translator(open_image(photo)).convert("RGB")))
        row.append(CLASSES.paint(read_class_map(unseen / "labels" / name, CLASSES)))
        rows.append(row)
    write_png(path, grid(rows, ["photo", *translators, "truth"]))
