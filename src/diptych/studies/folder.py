"""The folder of a study: what is done is read off it, never remembered, so that any instant may be the last.

study.yaml  runs.json  selections/NAME/  settings/NAME.yaml  runs/NAME/  scores/NAME/metrics.json  logs/NAME.txt
failed/NAME.txt  table.md  table.csv  table.json  METRIC-by-AXIS.svg  index.html
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from diptych.errors import DiptychError
from diptych.files import write_text
from diptych.reading import log_line
from diptych.saved import Checkpoints, Saved, read_record
from diptych.studies.plan import Plan, Run, folder_of

KEPT = ("scores", "table.md", "table.csv", "table.json", "*-by-*.svg")
"""What is worth keeping of a finished study, where its runs are cleared away."""
TAIL = 8192  # bytes at the end of a log, more than its last line


class Remembered(Saved):
    """The settings that a run began with."""

    select: dict[str, Any]
    train: dict[str, Any]
    evaluate: dict[str, Any]


class RunsRecord(Saved):
    """runs.json of a study: the runs that are planned, and those that were and left something."""

    runs: dict[str, Remembered]


@dataclass(frozen=True)
class State:
    """How far a run is: its steps, the seconds of training they took, and the error if its last attempt failed."""

    kind: Literal["to do", "begun", "trained", "done", "failed"]
    step: int = 0
    seconds: float = 0.0
    error: str = ""

    def __str__(self) -> str:
        return {"begun": f"at step {self.step:,}", "failed": f"failed: {self.error}"}.get(self.kind, self.kind)


def score_file(out: Path, run: Run) -> Path:
    """Where the score of `run` is, once there is one."""
    return folder_of(out, "scores", run.name) / "metrics.json"


def failure_file(out: Path, run: Run) -> Path:
    """Where the log of the last attempt at `run` is, if it failed."""
    return folder_of(out, "failed", f"{run.name}.txt")


def state_of(run: Run, out: Path) -> State:
    """How far `run` is in the study folder `out`."""
    folder = folder_of(out, "runs", run.name)
    saved, (_, seconds) = saved_step(folder), logged(folder)
    failed = failure_file(out, run)
    if score_file(out, run).is_file():
        return State("done", saved, seconds)
    if failed.is_file():
        return State("failed", saved, seconds, error_in(failed))
    if saved >= run.settings.steps:
        return State("trained", saved, seconds)
    return State("begun" if saved else "to do", saved, seconds)


def saved_step(run: Path) -> int:
    """The step of the last checkpoint of a run folder, 0 where there is none."""
    if not (run / "checkpoints.json").exists():
        return 0
    return read_record(run / "checkpoints.json", Checkpoints).last.step


def logged(run: Path) -> tuple[int, float]:
    """The last step that a run's log.jsonl names, and the seconds of training up to it."""
    try:
        with (run / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return 0, 0.0
    for text in reversed(lines):
        line = log_line(text)  # None for the first of the tail, or one that is being written
        if line is not None and "seconds" in line:
            return line["step"], float(line["seconds"])
    return 0, 0.0


def error_in(log: Path) -> str:
    """What went wrong, in one line: what diptych said last, or else the last line of whatever was said."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line.partition("diptych: error: ")[2] for line in lines if line.startswith("diptych: error: ")]
    return said[-1] if said else lines[-1] if lines else "stopped without a word"


def open_study(plan: Plan, out: Path) -> None:
    """Make or check the folder of `plan`: study.yaml says what is planned, runs.json how each run was when it began.

    What has begun may not be planned otherwise now, even if its row was away in between. Rows, seeds, metrics,
    published numbers and curves may come and go, and a run that is to be scored otherwise is scored anew. A folder with
    nothing but scores and tables is a study whose runs were cleared away: what has a score is done. Raises
    `DiptychError`, one line, for any other change, or where the folder holds something else.
    """
    record = out / "study.yaml"
    if not record.is_file() and not all(
        path.name.startswith(".") or any(map(path.match, KEPT)) for path in out.iterdir()
    ):
        raise DiptychError(f"{out}: holds something that is no study; choose another --out")
    before, now = _remembered(out), {run.name: _settings(run) for run in plan.runs}
    scored_otherwise = []
    for run in plan.runs:
        folder, score = folder_of(out, "runs", run.name), score_file(out, run)
        traces = [path for path, there in ((folder, folder.exists()), (score.parent, score.is_file())) if there]
        if not traces or run.name not in before:
            continue
        old, new = before[run.name], now[run.name]
        if changed := _difference(old, new, ("select", "train")):
            raise DiptychError(
                f"{run.name} has begun with {changed}; change it back, delete {' and '.join(map(str, traces))}, or "
                "choose another --out"
            )
        if score.is_file() and (changed := _difference(old, new, ("evaluate",))):
            if saved_step(folder) < run.settings.steps:
                raise DiptychError(
                    f"{run.name} was scored with {changed}, and is no longer there to be scored again; change it "
                    f"back, delete {score.parent} to train it anew, or choose another --out"
                )
            scored_otherwise.append(score)
    for score in scored_otherwise:
        score.unlink()
    away = {name: old for name, old in before.items() if name not in now and _left_traces(out, name)}
    write_text(record, yaml.safe_dump(plan.to_study(), sort_keys=False, allow_unicode=True))
    write_text(out / "runs.json", RunsRecord(runs=now | away).model_dump_json(indent=2) + "\n")


def _remembered(out: Path) -> dict[str, Remembered]:
    file = out / "runs.json"
    return read_record(file, RunsRecord).runs if file.is_file() else {}


def _settings(run: Run) -> Remembered:
    """What is remembered of a run, as JSON gives it back."""
    layers = {"select": dict(_chosen(run)), "train": dict(run.train), "evaluate": dict(run.evaluate)}
    return Remembered.model_validate_json(json.dumps(layers, default=str))


def _left_traces(out: Path, name: str) -> bool:
    return folder_of(out, "runs", name).exists() or folder_of(out, "scores", name).exists()


def _difference(old: Remembered, new: Remembered, layers: Sequence[str]) -> str:
    """The first setting that differs, with both values, or an empty string."""
    before, after = (_flat({layer: getattr(settings, layer) for layer in layers}) for settings in (old, new))
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name, "unset"), after.get(name, "unset")
        # A selection is named after its settings: they say what changed, its files do not.
        selected = name in ("train.pairs", "train.unpaired") and all(
            Path(str(at)).suffix == ".csv" for at in (was, now)
        )
        if was != now and name != "train.out" and not (selected and old.select and new.select):
            return f"{name} {was}, not {now}"
    return ""


def _chosen(run: Run) -> Mapping[str, Any]:
    return run.selection.settings if run.selection is not None else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
