"""`diptych train` and `diptych resume`: a run folder, from its first step or from its last checkpoint."""

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from diptych import __version__
from diptych.config import ResumeSettings, TrainSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import check_out, write_json, write_text
from diptych.recipes import load_settings


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
    check_out(settings.out)
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
