"""Scores over an axis, such as the budget: a chart on the study's page, and the same as an SVG that stands alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.files import write_text
from diptych.report import COLOURS, LIGHT, colour_class, escaped, legend, note_html, short_number, ticks
from diptych.studies.plan import Labels, Plan
from diptych.studies.table import Line, written

WIDTH, HEIGHT = 760, 340  # of a chart, in the units of its viewBox
LEFT, RIGHT, TOP, BOTTOM = 48, 748, 12, 296  # the frame inside it
APART = 7  # between the bars of two lines at one place
TITLE = 28  # height of the title of an SVG, in the same units
ENTRY, LETTER, SAMPLE = 18, 6.2, 30  # of an SVG's legend: height, about the width of a letter, of a line and its gaps


@dataclass(frozen=True)
class Point:
    """A place on the chart's axis, and what was measured or published there."""

    place: int
    value: float
    std: float | None
    hover: str


@dataclass(frozen=True)
class Drawn:
    """A line of a chart, through its points from left to right."""

    colour: int
    points: tuple[Point, ...]
    published: bool


@dataclass(frozen=True)
class Chart:
    """A metric over the labels of an axis: a line for every combination of the other axes."""

    name: str  # of its file
    title: str
    places: tuple[str, ...]  # the labels, from left to right
    names: tuple[str, ...]  # of the lines, by colour
    lines: tuple[Drawn, ...]

    @property
    def note(self) -> str:
        """How to read it."""
        text = "Mean over the seeds, with bars of one standard deviation; the labels stand evenly apart."
        return text + " Dashed: published." * any(line.published for line in self.lines)


def charts_of(plan: Plan, lines: Sequence[Line]) -> list[Chart]:
    """The charts that the study asks for; one without any score is left out."""
    charts = (_chart_of(plan, lines, x, y) for x, y in plan.curves)
    return [chart for chart in charts if any(not line.published for line in chart.lines)]


def _chart_of(plan: Plan, lines: Sequence[Line], x: str, y: str) -> Chart:
    there = [line for line in lines if x in line.labels]
    labels = list(dict.fromkeys(line.labels[x] for line in there))
    # Numbers by size, then words such as "all" in the study's order.
    labels.sort(key=lambda label: (0, float(label)) if _is_number(label) else (1, 0.0))
    unnamed = y.replace("_", " ") if len(plan.axes) == 1 else "other rows"
    ours: dict[str, list[Point]] = {}
    published: dict[str, list[Point]] = {}
    for line in there:
        name = in_words(plan, {axis: label for axis, label in line.labels.items() if axis != x}) or unnamed
        place, cell, number = labels.index(line.labels[x]), line.cells.get(y), line.row.published.get(y)
        ours.setdefault(name, [])
        where = f"{name}, {x} {line.labels[x]}: "
        if cell is not None:
            ours[name].append(Point(place, cell.mean, cell.std, where + written(cell)))
        if number is not None:
            published.setdefault(name, []).append(Point(place, number, None, f"{where}published {number:g}"))
    names = tuple(ours)
    drawn = [
        Drawn(names.index(name), tuple(sorted(points, key=lambda point: point.place)), of is published)
        for of in (ours, published)
        for name, points in of.items()
        if points
    ]
    title = f"{y.replace('_', ' ')} by {x}"
    return Chart(re.sub(r"[^\w.+-]+", "-", f"{y}-by-{x}"), title, tuple(labels), names, tuple(drawn))


def in_words(plan: Plan, labels: Labels) -> str:
    """Labels in the order of the axes; a bare number needs its axis beside it."""
    there = [(axis, labels[axis]) for axis in plan.axes if axis in labels]
    return ", ".join(f"{axis} {label}" if _is_number(label) else label for axis, label in there)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def chart_html(chart: Chart) -> list[str]:
    """The chart, its legend and how to read it, for a page of `write_page`."""
    title = escaped(chart.title)
    return [
        f'<figure class="chart wide"><figcaption><span>{title}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{_marks(chart)}</svg></figure>',
        legend(list(enumerate(chart.names))),
        note_html(chart.note),
    ]


def write_svg(chart: Chart, folder: Path) -> Path:
    """Write the chart, its title, legend and note into `folder` as an SVG that needs nothing else; return its path."""
    column = SAMPLE + LETTER * max(map(len, chart.names))
    columns = max(1, int((RIGHT - LEFT) // column))
    entries = []
    for index, name in enumerate(chart.names):
        x, y = LEFT + column * (index % columns), TITLE + HEIGHT + ENTRY * (index // columns)
        entries.append(
            f'<path class="mean {colour_class(index)}" d="M{x:.1f} {y}h20"/>'
            f'<text x="{x + 26:.1f}" y="{y + 3.5}">{escaped(name)}</text>'
        )
    below = TITLE + HEIGHT + ENTRY * -(-len(chart.names) // columns)
    entries.append(f'<text x="{LEFT}" y="{below + 3.5}">{escaped(chart.note)}</text>')
    height = below + ENTRY
    write_text(
        folder / f"{chart.name}.svg",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<style>{_plain_style()}</style>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{LIGHT["card"]}"/>'
        f'<text class="title" x="{LEFT}" y="20">{escaped(chart.title)}</text>'
        f'<g transform="translate(0 {TITLE})">{_marks(chart)}</g>\n{"".join(entries)}</svg>\n',
    )
    return folder / f"{chart.name}.svg"


def _plain_style() -> str:
    """The look of a page's charts by day, without the variables of CSS that drawing programs do not know."""
    rules = [
        f'text {{ font: 10.5px system-ui, "Liberation Sans", sans-serif; fill: {LIGHT["soft"]} }}',
        f".title {{ font-size: 14px; fill: {LIGHT['ink']} }}",
        f".rule {{ stroke: {LIGHT['rule']} }} .axis {{ stroke: {LIGHT['soft']}; stroke-width: 0.75 }}",
        ".mean { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round }",
        ".dashed { stroke-dasharray: 5 4 }",
    ]
    for index in range(COLOURS):
        colour = LIGHT[f"s{index}"]
        rules.append(f".mean.c{index} {{ stroke: {colour} }} circle.c{index} {{ fill: {colour}; stroke: #fff }}")
        rules.append(f".hollow.c{index} {{ fill: #fff; stroke: {colour}; stroke-width: 1.4 }}")
    return "\n".join(rules)


def _marks(chart: Chart) -> str:
    points = [point for line in chart.lines for point in line.points]
    low = min(point.value - (point.std or 0) for point in points)
    high = max(point.value + (point.std or 0) for point in points)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - pad, high + pad
    slot = (RIGHT - LEFT) / len(chart.places)
    middle = max(line.colour for line in chart.lines) / 2

    def across(place: int, colour: float) -> float:
        # Lines stand a little apart, so that their bars do not hide one another.
        return LEFT + slot * (place + 0.5) + APART * (colour - middle)

    def up(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    marks = [f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for value in ticks(low, high, 5):
        marks.append(f'<path class="rule" d="M{LEFT} {up(value):.1f}H{RIGHT}"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{up(value) + 3.5:.1f}" text-anchor="end">{short_number(value)}</text>')
    for place, label in enumerate(chart.places):
        marks.append(
            f'<text x="{across(place, middle):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{escaped(label)}</text>'
        )
    for line in chart.lines:
        colour = line.colour
        corners = " ".join(f"{across(point.place, colour):.1f},{up(point.value):.1f}" for point in line.points)
        look = f"{colour_class(colour)} dashed" if line.published else colour_class(colour)
        marks.append(f'<polyline class="mean {look}" points="{corners}"/>')
        for point in line.points:
            x, y = across(point.place, colour), up(point.value)
            if point.std:
                bar = f"M{x:.1f} {up(point.value - point.std):.1f}V{up(point.value + point.std):.1f}"
                marks.append(f'<path class="mean {colour_class(colour)}" d="{bar}"/>')
            kind = "hollow " if line.published else ""
            hover = f"<title>{escaped(point.hover)}</title>"
            marks.append(
                f'<circle class="{kind}{colour_class(colour)}" cx="{x:.1f}" cy="{y:.1f}" r="3.4">{hover}</circle>'
            )
    return "".join(marks)
