"""A study on one self-contained page: the table, curves over a budget, a picture of every row, every run's fate."""

from collections.abc import Sequence
from pathlib import Path

from diptych.files import write_png
from diptych.images import read_pixels
from diptych.pictures import contact_sheet
from diptych.report import Picture, Table, picture_html, table_html, write_page
from diptych.studies.curves import chart_html, charts_of, in_words
from diptych.studies.folder import State, state_of
from diptych.studies.plan import Plan, folder_of
from diptych.studies.runs import duration
from diptych.studies.table import Line, notes_of, table_cells

TILE, SMALL_TILE, MANY = 480, 300, 12  # pixels of a row's picture; from so many rows on they are small


def write_study_page(plan: Plan, lines: Sequence[Line], out: Path) -> Path:
    """Write index.html (and pictures.png, which it shows) into `out`; return its path."""
    states = {run.name: state_of(run, out) for run in plan.runs}
    count = {kind: sum(state.kind == kind for state in states.values()) for kind in ("done", "failed")}
    figures = [("runs finished", f"{count['done']} of {len(states)}")]
    if count["failed"]:
        figures.append(("runs failed", str(count["failed"])))
    seconds = sum(state.seconds for state in states.values())
    if seconds:
        figures.append(("of training", duration(seconds)))
    header, rows = table_cells(plan, lines)
    note = "Mean ± sample standard deviation over the seeds."
    if any(line.row.published for line in lines):
        note += " Published: the paper's number for that row; empty where it gives none."
    results = Table("", tuple(header), tuple(map(tuple, rows)), " ".join([note, *notes_of(lines)]))
    write_page(
        out / "index.html",
        plan.title,
        plan.about or f"{len(plan.rows)} rows, {len(plan.seeds)} {'seed' if len(plan.seeds) == 1 else 'seeds'} each.",
        figures=figures,
        sections={
            "Results": [table_html(results)],
            "Failed runs": _failed(states),
            "Curves": [part for chart in charts_of(plan, lines) for part in chart_html(chart)],
            "Pictures": _pictures(plan, out),
            "Runs": _runs(plan, states, out),
        },
    )
    return out / "index.html"


def _failed(states: dict[str, State]) -> list[str]:
    rows = tuple((name, state.error) for name, state in states.items() if state.kind == "failed")
    note = "Their logs are in failed/; starting the study again tries them once more."
    return [table_html(Table("", ("run", "what went wrong"), rows, note))] if rows else []


def _runs(plan: Plan, states: dict[str, State], out: Path) -> list[str]:
    rows = []
    for run in plan.runs:
        state, folder = states[run.name], folder_of(out, "runs", run.name)
        steps = f"{min(state.step, run.settings.steps):,} of {run.settings.steps:,}"
        checkpoint = f"runs/{run.name}" if state.step and folder.is_dir() else ""
        kind = "failed" if state.kind == "failed" else str(state)
        rows.append((run.name, kind, steps, duration(state.seconds) if state.seconds else "", checkpoint))
    table = table_html(Table("", ("run", "state", "steps", "training", "translator"), tuple(rows)))
    return [f"<details><summary>{len(rows)} runs</summary>{table}</details>"]


def _pictures(plan: Plan, out: Path) -> list[str]:
    """The last preview of the first seed that has one, of every row."""
    files, captions = [], []
    for row in plan.rows:
        for run in row.runs:
            previews = sorted((folder_of(out, "runs", run.name) / "previews").glob("*.png"))
            if previews:
                files.append(previews[-1])
                captions.append(f"{in_words(plan, row.labels)}, seed {run.seed}")
                break
    if not files:
        return []
    tile = TILE if len(files) < MANY else SMALL_TILE
    sheet = contact_sheet([read_pixels(file) for file in files], captions, min(len(files), 960 // tile), tile)
    write_png(out / "pictures.png", sheet)
    return [picture_html(Picture("The last preview of a run of every row.", out / "pictures.png"))]
