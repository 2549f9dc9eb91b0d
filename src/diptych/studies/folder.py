"""The folder of a study: what is done is read off it, never remembered, so that any instant may be the last.

study.yaml  selections/NAME/  settings/NAME.yaml  runs/NAME/  scores/NAME/metrics.json  logs/NAME.txt
failed/NAME.txt  table.md  table.csv  table.json  index.html
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from diptych.display import Display
from diptych.errors import DiptychError
from diptych.files import write_text
from diptych.studies import read_study
from diptych.studies.plan import Plan, Run, folder_of, make_plan

TAIL = 8192  # bytes at the end of a log, more than its last line


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
    try:
        return int(json.loads((run / "checkpoints.json").read_text(encoding="utf-8"))["last"]["step"])
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError):
        raise DiptychError(f"{run / 'checkpoints.json'}: is damaged; delete {run} to train it again") from None


def logged(run: Path) -> tuple[int, float]:
    """The last step that a run's log.jsonl names, and the seconds of training up to it."""
    try:
        with (run / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return 0, 0.0
    for text in reversed(lines):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the first of the tail, or one that is being written
        if isinstance(line, dict) and "seconds" in line:
            return int(line["step"]), float(line["seconds"])
    return 0, 0.0


def error_in(log: Path) -> str:
    """What went wrong, in one line: what diptych said last, or else the last line of whatever was said."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line.partition("diptych: error: ")[2] for line in lines if line.startswith("diptych: error: ")]
    return said[-1] if said else lines[-1] if lines else "stopped without a word"


def open_study(plan: Plan, out: Path) -> None:
    """Make or check the folder of `plan`: study.yaml says what was planned.

    What has begun may not be planned otherwise now. Rows, seeds, metrics, published numbers and curves may come and go,
    and a run that is to be scored otherwise is scored anew. Raises `DiptychError`, one line, for any other change, or
    where the folder holds something else.
    """
    record = out / "study.yaml"
    if record.is_file():
        before = {run.name: run for run in make_plan(read_study(record), str(record), out).runs}
        scored_anew = []
        for run in plan.runs:
            old = before.get(run.name)
            if old is None:
                continue
            if folder_of(out, "runs", run.name).exists() and (changed := _difference(old, run)):
                raise DiptychError(
                    f"{run.name} has begun with {changed}; change it back, delete {folder_of(out, 'runs', run.name)}, "
                    "or choose another --out"
                )
            if dict(old.evaluate) != dict(run.evaluate):
                scored_anew.append(run)
        for run in scored_anew:
            score_file(out, run).unlink(missing_ok=True)
    elif any(not path.name.startswith(".") for path in out.iterdir()):
        raise DiptychError(f"{out}: holds something that is no study; choose another --out")
    write_text(record, yaml.safe_dump(plan.to_study(), sort_keys=False, allow_unicode=True))


def _difference(old: Run, new: Run) -> str:
    """The first setting that differs, with both values, or an empty string."""
    before, after = (_flat({"select": _chosen(run), "train": run.train}) for run in (old, new))
    # A selection is named after its settings: they say what changed, its files do not.
    hidden = ("train.out", *(("train.pairs", "train.unpaired") if _chosen(old) and _chosen(new) else ()))
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name, "unset"), after.get(name, "unset")
        if was != now and name not in hidden:
            return f"{name} {was}, not {now}"
    return ""


def _chosen(run: Run) -> Mapping[str, Any]:
    return run.selection.settings if run.selection is not None else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


@contextmanager
def alone_in(out: Path, display: Display) -> Iterator[int]:
    """Hold the study's lock, whose file descriptor every step inherits: it is free when the last of them has ended.

    After a study was killed, this waits for the step that it may have left behind. Raises `DiptychError` where another
    study is at work in the folder.
    """
    file = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        waiting = False
        while not _lock(file):
            owner = os.pread(file, 32, 0).decode() or "0"
            if _is_alive(int(owner)):
                raise DiptychError(f"{out}: diptych study is at work there (process {owner}); stop it or let it end")
            if not waiting:
                display.note("waiting for the last step of an earlier start to end")
            waiting = True
            time.sleep(0.1)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield file
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    """Whether the lock is ours now; without `flock`, as on Windows, it always is."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(process: int) -> bool:
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
