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
from diptych.errors import DiptychError, NotFiniteError, reason
from diptych.files import PART, check_own, delete_folder, sync, write_json, write_png
from diptych.methods.base import Method
from diptych.precision import Precision
from diptych.processes import LostError, is_first, this_process, wait
from diptych.reading import log_line
from diptych.reduction import any_of
from diptych.saved import Checkpoints, read_record
from diptych.training.compiling import uncompiled
from diptych.training.health import Health
from diptych.training.journal import Journal
from diptych.training.resume import Optimisers, Sums, save_process, save_training
from diptych.training.step import learning_rate, take_step
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
    clip: float | None = None


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
    compiled: bool = False
    health: Health = field(default_factory=Health)
    step: int = 0
    sums: Sums = field(default_factory=dict)


def train(training: Training, display: Display, stop: Callable[[], bool] = lambda: False) -> int:
    """Train up to the schedule's last step; return the step reached, lower if `stop()` became true in any process.

    Of several processes all take every step and validate together; the first alone writes, but for each one's own state
    in a checkpoint.

    Raises `DiptychError` naming the step, what went wrong and the checkpoint to go on from: `NotFiniteError` names the
    term; a disk that fills and a folder that vanishes name the file.
    """
    folder, schedule = training.folder, training.schedule
    step = saved = at = training.step
    began_in = _identity(folder)
    journal: Journal | None = None
    try:
        if is_first():
            check_own(*(folder / name for name in ("checkpoints", "previews", "tensorboard", "log.jsonl")))
            clear_after(folder, step)
            journal = Journal(folder, step, training.sums)
        wait()
        while step < schedule.steps and not any_of(stop()):
            at = step + 1
            began = time.perf_counter()
            batch = training.batches.at(step).to(training.device, torch.channels_last)
            lr = learning_rate(step, schedule.steps, schedule.lr)
            taken = take_step(training.method, training.optimisers, batch, lr, training.precision, schedule.clip)
            step += 1
            if journal is None:
                display.trained(folder.name, step, schedule.steps, 0.0, taken.terms)
            else:
                journal.add(taken.terms, len(batch.a) * this_process().size, time.perf_counter() - began)
                display.trained(folder.name, step, schedule.steps, journal.images_per_second, journal.means)
                for note in training.health.look(step, batch, taken):
                    display.note(f"{folder.name}: step {step}: {note}")
                    journal.write_note(step, note)
                if step % schedule.log_every == 0 or step == schedule.steps:
                    journal.write_terms(step, lr)
            if step % schedule.val_every == 0 or step == schedule.steps:
                _check_place(folder, began_in)
                with uncompiled(training.compiled):
                    record = _look(training, step, display, journal)
                save_checkpoint(training, step, record, journal)
                saved = step
        if saved < step:
            _check_place(folder, began_in)
            save_checkpoint(training, step, None, journal)
    except NotFiniteError as problem:
        way_on = _way_on(folder, saved, " --lr-scale 0.5")
        if 0 < saved == step:  # the rate has had next to no part in this step
            before = earlier_checkpoint(folder / "checkpoints" / f"{saved:08d}")
            instead = "train again with a lower --optim.lr" if before is None else f"add --from-step {before}"
            way_on += f"; if it fails at this step again, {instead}, as that checkpoint is spoiled itself"
        raise NotFiniteError(f"step {at}: {problem}; {way_on}") from None
    except DiptychError as problem:
        kind = LostError if isinstance(problem, LostError) else DiptychError
        raise kind(f"stopped after step {step}: {problem}; {_way_on(folder, saved)}") from None
    except OSError as problem:
        what = f"{problem.filename}: {reason(problem)}" if problem.filename else reason(problem)
        mend = f"free space or mend the folder, then {_way_on(folder, saved)}"
        raise DiptychError(f"stopped after step {step}: {what}; {mend}") from None
    finally:
        if journal is not None:
            journal.close()
    return step


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _check_place(folder: Path, began_in: tuple[int, int]) -> None:
    """Raises `DiptychError` where a mount has vanished: then other folders of that name would be made below it."""
    if _identity(folder) != began_in:
        raise DiptychError(f"{folder}: is not the folder any more that the training began in; bring it back")


def _look(training: Training, step: int, display: Display, journal: Journal | None) -> dict[str, Any] | None:
    """Preview and validate; the scores' record, or None where nothing is validated."""
    if journal is not None:
        picture = training.preview(training.translator)
        write_png(training.folder / "previews" / f"{step:08d}.png", picture)
        journal.show(step, picture)
    if training.validate is None:
        return None
    record = training.validate(training.translator)
    if journal is None:
        return record
    journal.write_scores(step, record["scores"])
    primary = record["scores"][record["primary"]]
    value = "has no value: its truth is void" if primary is None else f"{primary:.4f}"
    display.note(f"{training.folder.name}: step {step}: validation {record['primary']} {value}")
    return record


def save_checkpoint(training: Training, step: int, record: Mapping[str, Any] | None, journal: Journal | None) -> None:
    """Write the checkpoint of `step` beside the others, name it in checkpoints.json, then clear away the old ones.

    The folder appears under its name only once it is whole, and checkpoints.json is replaced in one move; each is on
    the disk, with the log up to `step`, before what follows relies on it. Of several processes the first, which has the
    journal, does all that; the others write what they alone remember, each into a file of its own.
    """
    checkpoints = training.folder / "checkpoints"
    name = f"{step:08d}"
    half = checkpoints / f"{PART}{name}"
    if journal is None:
        wait()  # for the folder
        save_process(half, training.method)
        wait()
        return
    try:
        training.translator.save_pretrained(half)
        save_training(half, step, training.method, training.optimisers, training.health, journal.sums)
        wait()
        wait()  # for what the others write
        for folder in (half, *(path for path in half.iterdir() if path.is_dir())):
            sync(folder)
        half.replace(checkpoints / name)
        sync(checkpoints)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)  # gives a full disk its space back
        raise
    journal.sync()

    index = training.folder / "checkpoints.json"
    known = json.loads(index.read_text()) if index.exists() else {}
    score = None if record is None else record["scores"][record["primary"]]
    entry = {"name": name, "step": step, "metric": record and record["primary"], "value": score}
    best = known.get("best")
    better = best is None or best["value"] is None or (score is not None and score >= best["value"])
    known = {"last": entry, "best": entry if better else best}
    write_json(index, known)
    sync(training.folder)

    whole = _whole_checkpoints(training.folder)
    keep = {path.name for path in whole[-training.schedule.keep :]} | {known["best"]["name"], name}
    for path in whole:
        if path.name not in keep:
            delete_folder(path)


def checkpoint_of(folder: Path, step: int) -> Path:
    """The checkpoint of `step` in the run `folder`; raises `DiptychError` naming those kept where it is not one."""
    kept = _whole_checkpoints(folder)
    there = [path for path in kept if int(path.name) == step]
    if not there:
        names = ", ".join(str(int(path.name)) for path in kept) or "none"
        raise DiptychError(f"{folder}: keeps no checkpoint of step {step}; give --from-step one that is kept: {names}")
    return there[0]


def go_back(folder: Path, step: int) -> None:
    """Make the checkpoint of `step` the last one of the run `folder`: checkpoints.json no longer names what came later,
    and who goes on from there clears it away. The best one is the best of those left, by their lines of the log."""
    index = folder / "checkpoints.json"
    record = read_record(index, Checkpoints)
    metric = record.best.metric or record.last.metric
    scores: dict[int, Any] = {}
    log = folder / "log.jsonl"
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else ():
        line = log_line(text)
        if line is not None and isinstance(line.get("validation"), dict):
            scores[line["step"]] = line["validation"].get(metric)
    entries = [
        {"name": path.name, "step": number, "metric": metric if number in scores else None, "value": scores.get(number)}
        for path in _whole_checkpoints(folder)
        if (number := int(path.name)) <= step
    ]
    scored = [entry for entry in entries if entry["value"] is not None]
    write_json(
        index, {"last": entries[-1], "best": max(scored or entries, key=lambda e: (e["value"] or 0.0, e["step"]))}
    )
    sync(folder)


def name_lone_checkpoint(folder: Path) -> None:
    """Where checkpoints.json is missing beside one checkpoint, be it that a kill came between the two, write it anew.

    Raises `DiptychError` where there are several: which one was the best is not known.
    """
    index, whole = folder / "checkpoints.json", _whole_checkpoints(folder)
    if index.exists() or not whole:
        return
    if len(whole) > 1:
        raise DiptychError(
            f"{index}: is gone, but checkpoints are there; bring it back, or delete those to begin again"
        )
    entry = {"name": whole[0].name, "step": int(whole[0].name), "metric": None, "value": None}
    write_json(index, {"last": entry, "best": entry})


def earlier_checkpoint(checkpoint: Path) -> int | None:
    """The step of the kept checkpoint before this one; None where there is none."""
    before = [int(path.name) for path in _whole_checkpoints(checkpoint.parents[1]) if path.name < checkpoint.name]
    return max(before, default=None)


def clear_after(folder: Path, step: int) -> None:
    """Take away what an earlier start left in the run `folder` after its checkpoint of `step`, or half done."""
    for place in (folder, *(folder / name for name in ("checkpoints", "previews", "tensorboard"))):
        for part in place.glob(f"{PART}*"):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink()
    index = folder / "checkpoints.json"
    named = {entry["name"] for entry in json.loads(index.read_text()).values()} if index.exists() else set()
    for checkpoint in _whole_checkpoints(folder):
        if checkpoint.name not in named and int(checkpoint.name) > step:
            delete_folder(checkpoint)
    for preview in folder.glob("previews/*.png"):
        if preview.stem.isdecimal() and int(preview.stem) > step:
            preview.unlink()


def _whole_checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoints/*") if path.name.isdecimal())


def _way_on(folder: Path, saved: int, flags: str = "") -> str:
    start = f"goes on from the checkpoint of step {saved}" if saved else "starts again, as no checkpoint was saved yet"
    return f"diptych resume {folder}{flags} {start}"
