"""The loop: step, log, preview, validate, save, until the last step or a wish to stop."""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.batches import Batches
from diptych.display import Display
from diptych.files import write_json
from diptych.methods.base import Method
from diptych.training.resume import Optimisers, save_training
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
    """All that the loop works on; `step` steps are done already."""

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


def train(training: Training, display: Display, stop: Callable[[], bool] = lambda: False) -> int:
    """Train up to the schedule's last step; return the step reached, lower if `stop()` became true.

    Raises `NotFiniteError` naming the step, the term and the last good checkpoint.
    """
    from torch.utils.tensorboard import SummaryWriter

    folder, schedule, method = training.folder, training.schedule, training.method
    step = training.step
    cut_log(folder / "log.jsonl", step)
    board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
    sums: defaultdict[str, list[float]] = defaultdict(list)
    latest: dict[str, float] = {}
    before, images, since = _seconds_logged(folder / "log.jsonl"), 0, time.perf_counter()
    last_log, started = since, since
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        while step < schedule.steps and not stop():
            batch = training.batches.at(step).to(training.device, torch.channels_last)
            lr = learning_rate(step, schedule.steps, schedule.lr)
            try:
                terms = take_step(method, training.optimisers, batch, lr, training.precision)
            except NotFiniteError as problem:
                board.close()
                raise NotFiniteError(f"step {step + 1}: {problem}; {_last_good(folder)}") from None
            step += 1
            images += len(batch.a)
            for name, value in terms.items():
                sums[name].append(value)
            now = time.perf_counter()
            latest |= terms
            display.trained(folder.name, step, schedule.steps, images / max(now - last_log, 1e-9), latest)
            if step % schedule.log_every == 0 or step == schedule.steps:
                means = {name: sum(values) / len(values) for name, values in sums.items()}
                line = {
                    "step": step,
                    "seconds": round(before + now - started, 3),
                    "images_per_second": round(images / max(now - last_log, 1e-9), 2),
                    "lr": lr,
                    "terms": means,
                }
                _append(log, line)
                for name, value in means.items():
                    board.add_scalar(f"terms/{name}", value, step)
                board.add_scalar("lr", lr, step)
                sums.clear()
                images, last_log = 0, now
            if step % schedule.val_every == 0 or step == schedule.steps:
                record = _look(training, step, display, board)
                if record is not None:
                    _append(log, {"step": step, "validation": record["scores"]})
                save_checkpoint(training, step, record)
                last_log = time.perf_counter()
    board.close()
    if step < schedule.steps and step > training.step and step % schedule.val_every:
        save_checkpoint(training, step, None)
    return step


def _look(training: Training, step: int, display: Display, board: Any) -> dict[str, Any] | None:
    """Preview and validate; the scores' record, or None where nothing is validated."""
    picture = training.preview(training.translator)
    previews = training.folder / "previews"
    previews.mkdir(exist_ok=True)
    picture.save(previews / f"{step:08d}.png")
    board.add_image("preview", torch.from_numpy(_array(picture)), step, dataformats="HWC")
    if training.validate is None:
        return None
    record = training.validate(training.translator)
    for name, value in record["scores"].items():
        if isinstance(value, float):
            board.add_scalar(f"validation/{name}", value, step)
    primary = record["scores"][record["primary"]]
    display.note(f"{training.folder.name}: step {step}: validation {record['primary']} {primary:.4f}")
    return record


def _array(picture: Image.Image) -> Any:
    import numpy as np

    return np.array(picture.convert("RGB"))


def save_checkpoint(training: Training, step: int, record: Mapping[str, Any] | None) -> None:
    """Write the checkpoint of `step` beside the others, name it in checkpoints.json, then clear away the old ones.

    The folder appears under its name only once it is whole; checkpoints.json is replaced in one move.
    """
    checkpoints = training.folder / "checkpoints"
    name = f"{step:08d}"
    half = checkpoints / f".{name}.part"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    training.translator.save_pretrained(half)
    save_training(half / "training", step, training.method, training.optimisers)
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


def cut_log(log: Path, step: int) -> None:
    """Drop the lines after `step`, and a last one cut in half: the run goes on from there."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    log.write_text("".join(kept), encoding="utf-8")


def _seconds_logged(log: Path) -> float:
    if not log.exists():
        return 0.0
    seconds = [json.loads(line).get("seconds") for line in log.read_text(encoding="utf-8").splitlines()]
    return float(max((value for value in seconds if value is not None), default=0.0))


def _append(log: Any, line: dict[str, Any]) -> None:
    log.write(json.dumps(line) + "\n")
    log.flush()


def _last_good(folder: Path) -> str:
    index = folder / "checkpoints.json"
    if not index.exists():
        return "no checkpoint was saved yet; try a lower --optim.lr or --precision fp32"
    step = json.loads(index.read_text())["last"]["step"]
    lower = f"lower optim.lr in {folder / 'experiment.yaml'}, then diptych resume {folder}"
    return f"the checkpoint of step {step} is kept; to go on from it {lower}"
