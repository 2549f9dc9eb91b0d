"""The chart of a score over an axis, on a study's page and as a file by itself."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from diptych.studies.curves import BOTTOM, TOP, Chart, chart_html, charts_of, write_svg
from diptych.studies.plan import Plan, Row
from diptych.studies.table import Cell, Line

SVG = "{http://www.w3.org/2000/svg}"


def line(method: str, budget: str, cell: Cell | None = None, published: float | None = None) -> Line:
    numbers = {} if published is None else {"mean_iou": published}
    row = Row({"method": method, "budget": budget}, {}, (), numbers)
    return Line(row, {}, {}, {} if cell is None else {"mean_iou": cell})


def charts(*lines: Line) -> list[Chart]:
    rows = tuple(line.row for line in lines)
    plan = Plan("", "", ("mean_iou",), ("method", "budget"), (0,), rows, (), (("budget", "mean_iou"),))
    return charts_of(plan, lines)


def circles(svg: Path, kind: str) -> list[tuple[float, float]]:
    found = ElementTree.parse(svg).iter(f"{SVG}circle")
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in found if c.attrib["class"] == kind]


def test_numbers_stand_by_size_and_words_after_them() -> None:
    (chart,) = charts(
        line("pairs only", "5", Cell(0.2, None, 1)),
        line("pairs only", "20", Cell(0.3, None, 1)),
        line("CycleGAN", "0", Cell(0.1, None, 1)),
        line("pairs only", "all", Cell(0.4, None, 1)),
        line("pairs only", "200", Cell(0.35, None, 1)),
    )
    assert chart.places == ("0", "5", "20", "200", "all")
    assert chart.names == ("pairs only", "CycleGAN")
    ours = chart.lines[0]
    assert [(point.place, point.value) for point in ours.points] == [(1, 0.2), (2, 0.3), (3, 0.35), (4, 0.4)]


def test_points_bars_and_published_numbers_are_placed_as_worked_by_hand(tmp_path: Path) -> None:
    # From .1 - .05 to .4 the scale is .35; 6 % beyond at either end make .029 to .421.
    (chart,) = charts(
        line("hybrid", "1", Cell(0.1, 0.05, 3), published=0.4), line("hybrid", "20", Cell(0.3, None, 1), published=0.2)
    )
    file = write_svg(chart, tmp_path)
    assert file.name == "mean_iou-by-budget.svg"

    def up(value: float) -> float:
        return BOTTOM - (value - 0.029) / (0.421 - 0.029) * (BOTTOM - TOP)

    # 700 units from 48 on, in two slots: their middles are at 223 and 573.
    assert circles(file, "c0") == [(223.0, pytest.approx(up(0.1), abs=0.06)), (573.0, pytest.approx(up(0.3), abs=0.06))]
    assert circles(file, "hollow c0") == [
        (223.0, pytest.approx(up(0.4), abs=0.06)),
        (573.0, pytest.approx(up(0.2), abs=0.06)),
    ]
    bars = re.findall(r'd="M223\.0 ([\d.]+)V([\d.]+)"', file.read_text())
    assert [tuple(map(float, bar)) for bar in bars] == [pytest.approx((up(0.05), up(0.15)), abs=0.06)]
    assert "Dashed: published." in chart.note


def test_an_svg_says_what_it_shows_and_needs_nothing_else(tmp_path: Path) -> None:
    (chart,) = charts(line("L1 & <L2>", "1", Cell(0.1, None, 1)), line("mix", "1", Cell(0.2, None, 1)))
    file = write_svg(chart, tmp_path)
    texts = [element.text for element in ElementTree.parse(file).iter(f"{SVG}text")]
    assert texts[0] == "mean iou by budget"
    assert texts[-3:] == ["L1 & <L2>", "mix", chart.note]
    assert not re.search(r"(href|url|@import)", file.read_text())
    assert "Dashed" not in chart.note


def test_many_lines_get_a_legend_of_several_rows_inside_the_picture(tmp_path: Path) -> None:
    (chart,) = charts(*(line(f"method number {n}", "1", Cell(n / 10, None, 1)) for n in range(12)))
    root = ElementTree.parse(write_svg(chart, tmp_path)).getroot()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    names = [text for text in root.iter(f"{SVG}text") if (text.text or "").startswith("method number")]
    assert len({text.attrib["y"] for text in names}) > 1
    assert all(float(text.attrib["x"]) + 100 < width and float(text.attrib["y"]) < height for text in names)
    assert len({(text.attrib["x"], text.attrib["y"]) for text in names}) == 12


def test_rows_without_a_score_are_named_and_a_chart_without_any_is_left_out() -> None:
    assert charts(line("hybrid", "1", published=0.2)) == []
    (chart,) = charts(line("hybrid", "1", Cell(0.1, None, 1)), line("pairs only", "1", published=0.3))
    page = "".join(chart_html(chart))
    assert "pairs only" in page
    assert page.count("<circle") == 2
