"""The loop: step, log, preview, validate, save, until the last step or a wish to stop."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.batches import Batches
from diptych.display import Display
from diptych.files import write_json
from diptych.methods.base import Method
from diptych.training.journal import Journal
from diptych.training.resume import Optimisers, Sums, save_training
from diptych.training.step import NotFiniteError, Precision, learning_rate, take_step
from diptych.translator import Translator

Validate = Callable[[Translator], dict[str, Any]]
"""Translator -> {"scores": {name: number}, "primary": name of the one that decides, higher being better}."""
Preview = Callable[[Translator], Image.Image]


@dataclass(frozen=True)
class Schedule:
    """When the loop does what, in steps."""

    steps: int
    lr: float
    log_every: int
    val_every: int
    keep: int


@dataclass(frozen=True)
class Training:
    """All that the loop works on; `step` steps are done already, `sums` are the terms not yet in the log."""

    folder: Path
    method: Method
    optimisers: Optimisers
    batches: Batches
    translator: Translator
    schedule: Schedule
    device: torch.device
    precision: Precision
    preview: Preview
    validate: Validate | None
    step: int = 0
    sums: Sums = field(default_factory=dict)


def train(training: Training, display: Display, stop: Callable[[], bool] = lambda: False) -> int:
    """Train up to the schedule's last step; return the step reached, lower if `stop()` became true.

    Raises `NotFiniteError` naming the step, the term and the last good checkpoint.
    """
    folder, schedule = training.folder, training.schedule
    step = saved = training.step
    journal = Journal(folder, step, training.sums)
    try:
        while step < schedule.steps and not stop():
            began = time.perf_counter()
            batch = training.batches.at(step).to(training.device, torch.channels_last)
            lr = learning_rate(step, schedule.steps, schedule.lr)
            terms = take_step(training.method, training.optimisers, batch, lr, training.precision)
            step += 1
            journal.add(terms, len(batch.a), time.perf_counter() - began)
            display.trained(folder.name, step, schedule.steps, journal.images_per_second, journal.means)
            if step % schedule.log_every == 0 or step == schedule.steps:
                journal.write_terms(step, lr)
            if step % schedule.val_every == 0 or step == schedule.steps:
                record = _look(training, step, display, journal)
                save_checkpoint(training, step, record, journal.sums)
                saved = step
        if saved < step:
            save_checkpoint(training, step, None, journal.sums)
    except NotFiniteError as problem:
        raise NotFiniteError(f"step {step + 1}: {problem}; {_last_good(folder)}") from None
    finally:
        journal.close()
    return step


def _look(training: Training, step: int, display: Display, journal: Journal) -> dict[str, Any] | None:
    """Preview and validate; the scores' record, or None where nothing is validated."""
    picture = training.preview(training.translator)
    previews = training.folder / "previews"
    previews.mkdir(exist_ok=True)
    picture.save(previews / f"{step:08d}.png")
    journal.show(step, picture)
    if training.validate is None:
        return None
    record = training.validate(training.translator)
    journal.write_scores(step, record["scores"])
    primary = record["scores"][record["primary"]]
    value = "has no value: its truth is void" if primary is None else f"{primary:.4f}"
    display.note(f"{training.folder.name}: step {step}: validation {record['primary']} {value}")
    return record


def save_checkpoint(training: Training, step: int, record: Mapping[str, Any] | None, sums: Sums) -> None:
    """Write the checkpoint of `step` beside the others, name it in checkpoints.json, then clear away the old ones.

    The folder appears under its name only once it is whole; checkpoints.json is replaced in one move.
    """
    checkpoints = training.folder / "checkpoints"
    name = f"{step:08d}"
    half = checkpoints / f".{name}.part"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    training.translator.save_pretrained(half)
    save_training(half, step, training.method, training.optimisers, sums)
    if (checkpoints / name).exists():
        shutil.rmtree(checkpoints / name)
    half.replace(checkpoints / name)

    index = training.folder / "checkpoints.json"
    known = json.loads(index.read_text()) if index.exists() else {}
    score = None if record is None else record["scores"][record["primary"]]
    entry = {"name": name, "step": step, "metric": record and record["primary"], "value": score}
    best = known.get("best")
    better = best is None or best["value"] is None or (score is not None and score >= best["value"])
    known = {"last": entry, "best": entry if better else best}
    write_json(index, known)

    whole = sorted(path for path in checkpoints.iterdir() if not path.name.startswith("."))
    keep = {path.name for path in whole[-training.schedule.keep :]} | {known["best"]["name"], name}
    for path in whole:
        if path.name not in keep:
            shutil.rmtree(path)


def _last_good(folder: Path) -> str:
    index = folder / "checkpoints.json"
    if not index.exists():
        return "no checkpoint was saved yet; try a lower --optim.lr or --precision fp32"
    step = json.loads(index.read_text())["last"]["step"]
    lower = f"lower optim.lr in {folder / 'experiment.yaml'}, then diptych resume {folder}"
    return f"the checkpoint of step {step} is kept; to go on from it {lower}"
