"""Scores of runs -> the table: a line for what differs in the seed alone, with mean ± std beside what was published."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError, nearest
from diptych.evaluation.record import explanation, flat_scores
from diptych.files import write_json, write_text
from diptych.reading import read_json
from diptych.studies.folder import score_file, state_of
from diptych.studies.plan import Labels, Plan, Row

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """A metric over the seeds of a row: its mean, its sample standard deviation (none for one seed), of `n` values."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Line:
    """A row of the plan with what its runs scored."""

    row: Row
    scores: Mapping[str, Mapping[str, float]]  # run -> every number of its metrics.json; finished runs only
    notes: Mapping[str, Sequence[str]]  # run -> what must stand below its numbers; finished runs only
    cells: Mapping[str, Cell]  # metric -> over the seeds; only those that some run has

    @property
    def labels(self) -> Labels:
        """Axis -> label."""
        return self.row.labels


def collect(plan: Plan, out: Path) -> list[Line]:
    """What the runs in `out` have scored so far, row by row."""
    lines = []
    for row in plan.rows:
        read = {run.name: _read(score_file(out, run)) for run in row.runs if score_file(out, run).is_file()}
        scores = {name: numbers for name, (numbers, _) in read.items()}
        cells = {}
        for metric in plan.metrics:
            values = [numbers[metric] for numbers in scores.values() if metric in numbers]
            if values:
                std = statistics.stdev(values) if len(values) > 1 else None
                cells[metric] = Cell(statistics.fmean(values), std, len(values))
        lines.append(Line(row, scores, {name: notes for name, (_, notes) in read.items()}, cells))
    return lines


def _read(file: Path) -> tuple[dict[str, float], list[str]]:
    try:
        record = read_json(file)
        return flat_scores(record), explanation({**record, "bootstrap": None})  # a table has no intervals
    except (DiptychError, KeyError, TypeError, AttributeError):
        raise DiptychError(f"{file}: is damaged; delete it to score the run again") from None


def notes_of(lines: Sequence[Line]) -> list[str]:
    """What must stand below the numbers, each once: N, protocol, filters, extractor, warnings.

    Where it does not hold for all finished runs, it says for how many, or for which if for one.
    """
    runs_of: dict[str, list[str]] = {}
    finished = [name for line in lines for name in line.scores]
    for line in lines:
        for run, notes in line.notes.items():
            for note in notes:
                runs_of.setdefault(note, []).append(run)
    told = []
    for note, runs in runs_of.items():
        of = "" if len(runs) == len(finished) else runs[0] if len(runs) == 1 else f"{len(runs)} of {len(finished)} runs"
        told.append(f"{of}: {note}" if of else note)
    return told


def check_metrics(plan: Plan, lines: Sequence[Line]) -> None:
    """Raises `DiptychError` for a metric that no run has, once any is scored."""
    known = {name for line in lines for numbers in line.scores.values() for name in numbers}
    for metric in plan.metrics:
        if known and metric not in known:
            hint = nearest(metric, known) or ";"
            raise DiptychError(f"metrics: no run has a score {metric!r}{hint} there are {', '.join(sorted(known))}")


def table_cells(plan: Plan, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text. A published column stands beside its metric where any row has a number for it."""
    published = [metric for metric in plan.metrics if any(metric in line.row.published for line in lines)]
    header = [*plan.axes, "seeds"]
    for metric in plan.metrics:
        header.append(metric.replace("_", " "))
        if metric in published:
            header.append("published")
    rows = []
    for line in lines:
        finished, planned = len(line.scores), len(line.row.runs)
        seeds = str(finished) if finished == planned else f"{finished} of {planned}"
        row = [*(line.labels.get(axis, "") for axis in plan.axes), seeds]
        for metric in plan.metrics:
            row.append(written(line.cells.get(metric)))
            if metric in published:
                number = line.row.published.get(metric)
                row.append("" if number is None else f"{number:.{_places(number)}f}")
        rows.append(row)
    return header, rows


def written(cell: Cell | None) -> str:
    """`"0.412 ± 0.013"`; with one seed there is no ±."""
    if cell is None:
        return NOTHING
    places = _places(cell.mean)
    return f"{cell.mean:.{places}f} ± {NOTHING if cell.std is None else f'{cell.std:.{places}f}'}"


def _places(value: float) -> int:
    """Decimals that leave three digits of a small number, and one decimal of a large one."""
    if abs(value) >= 10:
        return 1
    return 3 if value == 0 or abs(value) >= 0.1 else min(2 - floor(log10(abs(value))), 9)


def write_table(plan: Plan, lines: Sequence[Line], out: Path) -> None:
    """Write table.md for people, table.csv (full precision) and table.json (with every run's numbers)."""
    header, rows = table_cells(plan, lines)
    width = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]
    marks = [
        ":" + "-" * (size - 1) if place < len(plan.axes) else "-" * (size - 1) + ":" for place, size in enumerate(width)
    ]
    text = [
        "| " + " | ".join(cell.replace("|", "\\|").ljust(size) for cell, size in zip(row, width, strict=True)) + " |"
        for row in [header, marks, *rows]
    ]
    missing = sum(len(line.row.runs) - len(line.scores) for line in lines)
    below = f"Mean ± sample standard deviation over seeds. {_missing(missing)}"
    said = [part for note in notes_of(lines) for part in ("", note)]
    about = ["", plan.about] if plan.about else []
    write_text(out / "table.md", "\n".join([f"# {plan.title}", *about, "", *text, "", below, *said, ""]))

    columns = [*plan.axes, "seeds_finished", "seeds_planned"]
    columns += [f"{metric}_{what}" for metric in plan.metrics for what in ("mean", "std", "published")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        numbers: list[Any] = []
        for metric in plan.metrics:
            cell = line.cells.get(metric)
            numbers += [cell and cell.mean, cell and cell.std, line.row.published.get(metric)]
        labels = [line.labels.get(axis, "") for axis in plan.axes]
        writer.writerow([*labels, len(line.scores), len(line.row.runs), *numbers])
    write_text(out / "table.csv", file.getvalue())
    write_json(out / "table.json", _record(plan, lines, out))


def _missing(count: int) -> str:
    return "All runs are finished." if count == 0 else f"{count} {'run is' if count == 1 else 'runs are'} missing."


def _record(plan: Plan, lines: Sequence[Line], out: Path) -> dict[str, Any]:
    rows = []
    for line in lines:
        metrics = {}
        for metric in plan.metrics:
            cell = line.cells.get(metric)
            metrics[metric] = {
                "mean": cell and cell.mean,
                "std": cell and cell.std,
                "n": cell.n if cell else 0,
                "published": line.row.published.get(metric),
            }
        runs = []
        for run in line.row.runs:
            state = state_of(run, out)
            entry: dict[str, Any] = {"name": run.name, "seed": run.seed, "steps": run.settings.steps}
            runs.append(entry | {"state": state.kind, "scores": dict(line.scores.get(run.name, {}))})
        rows.append({"labels": dict(line.labels), "metrics": metrics, "runs": runs})
    return {
        "format": 1,
        "title": plan.title,
        "axes": list(plan.axes),
        "metrics": list(plan.metrics),
        "notes": notes_of(lines),
        "rows": rows,
    }
