"""`diptych train` and `diptych resume`: a run folder, from its first step or from its last checkpoint."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from diptych.config import ResumeSettings, TrainSettings
from diptych.dataset import Dataset
from diptych.display import Display, Silent
from diptych.errors import DiptychError, some
from diptych.files import alone_in, check_out, write_json, write_text
from diptych.images import check_apart
from diptych.processes import (
    agree,
    by_first,
    first_alone,
    gathered,
    is_first,
    joined,
    launch,
    restarts,
    this_process,
    wait,
)
from diptych.recipes import load_settings
from diptych.saved import Data, RunRecord, read_record

BEFORE_THE_RECORD = ("experiment.yaml", "data.json")  # written before run.json
OF_A_RUN = (
    *(*BEFORE_THE_RECORD, "log.jsonl", "checkpoints", "checkpoints.json", "previews", "report.html", "tensorboard"),
    *("translator.json", "a_to_b", "b_to_a"),  # of a saved translator, which would be taken for the run's
)


def train(
    settings: TrainSettings, display: Display | None = None, stop: Callable[[], bool] = lambda: False
) -> tuple[Path, int]:
    """Train a method; return the run folder and the step reached, which is lower where `stop()` became true.

    The folder holds run.json, experiment.yaml, data.json, log.jsonl, previews/, tensorboard/, checkpoints/ and, at the
    end, report.html. Started by torchrun, all its processes train together; where that starts them again because one
    has ended, they go on from the last checkpoint.
    """
    display = display or Silent()
    with joined(f"training in {settings.out}"):
        if max(gathered(restarts())) and by_first(lambda: _was_begun_by_this_launch(settings.out)):
            return resume(ResumeSettings(run=settings.out), display, stop)
        return settings.out, _train(settings, display, stop)


def _train(settings: TrainSettings, display: Display, stop: Callable[[], bool]) -> int:
    from diptych.build import device_named, files_of, make_training, open_dataset, recognised, resolve
    from diptych.training.compiling import why_not
    from diptych.training.record import data_digest, made_with

    if settings.data is not None:
        display.note(recognised(settings.data, settings.swap))
    agree("their settings", settings.model_dump(mode="json"))
    settings = by_first(lambda: _checked(resolve(settings)))
    device = device_named(settings.device)
    dataset = first_alone(lambda: open_dataset(settings, display))
    agree("the images that they see", dataset.to_record())
    if settings.compile and (problem := why_not(device)) is not None:
        raise DiptychError(f"--compile: {problem}; mend that, or leave it out")
    training = make_training(settings, dataset, device, display)
    settings = settings.model_copy(update={"precision": training.precision})  # whatever machine resumes it

    with _held(settings.out, "train"):
        if is_first():
            _check_free(settings.out)
            experiment = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
            write_text(settings.out / "experiment.yaml", experiment)
            write_json(settings.out / "data.json", dataset.to_record())
            networks = training.method.networks.items()
            record = {
                "format": 1,
                **made_with(device),
                "started": _now(),
                **_launched(),
                "seed": settings.seed,
                "precision": training.precision,
                "compiled": training.compiled,
                "data": {name: len(rows) for name, rows in dataset.to_record().items() if name != "bits"},
                "data_sha256": data_digest(files_of(settings, dataset)),
                "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks},
            }
            write_json(settings.out / "run.json", record)
        return _run(training, display, stop)


def _checked(settings: TrainSettings) -> TrainSettings:
    _check_free(settings.out)
    check_out(settings.out)
    read = settings.a, settings.b, settings.unpaired_a, settings.unpaired_b, settings.val_a, settings.val_b
    check_apart(settings.out, *read)
    return settings


def _was_resumed_by_this_launch(run: Path) -> bool:
    file = run / "run.json"
    resumed = read_record(file, RunRecord).resumed if file.exists() else ()
    return bool(resumed) and resumed[-1].get("launch") == launch()


def _was_begun_by_this_launch(out: Path) -> bool:
    file = out / "run.json"
    return file.exists() and read_record(file, RunRecord).launch == launch()


@contextmanager
def _held(folder: Path, command: str) -> Iterator[None]:
    """In the block the folder, made where it is missing, belongs to the processes of this training."""
    with ExitStack() as stack:

        def hold() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(folder, command))

        by_first(hold)
        yield


def _launched() -> dict[str, str]:
    """Of several processes, by what launch of theirs: it may start them again."""
    return {"launch": launch()} if this_process().size > 1 else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_free(out: Path) -> None:
    """Raises `DiptychError` where `out` holds a run, or anything that a run would take for its own and write over."""
    if (out / "run.json").exists():
        raise DiptychError(f"{out}: holds a run already; choose another --out, or diptych resume {out}")
    begun = BEFORE_THE_RECORD if (out / ".lock").exists() else ()  # by a start that was cut off
    there = [name for name in OF_A_RUN if name not in begun and (out / name).exists()]
    if there:
        raise DiptychError(f"{out}: holds {some(there)}, and is no run; choose another --out")


def resume(
    settings: ResumeSettings, display: Display | None = None, stop: Callable[[], bool] = lambda: False
) -> tuple[Path, int]:
    """Go on with a run from its last checkpoint, up to `settings.steps` where given; return folder and step reached.

    The run continues as if it had never stopped: the same batches, pools, optimisers and random draws.
    """
    load_settings(settings.run)
    with joined(f"resuming {settings.run}"), _held(settings.run, "resume"):
        return settings.run, _resume(settings, display or Silent(), stop)


def _resume(settings: ResumeSettings, display: Display, stop: Callable[[], bool]) -> int:
    from diptych.build import device_named, make_training, reopen_dataset, resolve
    from diptych.training.compiling import why_not
    from diptych.training.loop import checkpoint_of, earlier_checkpoint, go_back, name_lone_checkpoint
    from diptych.training.resume import load_training, processes_of
    from diptych.translator import checkpoint_folder

    folder = settings.run
    check_out(folder)
    if max(gathered(restarts())) and by_first(lambda: _was_resumed_by_this_launch(folder)):
        settings = settings.model_copy(update={"from_step": None, "lr_scale": None})  # that has been done
    old = resolve(load_settings(folder))  # which checks them: they may come from anyone
    changes: dict[str, Any] = {"out": folder.absolute()}
    if settings.steps is not None:
        changes["steps"] = settings.steps
    if settings.device is not None:
        changes["device"] = settings.device
    if settings.lr_scale is not None:
        changes["optim"] = old.optim.model_copy(update={"lr": old.optim.lr * settings.lr_scale})
    now = old.model_copy(update=changes)
    if now.paired_steps is not None and now.steps <= now.paired_steps:
        raise DiptychError(
            f"--steps {now.steps}: the paired phase alone has {now.paired_steps} steps, and the unpaired one comes "
            "after it; give more"
        )
    if not (folder / "run.json").exists():
        raise DiptychError(f"{folder}: its start was cut off before the first step; give diptych train once more")
    run_record = read_record(folder / "run.json", RunRecord)
    index, report = folder / "checkpoints.json", folder / "report.html"
    by_first(lambda: name_lone_checkpoint(folder))
    checkpoint = checkpoint_folder(folder, "last") if index.exists() else None
    if settings.from_step is not None:
        checkpoint = checkpoint_of(folder, settings.from_step)
    done = int(checkpoint.name) if checkpoint is not None else 0
    reported = index.exists() and report.exists() and report.stat().st_mtime_ns >= index.stat().st_mtime_ns
    if done > now.steps or (done == now.steps and reported):
        raise DiptychError(f"{folder}: has finished its {done} steps; to go on give --steps with a larger number")
    device = device_named(now.device)
    if now.compile and (problem := why_not(device)) is not None:
        display.note(f"{folder.name}: goes on uncompiled, so that last digits may differ from here on: {problem}")
        now = now.model_copy(update={"compile": False})
    record = read_record(folder / "data.json", Data)
    dataset = first_alone(lambda: reopen_dataset(now, record.model_dump(), display))
    agree("the settings or images that they see", [now.model_dump(mode="json"), dataset.to_record(), done])
    if checkpoint is not None:
        training = make_training(
            now.model_copy(update={"init_from": None, "encoder_weights": None}), dataset, device, display
        )
        try:
            step, sums = load_training(checkpoint, training.method, training.optimisers, training.health)
        except DiptychError as problem:
            before = earlier_checkpoint(checkpoint)
            way_on = (
                "start again with diptych train"
                if before is None
                else f"diptych resume {folder} --from-step {before} goes on from the checkpoint before"
            )
            raise DiptychError(f"{problem}; {way_on}") from None
        training = replace(training, step=step, sums=sums)
        if (before := processes_of(checkpoint)) != this_process().size:
            _note_processes(folder.name, before, now.batch_size, display)
    else:
        training = make_training(now, dataset, device, display)
        display.note(f"{folder.name}: no checkpoint was saved; starting again from step 0")
    wait()  # all have read what is changed now
    if is_first():
        if settings.from_step is not None:
            go_back(folder, settings.from_step)
        _note_resumption(now, dataset, training, run_record, display)
        write_text(folder / "experiment.yaml", yaml.safe_dump(now.model_dump(mode="json"), sort_keys=False))
    if settings.lr_scale is not None:
        display.note(f"{folder.name}: the learning rate is {now.optim.lr:g} from here on, before {old.optim.lr:g}")
    return _run(training, display, stop)


def _note_processes(run: str, before: int, batch_size: int, display: Display) -> None:
    now = this_process().size
    pools = "those of the processes that are gone are lost" if now < before else "those of the new processes are empty"
    display.note(
        f"{run}: the checkpoint is of {before} processes, now there are {now}: a batch has {now * batch_size} rows "
        f"instead of {before * batch_size}, so other images come next; of the pools and random draws {pools}; from "
        "here on nothing is as in the run unbroken, but weights and optimisers go on exactly"
    )


def _note_resumption(
    settings: TrainSettings, dataset: Dataset, training: Any, record: RunRecord, display: Display
) -> None:
    """Write in run.json that the run goes on, and tell what is not as it was: it may be meant, so it is no error."""
    from diptych.build import files_of
    from diptych.training.record import changed_places, changes, data_digest, made_with

    name = settings.out.name
    changed = changes(record.model_dump(), made_with(training.device))
    if changed:
        display.note(f"{name}: began with {', '.join(changed)}; its numbers may differ from here on")
    places = changed_places(record.data_sha256, data_digest(files_of(settings, dataset)))
    if places:
        display.note(f"{name}: the files of {', '.join(places)} have changed since the run began; it goes on with them")
    again = {"at": _now(), "step": training.step, "lr": settings.optim.lr, "changed": changed + places, **_launched()}
    write_json(settings.out / "run.json", record.model_dump() | {"resumed": [*record.resumed, again]})


def _run(training: Any, display: Display, stop: Callable[[], bool]) -> int:
    from diptych.report import Picture, write_report
    from diptych.training.loop import train as run_loop

    folder, data = training.folder, training.batches.dataset
    counts = f"{len(data.pairs)} pairs; unpaired: {len(data.unpaired_a)} of a, {len(data.unpaired_b)} of b"
    display.note(f"{folder.name}: {counts}; {training.device.type}, {training.precision}")
    step = run_loop(training, display, stop)
    if not is_first() or not (folder / "checkpoints.json").exists():
        return step  # the last is so where it stopped before the first step: there is nothing to report
    previews = sorted(file for file in (folder / "previews").glob("*.png") if file.stem.isdecimal())
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
