"""Numbers, pictures and logs -> one self-contained HTML page, light and dark, that needs no network and no script."""

import base64
import html
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError
from diptych.files import write_bytes
from diptych.reading import log_line

Curve = NDArray[np.float64]  # (n, 2): step and value, by rising step

FIRST_METRICS = ("mean_iou", "class_accuracy", "pixel_accuracy")
POINTS = 400  # at most so many per drawn curve
COLOURS = 8  # then the same ones again, dashed
WIDTH, HEIGHT = 360, 200  # of a chart, in the units of its viewBox
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 8, 178  # the frame inside it


@dataclass(frozen=True)
class Table:
    """A table with as many cells in each row as in the header; `note` stands below it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows; the words are its alternative text too."""

    caption: str
    file: Path


@dataclass(frozen=True, eq=False)
class Log:
    """What a run wrote down: a curve per term of the losses and one per number of the validation, by name."""

    terms: Mapping[str, Curve]
    validation: Mapping[str, Curve]


def write_report(
    path: Path,
    title: str,
    lead: str,
    *,
    figures: Sequence[tuple[str, str]] = (),
    pictures: Sequence[Picture] = (),
    tables: Sequence[Table] = (),
    runs: Mapping[str, Path] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the page to `path` in one piece: a reader sees the old page or the new one.

    `figures` are the big numbers at the top, as (label, value). `runs` maps a name to a run folder, whose `log.jsonl`
    gives the curves; a run without one has none. All text is plain text.
    Raises `DiptychError` for a picture that is missing or no PNG, `ValueError` for a ragged table.
    """
    logs = {name: read_log(folder / "log.jsonl") for name, folder in (runs or {}).items()}
    write_page(
        path,
        title,
        lead,
        figures=figures,
        sections={
            "Pictures": [picture_html(picture) for picture in pictures],
            "Results": [table_html(table) for table in tables],
            "Validation": _validation_charts(logs),
            "Training": _term_charts(logs),
            "Notes": [note_html(note) for note in notes],
        },
    )


def write_page(
    path: Path,
    title: str,
    lead: str,
    *,
    figures: Sequence[tuple[str, str]] = (),
    sections: Mapping[str, Sequence[str]],
) -> None:
    """Write a page of `sections`, heading -> parts in HTML such as `table_html` makes; one without parts is left out.

    `figures` are the big numbers at the top, as (label, value); they, the title and the lead are plain text.
    """
    body = [
        f"<header><h1>{escaped(title)}</h1><p class=lead>{escaped(lead)}</p>{_figures(figures)}</header>",
        *(_section(heading, parts) for heading, parts in sections.items()),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)}</title>\n<style>{_palette()}{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    # File names that are no valid Unicode reach us as lone surrogates, which UTF-8 refuses.
    write_bytes(path, page.encode("utf-8", "xmlcharrefreplace"))


def read_log(path: Path) -> Log:
    """The curves of a `log.jsonl`, every finite number in it at full length; none where there is no such file.

    A step that was logged twice, as after resuming from an earlier checkpoint, counts as it was logged last.
    """
    terms: dict[str, dict[float, float]] = {}
    validation: dict[str, dict[float, float]] = {}
    for line in _lines(path):
        for curves, key in ((terms, "terms"), (validation, "validation")):
            step, entries = line.get("step"), line.get(key)
            if _is_number(step) and isinstance(entries, dict):
                for name, value in entries.items():
                    if _is_number(value):
                        curves.setdefault(name, {})[step] = value
    return Log(*({name: _curve(values) for name, values in curves.items()} for curves in (terms, validation)))


def _lines(path: Path) -> Iterator[dict[str, object]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            line = log_line(text)
            if line is not None:  # else cut in half by a kill, perhaps with the resumed run's first line behind it
                yield line


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a chart can show it: no NaN, no infinity, and nothing so large that sums of it overflow."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _curve(values: Mapping[float, float]) -> Curve:
    return np.array(sorted(values.items()), np.float64)


def _validation_charts(logs: Mapping[str, Log]) -> list[str]:
    """A chart per metric with all runs in it; the well-known ones first, the others folded away behind them."""
    by_metric: dict[str, list[tuple[int, str, Curve]]] = {}
    for index, (name, log) in enumerate(logs.items()):
        for metric, curve in log.validation.items():
            by_metric.setdefault(metric, []).append((index, name, curve))
    if not by_metric:
        return []
    first = [metric for metric in FIRST_METRICS if metric in by_metric] or list(by_metric)
    rest = [metric for metric in by_metric if metric not in first]
    parts = ["<p class=note>By training step; the figures are the last ones.</p>"]
    if len(logs) > 1:
        parts.append(legend([(index, name) for index, (name, log) in enumerate(logs.items()) if log.validation]))
    parts.append(_charts(_chart(metric, by_metric[metric]) for metric in first))
    if rest:
        others = _charts(_chart(metric, by_metric[metric]) for metric in rest)
        parts.append(f"<details><summary>Also measured: {escaped(', '.join(rest))}</summary>{others}</details>")
    return parts


def _term_charts(logs: Mapping[str, Log]) -> list[str]:
    """A block of charts per run, a chart per term."""
    with_terms = [(index, name, log.terms) for index, (name, log) in enumerate(logs.items()) if log.terms]
    if not with_terms:
        return []
    parts = ["<p class=note>The unweighted terms by training step: as logged, faint, and their running mean.</p>"]
    for index, name, terms in with_terms:
        charts = _charts(_chart(term, [(index, name, curve)], noisy=True) for term, curve in terms.items())
        opened = " open" if len(with_terms) <= 2 else ""
        parts.append(f"<details{opened}><summary>{escaped(name)}</summary>{charts}</details>")
    return parts


def _chart(title: str, curves: Sequence[tuple[int, str, Curve]], noisy: bool = False) -> str:
    """One chart; `curves` are (colour number, name, points). Noisy ones are drawn faint under their running mean."""
    drawn = [(index, name, curve, smooth(curve) if noisy else curve) for index, name, curve in curves]
    # A few wild values would press all others flat: noisy curves may be cut off at the frame, their means may not.
    seen = [mean[:, 1] for *_, mean in drawn]
    if noisy:
        seen += [np.percentile(curve[:, 1], [1, 99]) for _, _, curve, _ in drawn]
    low, high = min(values.min() for values in seen), max(values.max() for values in seen)
    pad = 0.06 * (high - low) + 1e-3 * max(abs(low), abs(high))
    pad = pad if pad > 1e-12 else 1.0
    low, high = low - pad, high + pad
    last_step = max(curve[-1, 0] for _, _, curve in curves) or 1.0

    def place(curve: Curve) -> Curve:
        x = LEFT + curve[:, 0] / last_step * (RIGHT - LEFT)
        y = BOTTOM - (curve[:, 1] - low) / (high - low) * (BOTTOM - TOP)
        return np.stack([x, y.clip(TOP, BOTTOM)], axis=1)

    marks = [f'<path class=axis d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for value in ticks(low, high, 5):
        y = place(np.array([[0.0, value]]))[0, 1]
        marks.append(f'<path class=rule d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short_number(value)}</text>')
    for step in ticks(0, last_step, 4):
        x = place(np.array([[step, low]]))[0, 0]
        marks.append(f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{short_number(step)}</text>')
    for index, name, curve, mean in drawn:
        if noisy:
            marks.append(_line(place(_thin(curve)), index, "raw"))
        marks.append(_line(place(_thin(mean)), index, "mean", f"{name}, at the end {short_number(mean[-1, 1])}"))
        if len(curve) == 1 or (len(curve) <= 40 and not noisy):
            for (x, y), (step, value) in zip(place(curve), curve, strict=True):
                hover = f"<title>{escaped(name)}, step {step:,.0f}: {value:.4g}</title>"
                marks.append(f'<circle class=c{index % COLOURS} cx="{x:.1f}" cy="{y:.1f}" r="2.6">{hover}</circle>')
    ends = [f"<b class=c{index % COLOURS}>{mean[-1, 1]:.3g}</b>" for index, _, _, mean in drawn if len(drawn) <= 4]
    label = escaped(title + ": " + ", ".join(f"{name} {short_number(mean[-1, 1])}" for _, name, _, mean in drawn))
    return (
        f"<figure class=chart><figcaption><span>{escaped(title)}</span><span>{' '.join(ends)}</span></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label} at the end">'
        f"{''.join(marks)}</svg></figure>"
    )


def smooth(curve: Curve) -> Curve:
    """The running mean `(n, 2)` over a twentieth of the curve, cut off at its ends; under 40 points the curve itself.

    One wild value would shift a whole window, so the highest and the lowest hundredth count as their percentile.
    """
    reach = len(curve) // 40
    if reach == 0:
        return curve
    values = curve[:, 1].clip(*np.percentile(curve[:, 1], [1, 99]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(curve)) - reach, 0)
    end = np.minimum(np.arange(len(curve)) + reach + 1, len(curve))
    return np.stack([curve[:, 0], (sums[end] - sums[first]) / (end - first)], axis=1)


def _thin(curve: Curve) -> Curve:
    """At most `POINTS` of the points, evenly spread, the first and the last among them."""
    kept: Curve = curve[np.linspace(0, len(curve) - 1, min(POINTS, len(curve))).round().astype(int)]
    return kept


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], at most `about` + 1 of them."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [multiple * step for multiple in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short_number(value: float) -> str:
    """At most four digits: `"0.4124"`, `"12k"`."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def _line(places: Curve, index: int, kind: str, hover: str = "") -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    title = f"<title>{escaped(hover)}</title>" if hover else ""
    return f'<polyline class="{kind} {colour_class(index)}" points="{points}">{title}</polyline>'


def colour_class(index: int) -> str:
    """The style of the `index`-th curve."""
    return f"c{index % COLOURS}" + (" dashed" if index // COLOURS % 2 else "")


def legend(names: Sequence[tuple[int, str]]) -> str:
    """Which curve is which, as (`index`, name)."""
    entries = "".join(
        f'<li><svg viewBox="0 0 22 8" aria-hidden="true"><path class="mean {colour_class(index)}" d="M1 4H21"/></svg>'
        f"{escaped(name)}</li>"
        for index, name in names
    )
    return f"<ul class=legend>{entries}</ul>"


def _charts(charts: Iterator[str]) -> str:
    return f"<div class=charts>{''.join(charts)}</div>"


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    entries = "".join(f"<div><dt>{escaped(label)}</dt><dd>{escaped(value)}</dd></div>" for label, value in figures)
    return f"<dl>{entries}</dl>" if entries else ""


def picture_html(picture: Picture) -> str:
    """The picture itself, in the page, over its caption; raises `DiptychError` where it is missing or no PNG."""
    try:
        data = picture.file.read_bytes()
    except OSError as problem:
        raise DiptychError(f"{picture.file}: cannot be read ({problem.strerror}); give a PNG file") from None
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 24:
        raise DiptychError(f"{picture.file}: not a PNG file; save the picture as PNG")
    width, height = struct.unpack(">II", data[16:24])  # the header chunk comes first in every PNG
    return (
        f'<figure class=picture><img width="{width}" height="{height}" alt="{escaped(picture.caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{escaped(picture.caption)}</figcaption></figure>"
    )


NUMBER = re.compile(
    r"[-+\N{MINUS SIGN}~<>≥≤]?\s?\d[\d.,]*(e[-+]?\d+)?(\s?±\s?([\d.,]+|\N{EN DASH}))?"
    r"(\s?[%\N{MULTIPLICATION SIGN}a-zA-Zµ/°]{1,6})?"
)
NOTHING = frozenset({"", "-", "\N{EN DASH}", "\N{EM DASH}", "nan", "n/a"})


def table_html(table: Table) -> str:
    """The table as HTML; columns in which every filled cell is a number stand to the right."""
    columns = list(zip(table.header, *table.rows, strict=True))
    filled = [[cell.strip() for cell in cells if cell.strip().lower() not in NOTHING] for _, *cells in columns]
    kinds = [" class=number" if cells and all(map(NUMBER.fullmatch, cells)) else "" for cells in filled]

    def row(cells: Sequence[str], first: str, others: str) -> str:
        tags = [first] + [others] * (len(cells) - 1)
        entries = zip(tags, kinds, cells, strict=True)
        return "".join(f"<{tag}{kind}>{escaped(cell)}</{tag[:2]}>" for tag, kind, cell in entries)

    head = row(table.header, "th scope=col", "th scope=col")
    rows = "".join(f"<tr>{row(cells, 'th scope=row', 'td')}</tr>" for cells in table.rows)
    note = note_html(table.note) if table.note else ""
    return (
        f"<div class=table><table><caption>{escaped(table.caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def note_html(text: str) -> str:
    """A line of smaller print."""
    return f"<p class=note>{escaped(text)}</p>"


def _section(heading: str, parts: Sequence[str]) -> str:
    return "\n".join([f"<section><h2>{heading}</h2>", *parts, "</section>"]) if parts else ""


def escaped(text: str) -> str:
    """Plain text as HTML."""
    return html.escape(text, quote=True)


LIGHT = {
    "paper": "#fbfaf8", "card": "#ffffff", "ink": "#1f2023", "soft": "#6b6d73", "rule": "#e6e3dc",
    "s0": "#2f6db3", "s1": "#cf6a1f", "s2": "#2f8f63", "s3": "#a8427c",
    "s4": "#7458b8", "s5": "#94790f", "s6": "#2b8d98", "s7": "#b5403a",
}  # fmt: skip
DARK = {
    "paper": "#16171a", "card": "#1e2024", "ink": "#e9e7e2", "soft": "#989a9f", "rule": "#33353a",
    "s0": "#7fb2ea", "s1": "#f0a061", "s2": "#74c99d", "s3": "#e08dbb",
    "s4": "#b4a0ea", "s5": "#d6bd57", "s6": "#72c6d0", "s7": "#ec8a83",
}  # fmt: skip
"""Colours of a page by day and by night; those of curves are s0, s1, ..."""


def _palette() -> str:
    """The colours as variables of CSS."""
    day, night = ("; ".join(f"--{name}: {colour}" for name, colour in of.items()) for of in (LIGHT, DARK))
    return f":root {{ {day} }} @media (prefers-color-scheme: dark) {{ :root {{ {night} }} }}"


STYLE = """
.c0 { --c: var(--s0) } .c1 { --c: var(--s1) } .c2 { --c: var(--s2) } .c3 { --c: var(--s3) }
.c4 { --c: var(--s4) } .c5 { --c: var(--s5) } .c6 { --c: var(--s6) } .c7 { --c: var(--s7) }
* { box-sizing: border-box }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: 56px clamp(16px, 4vw, 48px) 80px }
h1 { font-size: clamp(28px, 4vw, 42px); line-height: 1.15; letter-spacing: -0.02em; font-weight: 650; margin: 0 0 14px }
h2 { font-size: 21px; letter-spacing: -0.01em; font-weight: 650; margin: 0 0 20px }
section { margin-top: 60px }
.lead { font-size: 19px; line-height: 1.5; color: var(--soft); max-width: 44em; margin: 0 }
.note { font-size: 14.5px; color: var(--soft); max-width: 52em; margin: 10px 0 0 }
h2 + .note { margin-top: -12px }
h1, .lead, .note, dd, dt, figcaption, summary, .legend { overflow-wrap: anywhere }
dl { display: flex; flex-wrap: wrap; gap: 24px 56px; margin: 36px 0 0; padding: 24px 0; border: solid var(--rule);
  border-width: 1px 0 }
dt { font-size: 14px; color: var(--soft) }
dd { margin: 0; font-size: 38px; line-height: 1.2; font-weight: 600; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums }
figure { margin: 0 }
.picture + .picture { margin-top: 36px }
.picture img { display: block; max-width: 100%; height: auto; border-radius: 6px; outline: 1px solid var(--rule) }
.picture figcaption { font-size: 14.5px; color: var(--soft); margin-top: 10px; max-width: 60em }
.table { overflow-x: auto }
table { border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums }
* + .table { margin-top: 36px }
h2 + .table { margin-top: 0 }
caption { text-align: left; font-weight: 600; padding-bottom: 8px }
th, td { padding: 8px 28px 8px 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--rule) }
th:last-child, td:last-child { padding-right: 0 }
thead th { font-size: 13.5px; font-weight: 500; color: var(--soft); border-bottom-color: var(--soft) }
tbody th { font-weight: 500; min-width: 8em }
tbody tr:hover { background: color-mix(in srgb, var(--rule) 35%, transparent) }
.number { text-align: right; white-space: nowrap }
.legend { display: flex; flex-wrap: wrap; gap: 6px 24px; list-style: none;
  margin: 16px 0 0; padding: 0; font-size: 14.5px }
.legend svg { width: 22px; height: 8px; margin-right: 8px; vertical-align: middle }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr)); gap: 20px;
  margin-top: 18px }
.chart { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px 6px }
.chart figcaption { display: flex; justify-content: space-between; gap: 12px; font-size: 14px; margin-bottom: 6px }
.chart b { color: var(--c); font-weight: 600; font-variant-numeric: tabular-nums; margin-left: 6px }
.chart svg { display: block; width: 100%; height: auto }
.chart text { font-size: 10.5px; fill: var(--soft); font-variant-numeric: tabular-nums }
.rule { stroke: var(--rule); stroke-width: 1; fill: none }
.axis { stroke: var(--soft); stroke-width: 0.75; fill: none }
.raw, .mean { fill: none; stroke: var(--c); stroke-linejoin: round; stroke-linecap: round }
.raw { stroke-width: 1; opacity: 0.28 }
.mean { stroke-width: 1.8 }
.dashed { stroke-dasharray: 5 4 }
.wide { max-width: 860px }
* + .wide { margin-top: 36px }
circle { fill: var(--c); stroke: var(--card); stroke-width: 1 }
.hollow { fill: var(--card); stroke: var(--c); stroke-width: 1.4 }
.finding { margin-top: 24px; padding: 2px 0 2px 18px; border-left: 4px solid var(--c) }
.finding p { margin: 0; overflow-wrap: anywhere; max-width: 70em }
.finding b { color: var(--c); margin-right: 8px }
.thumbs { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 12px }
.thumbs + .note { margin-top: 26px }
.thumbs figure > div { display: flex; gap: 3px }
.thumbs img { display: block; height: 120px; width: auto; max-width: 100%; border-radius: 4px;
  outline: 1px solid var(--rule) }
.thumbs figcaption { font-size: 12.5px; color: var(--soft); margin-top: 4px; max-width: 30em }
.bars td:last-child { width: 40% }
.bars i { display: block; height: 12px; min-width: 1px; border-radius: 2px; outline: 1px solid var(--rule) }
rect { fill: var(--c) }
details { margin-top: 20px }
summary { cursor: pointer; font-weight: 600 }
"""
