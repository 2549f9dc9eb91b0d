"""A study on one self-contained page: the table, curves over a budget, a picture of every row, every run's fate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.files import write_png
from diptych.images import read_pixels
from diptych.pictures import contact_sheet
from diptych.report import (
    Picture,
    Table,
    colour_class,
    escaped,
    legend,
    note_html,
    picture_html,
    short_number,
    table_html,
    ticks,
    write_page,
)
from diptych.studies.folder import State, state_of
from diptych.studies.plan import Labels, Plan, folder_of
from diptych.studies.runs import duration
from diptych.studies.table import Line, table_cells, written

WIDTH, HEIGHT = 760, 340  # of a chart, in the units of its viewBox
LEFT, RIGHT, TOP, BOTTOM = 48, 748, 12, 296  # the frame inside it
APART = 7  # between the bars of two lines at one place
TILE, SMALL_TILE, MANY = 480, 300, 12  # pixels of a row's picture; from so many rows on they are small


@dataclass(frozen=True)
class Point:
    """A place on the chart's axis, and what was measured or published there."""

    place: int
    value: float
    std: float | None
    hover: str


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
    results = Table("", tuple(header), tuple(map(tuple, rows)), note)
    write_page(
        out / "index.html",
        plan.title,
        plan.about or f"{len(plan.rows)} rows, {len(plan.seeds)} {'seed' if len(plan.seeds) == 1 else 'seeds'} each.",
        figures=figures,
        sections={
            "Results": [table_html(results)],
            "Failed runs": _failed(states),
            "Curves": [chart for x, y in plan.curves for chart in _curve(plan, lines, x, y)],
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
                captions.append(f"{_words(plan, row.labels)}, seed {run.seed}")
                break
    if not files:
        return []
    tile = TILE if len(files) < MANY else SMALL_TILE
    sheet = contact_sheet([read_pixels(file) for file in files], captions, min(len(files), 960 // tile), tile)
    write_png(out / "pictures.png", sheet)
    return [picture_html(Picture("The last preview of a run of every row.", out / "pictures.png"))]


def _curve(plan: Plan, lines: Sequence[Line], x: str, y: str) -> list[str]:
    """The metric `y` over the labels of axis `x`: a line for every combination of the other axes."""
    labels = list(dict.fromkeys(line.labels[x] for line in lines if x in line.labels))
    if all(map(_is_number, labels)):
        labels.sort(key=float)
    unnamed = y.replace("_", " ") if len(plan.axes) == 1 else "other rows"
    ours: dict[str, list[Point]] = {}
    published: dict[str, list[Point]] = {}
    for line in lines:
        if x not in line.labels:
            continue
        name = _words(plan, {axis: label for axis, label in line.labels.items() if axis != x}) or unnamed
        place, cell, number = labels.index(line.labels[x]), line.cells.get(y), line.row.published.get(y)
        ours.setdefault(name, [])
        where = f"{name}, {x} {line.labels[x]}: "
        if cell is not None:
            ours[name].append(Point(place, cell.mean, cell.std, where + written(cell)))
        if number is not None:
            published.setdefault(name, []).append(Point(place, number, None, f"{where}published {number:g}"))
    index = {name: number for number, name in enumerate(ours)}
    drawn = [(index[name], points, False) for name, points in ours.items() if points]
    if not drawn:
        return []
    drawn += [(index[name], points, True) for name, points in published.items()]
    what = f"{y.replace('_', ' ')} by {x}"
    note = "Mean over the seeds, with bars of one standard deviation; the labels stand evenly apart."
    if published:
        note += " Dashed: published."
    return [_chart(what, labels, drawn), legend([(number, name) for name, number in index.items()]), note_html(note)]


def _words(plan: Plan, labels: Labels) -> str:
    """Labels in the order of the axes; a bare number needs its axis beside it."""
    there = [(axis, labels[axis]) for axis in plan.axes if axis in labels]
    return ", ".join(f"{axis} {label}" if _is_number(label) else label for axis, label in there)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _chart(title: str, labels: Sequence[str], lines: Sequence[tuple[int, Sequence[Point], bool]]) -> str:
    """`lines` are (colour, points, whether published)."""
    points = [point for _, of_line, _ in lines for point in of_line]
    low = min(point.value - (point.std or 0) for point in points)
    high = max(point.value + (point.std or 0) for point in points)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - pad, high + pad
    slot = (RIGHT - LEFT) / len(labels)
    middle = max(colour for colour, _, _ in lines) / 2

    def across(place: int, colour: float) -> float:
        # Lines stand a little apart, so that their bars do not hide one another.
        return LEFT + slot * (place + 0.5) + APART * (colour - middle)

    def up(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    marks = [f'<path class=axis d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for value in ticks(low, high, 5):
        marks.append(f'<path class=rule d="M{LEFT} {up(value):.1f}H{RIGHT}"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{up(value) + 3.5:.1f}" text-anchor="end">{short_number(value)}</text>')
    for place, label in enumerate(labels):
        marks.append(
            f'<text x="{across(place, middle):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{escaped(label)}</text>'
        )
    for colour, of_line, is_published in lines:
        ordered = sorted(of_line, key=lambda point: point.place)
        corners = " ".join(f"{across(point.place, colour):.1f},{up(point.value):.1f}" for point in ordered)
        look = f"{colour_class(colour)} dashed" if is_published else colour_class(colour)
        marks.append(f'<polyline class="mean {look}" points="{corners}"/>')
        for point in ordered:
            x, y = across(point.place, colour), up(point.value)
            if point.std:
                bar = f"M{x:.1f} {up(point.value - point.std):.1f}V{up(point.value + point.std):.1f}"
                marks.append(f'<path class="mean {colour_class(colour)}" d="{bar}"/>')
            kind = "hollow " if is_published else ""
            hover = f"<title>{escaped(point.hover)}</title>"
            marks.append(
                f'<circle class="{kind}{colour_class(colour)}" cx="{x:.1f}" cy="{y:.1f}" r="3.4">{hover}</circle>'
            )
    return (
        f'<figure class="chart wide"><figcaption><span>{escaped(title)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}">{"".join(marks)}</svg></figure>'
    )
