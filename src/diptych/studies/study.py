"""`diptych study`: from a YAML file to runs, table and page; or only to the list of what would be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from diptych.config import StudySettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError, nearest, some
from diptych.files import alone_in
from diptych.images import real_path
from diptych.recipes import lay_over
from diptych.studies import read_study, study_file
from diptych.studies.curves import charts_of, write_svg
from diptych.studies.folder import open_study, score_file, state_of
from diptych.studies.page import write_study_page
from diptych.studies.plan import DATA, Plan, Run, folder_of, make_plan, spelled_out
from diptych.studies.runs import do_runs, duration, visible
from diptych.studies.table import check_metrics, collect, write_table


@dataclass(frozen=True)
class Outcome:
    """What a start of a study came to: its page, its table, and the errors of the runs that failed, by name."""

    page: Path
    table: str
    errors: dict[str, str]
    runs: int


def plan_of(settings: StudySettings) -> Plan:
    """The checked plan of a study, the folders that `settings` name laid over its data."""
    file = study_file(settings.study)
    folders = {name: str(folder) for name in DATA if (folder := getattr(settings, name)) is not None}
    return make_plan(lay_over(read_study(file), {"data": spelled_out(folders)}), str(file), settings.out)


def study(settings: StudySettings, display: Display | None = None) -> Outcome:
    """Do what is left of a study; table, charts and page are written whatever happens, by all scores there are.

    Raises `DiptychError`, one line, for anything wrong in the study, before its first run.
    """
    display = display or Silent()
    plan, out = plan_of(settings), settings.out
    chosen = _only(plan, settings.only)
    devices: list[str | None] = list(_devices(settings.devices)) or [None]
    _check_data(chosen)
    from diptych.build import device_named

    for device in devices:
        if device is not None:
            device_named(device.partition(":")[0])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DiptychError(f"{out}: is a file; choose another --out") from None

    def waiting() -> None:
        display.note("waiting for the last step of an earlier start to end")

    with alone_in(out, "study", waiting) as lock:
        open_study(plan, out)
        kept = [
            run.name
            for run in chosen
            if score_file(out, run).is_file() and not folder_of(out, "runs", run.name).exists()
        ]
        if kept:
            display.note(
                f"{some(kept)}: only scores are left; they are kept as they are, on whatever data they were made"
            )
        try:
            errors = do_runs(
                chosen,
                out,
                display,
                jobs=settings.jobs or len(devices),
                devices=devices,
                lock=lock,
                done=lambda: write_table(plan, collect(plan, out), out),
            )
        finally:
            lines = collect(plan, out)
            write_table(plan, lines, out)
            for chart in charts_of(plan, lines):
                write_svg(chart, out)
            page = write_study_page(plan, lines, out)
    check_metrics(plan, lines)
    return Outcome(page, (out / "table.md").read_text(encoding="utf-8"), errors, len(chosen))


def failure(outcome: Outcome, out: Path) -> str:
    """The runs that failed, in one line."""
    first = next(iter(outcome.errors))
    others = f", and {len(outcome.errors) - 1} more" if len(outcome.errors) > 1 else ""
    return (
        f"{len(outcome.errors)} of {outcome.runs} runs failed: {first} ({outcome.errors[first]}){others}; logs are in "
        f"{out / 'failed'}, and starting again tries them once more"
    )


def dry_run(settings: StudySettings) -> str:
    """All runs with steps, about how long they take, and what is done: what `study` would do, without any image."""
    from diptych.studies.estimate import seconds_per_step

    plan, out = plan_of(settings), settings.out
    chosen = _only(plan, settings.only)
    devices = _devices(settings.devices)
    seconds, measured = seconds_per_step(chosen, out)
    states = {run.name: state_of(run, out) for run in chosen}
    width = max(len(run.name) for run in chosen)
    lines = [f"{'run':<{width}}  {'steps':>10}  {'about':>11}  state"]
    left_steps, left_seconds = 0, 0.0
    for run in chosen:
        state, steps = states[run.name], run.settings.steps
        left = max(steps - state.step, 0) if state.kind != "done" else 0
        left_steps += left
        left_seconds += left * seconds[run.name]
        lines.append(f"{run.name:<{width}}  {steps:>10,}  {duration(steps * seconds[run.name]):>11}  {state}")
    selections = {run.selection.name for run in chosen if run.selection is not None}
    done = sum(state.kind == "done" for state in states.values())
    at_once = len(set(devices)) or 1
    basis = f"as measured for {measured} of the runs" if measured else "by counting operations"
    lines += [
        "",
        f"{len(chosen)} runs, {sum(run.settings.steps for run in chosen):,} steps, {len(selections)} selections; "
        f"{done} done.",
        f"Left: {len(chosen) - done} runs, {left_steps:,} steps, about {duration(left_seconds / at_once)} of training "
        f"on {'this machine' if at_once == 1 else f'{at_once} devices like this one'}, {basis}.",
    ]
    return "\n".join(lines)


def _only(plan: Plan, patterns: Sequence[str]) -> list[Run]:
    for pattern in patterns:
        if not any(fnmatchcase(run.name, pattern) for run in plan.runs):
            names = [run.name for run in plan.runs]
            hint = nearest(pattern, names) or f"; there are {some(names)}"
            raise DiptychError(f"--only {pattern}: no run's name is like that{hint}")
    return [run for run in plan.runs if not patterns or any(fnmatchcase(run.name, pattern) for pattern in patterns)]


def _devices(text: str | None) -> list[str]:
    devices = [name.strip() for name in (text or "").split(",") if name.strip()]
    for device in devices:
        if device not in ("cpu", "cuda", "mps"):
            visible(device)
    return devices


def _check_data(runs: Sequence[Run]) -> None:
    """Raises `DiptychError` for the first folder or table that is not there."""
    for run in runs:
        for name in DATA:
            path = getattr(run.settings, name, None)
            if path is not None and not real_path(path)[0].exists():
                flag = name.replace("_", "-")
                raise DiptychError(f"{run.name}: data: {name}: there is no {path}; give --{flag} or mend the study")
        for side in ("a", "b"):
            path = Path(str(run.evaluate[side]))
            if not real_path(path)[0].exists():
                raise DiptychError(f"{run.name}: data: there is no {path} to score; give --val-{side} or --test-{side}")
