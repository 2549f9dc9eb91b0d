"""Doing the runs of a plan: every step is one of diptych's own commands in a process of its own.

A selection exists or not, a run is to be trained, resumed or finished, a score exists or not: each step puts its result
into place in one move or can be resumed, so that the study may be killed at any instant. The processes do not outlive
it on Linux, where they are interrupted when it dies; elsewhere they end their step first (see `alone_in`).
"""

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from diptych.display import Display
from diptych.errors import DiptychError
from diptych.files import write_text
from diptych.studies.folder import error_in, failure_file, logged, saved_step, score_file, state_of
from diptych.studies.plan import Run, Selection, folder_of

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_STEPS_READ = 1.0
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux' prctl


@dataclass
class Job:
    """A run at work: the step that is being done, and those that follow."""

    run: Run
    device: str | None
    commands: Iterator[list[str]]
    process: subprocess.Popen[bytes]
    log: BinaryIO
    makes: str | None  # the selection that it makes, if it does


def do_runs(
    runs: Sequence[Run],
    out: Path,
    display: Display,
    *,
    jobs: int,
    devices: Sequence[str | None],
    lock: int,
    done: Callable[[], None],
) -> dict[str, str]:
    """Work on `runs`, `jobs` at a time, until each has its score or has failed; return the errors by run.

    `done()` is called whenever a run got its score. On any exception, Ctrl-C among them, the processes are interrupted,
    which lets a training save, and waited for.
    """
    waiting = [run for run in runs if not score_file(out, run).is_file()]
    slots: list[str | None] = [devices[place % len(devices)] for place in range(jobs)]
    at_work: list[Job] = []
    errors: dict[str, str] = {}
    clock = _Clock(runs, out, display)
    start = functools.partial(_start, lock=lock, jobs=jobs)
    try:
        while waiting or at_work:
            making = [job.makes for job in at_work if job.makes is not None]
            ready = next((run for run in waiting if run.selection is None or run.selection.name not in making), None)
            if slots and ready is not None:
                waiting.remove(ready)
                at_work.append(_begin(ready, slots.pop(0), out, start))
                continue
            time.sleep(SECONDS_BETWEEN_LOOKS)
            clock.look(at_work)
            for job in list(at_work):
                code = job.process.poll()
                if code is None:
                    continue
                command = next(job.commands, None) if code == 0 else None
                job.makes = None
                if command is not None:
                    job.process = start(command, job.log, job.device)
                    continue
                at_work.remove(job)
                slots.append(job.device)
                job.log.close()
                if code == 0:
                    done()
                else:
                    errors[job.run.name] = _fail(job.run, code, out)
                clock.ended(job.run, errors.get(job.run.name))
    except BaseException:
        _interrupt(at_work)
        raise
    return errors


def _begin(run: Run, device: str | None, out: Path, start: Callable[..., subprocess.Popen[bytes]]) -> Job:
    failure_file(out, run).unlink(missing_ok=True)
    log_file = folder_of(out, "logs", f"{run.name}.txt")
    log_file.parent.mkdir(exist_ok=True)
    makes = run.selection.name if run.selection is not None and not _selected(run.selection, out) else None
    commands = _commands(run, out, device)
    log = log_file.open("wb")
    return Job(run, device, commands, start(next(commands), log, device), log, makes)


def _commands(run: Run, out: Path, device: str | None) -> Iterator[list[str]]:
    """The steps that `run` still needs; whoever takes the next one vouches that the last has succeeded."""
    on_device = {} if device is None else {"device": device.partition(":")[0]}
    if run.selection is not None and not _selected(run.selection, out):
        folder = folder_of(out, "selections", run.selection.name)
        half = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        values = {**run.selection.settings, "out": half, **on_device}
        yield ["select", str(values.pop("photos")), *_flags(values)]
        half.replace(folder)

    folder = folder_of(out, "runs", run.name)
    if not (folder / "run.json").is_file():
        settings = folder_of(out, "settings", f"{run.name}.yaml")
        write_text(settings, yaml.safe_dump(dict(run.train), sort_keys=False, allow_unicode=True))
        yield ["train", "--recipe", str(settings), *_flags(on_device)]
    elif saved_step(folder) < run.settings.steps:
        yield ["resume", str(folder), *_flags(on_device)]

    scores = score_file(out, run).parent
    shutil.rmtree(scores, ignore_errors=True)  # translations may have been left there
    # metrics.json names the run as it is given here: below this place without what is above, so that it may travel.
    below = os.path.relpath(folder)
    named = str(folder) if below.startswith("..") else below
    yield ["evaluate", named, *_flags({**run.evaluate, "out": scores, **on_device})]


def _selected(selection: Selection, out: Path) -> bool:
    return folder_of(out, "selections", selection.name).is_dir()


def _flags(values: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return words


def _start(command: list[str], log: BinaryIO, device: str | None, *, lock: int, jobs: int) -> subprocess.Popen[bytes]:
    """Start a step in a session of its own, so that Ctrl-C reaches it once: from here."""
    environment = dict(os.environ)
    if jobs > 1:
        share, asked = max(1, _cores() // jobs), environment.get("OMP_NUM_THREADS", "")
        threads = min(share, int(asked)) if asked.isdecimal() else share
        environment |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    if device is not None and ":" in device:
        environment["CUDA_VISIBLE_DEVICES"] = visible(device)
    log.write(f"$ diptych {' '.join(command)}\n".encode(errors="backslashreplace"))
    log.flush()
    return subprocess.Popen(
        [sys.executable, "-m", "diptych", *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(lock,),
        start_new_session=True,
        preexec_fn=functools.partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
    )


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with(parent: int) -> None:
    """Before a step begins, in its process: be interrupted when the study dies, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a study in the background of a script may have it ignored
    if _libc is not None:
        _libc.prctl(DIE_WITH_PARENT, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died in the meantime


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def visible(device: str) -> str:
    """What CUDA_VISIBLE_DEVICES must be for `cuda:N` to be the only one: the N-th of those visible here.

    Raises `DiptychError` where `device` is not of that form, or there are not so many.
    """
    kind, _, number = device.partition(":")
    here = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if kind != "cuda" or not number.isdecimal() or (here and int(number) >= len(here)):
        raise DiptychError(f"--devices {device}: is none; give cpu, mps, cuda, or cuda:0,cuda:1 and so on")
    return here[int(number)] if here else number


def _fail(run: Run, code: int, out: Path) -> str:
    """Keep the log of a failed run; return what went wrong, in one line."""
    log, failed = folder_of(out, "logs", f"{run.name}.txt"), failure_file(out, run)
    if code < 0:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"diptych: error: the process was ended by {signal.Signals(-code).name}\n")
    failed.parent.mkdir(exist_ok=True)
    log.replace(failed)
    return error_in(failed)


def _interrupt(at_work: Sequence[Job]) -> None:
    """Let every step save and end; a second Ctrl-C ends them at once, which loses what was not yet saved."""
    for job in at_work:
        job.process.send_signal(signal.SIGINT)
    try:
        for job in at_work:
            job.process.wait()
    except KeyboardInterrupt:
        for job in at_work:
            job.process.kill()
            job.process.wait()
    for job in at_work:
        job.log.close()


class _Clock:
    """Tells the display how far the study is, and how long the rest will take at the pace of this start."""

    def __init__(self, runs: Sequence[Run], out: Path, display: Display) -> None:
        self.runs, self.out, self.display = runs, out, display
        states = {run.name: state_of(run, out) for run in runs}
        self.over = {name for name, state in states.items() if state.kind == "done"}
        self.steps = {run.name: min(states[run.name].step, run.settings.steps) for run in runs}
        self.at_first, self.began = sum(self.steps.values()), time.monotonic()
        self.total = sum(run.settings.steps for run in runs)
        self.last_look = 0.0

    def look(self, at_work: Sequence[Job]) -> None:
        if time.monotonic() - self.last_look < SECONDS_BETWEEN_STEPS_READ:
            return
        self.last_look = time.monotonic()
        for run in (job.run for job in at_work):
            step, _ = logged(folder_of(self.out, "runs", run.name))
            self.steps[run.name] = max(self.steps[run.name], step)
            self.display.count(run.name, min(step, run.settings.steps - 1), run.settings.steps)
        self._show()

    def ended(self, run: Run, error: str | None) -> None:
        self.over.add(run.name)
        self.steps[run.name] = run.settings.steps
        self.display.count(run.name, run.settings.steps, run.settings.steps)
        self._show()
        what = "done" if error is None else f"failed: {error}"
        left = self.total - sum(self.steps.values())
        made = sum(self.steps.values()) - self.at_first
        eta = f", about {duration((time.monotonic() - self.began) / made * left)} left" if left and made else ""
        self.display.note(f"{run.name}: {what} ({len(self.over)} of {len(self.runs)} runs{eta})")

    def _show(self) -> None:
        self.display.count("runs", len(self.over), len(self.runs))
        self.display.count("steps of all runs", sum(self.steps.values()), self.total)


def duration(seconds: float) -> str:
    """A time that nobody takes for exact: `"40 s"`, `"12 min"`, `"5 h 10 min"`, `"3 d 4 h"`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes < 600 else f"{round(minutes / 60)} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if days < 10 else f"{round(seconds / 86400)} d"
