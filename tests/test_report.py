import base64
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diptych.errors import DiptychError
from diptych.report import Picture, Table, read_log, smooth, ticks, write_report

VOID_TAGS = {"meta", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """A parsed page: every tag with its attributes and the text that stands in it; unbalanced tags fail."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID_TAGS:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag: str) -> list[str]:
        return [data for name, data in self.texts if name == tag and data.strip()]


def png(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(folder: Path, *lines: dict[str, Any], rest: str = "") -> Path:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + rest)
    return folder


def full_page(folder: Path) -> Page:
    steps = [
        {"step": 20 * i, "seconds": 0.5, "lr": 2e-4, "terms": {"cycle_a": 1 / i, "judge_b": 0.5}} for i in (1, 2, 3)
    ]
    checks = [{"step": 30 * i, "validation": {"mean_iou": 0.1 * i, "kid": 0.2}} for i in (1, 2)]
    runs = {"first": run(folder / "one", *steps, *checks), "second": run(folder / "two", *checks)}
    write_report(
        folder / "page.html",
        "A title",
        "A lead.",
        figures=[("Mean IoU", "0.46")],
        pictures=[Picture("noise", png(folder / "a.png", 1)), Picture("more noise", png(folder / "b.png", 2))],
        tables=[Table("Results", ("Run", "mIoU"), (("first", "0.2"), ("second", "0.2")), note="One seed.")],
        runs=runs,
        notes=["The end."],
    )
    return Page(folder / "page.html")


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = full_page(tmp_path)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not {"href", "xlink:href", "srcset", "action"} & set(attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
    assert "http" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_page_holds_all_it_was_given_in_reading_order(tmp_path: Path) -> None:
    page = full_page(tmp_path)
    assert page.text("h1") == ["A title"]
    assert page.text("h2") == ["Pictures", "Results", "Validation", "Training", "Notes"]
    assert page.text("dt") + page.text("dd") == ["Mean IoU", "0.46"]
    assert [text for _, text in page.texts if text in ("A lead.", "One seed.", "The end.")] == [
        "A lead.",
        "One seed.",
        "The end.",
    ]
    assert "prefers-color-scheme: dark" in page.source


def test_bare_page_has_no_empty_sections(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "page.html", "A title", "A lead.", runs={"gone": tmp_path / "gone"})
    page = Page(tmp_path / "new" / "page.html")
    assert page.text("h2") == []
    assert not page.all("dl")


def test_pictures_are_embedded_pixel_by_pixel_with_words(tmp_path: Path) -> None:
    images = full_page(tmp_path).all("img")
    assert [image["alt"] for image in images] == ["noise", "more noise"]
    for image, file in zip(images, ("a.png", "b.png"), strict=True):
        kind, data = str(image["src"]).split(",")
        assert kind == "data:image/png;base64"
        embedded = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert np.array_equal(np.asarray(embedded), np.asarray(Image.open(tmp_path / file)))
        assert (image["width"], image["height"]) == ("11", "7")


def test_pictures_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\xff\xd8\xff\xe0 a JPEG, by its first bytes, which are more than 24")
    for name, why in (("photo.png", "not a PNG"), ("gone.png", "cannot be read"), (".", "cannot be read")):
        with pytest.raises(DiptychError, match=why) as problem:
            write_report(tmp_path / "page.html", "t", "l", pictures=[Picture("c", tmp_path / name)])
        assert str(tmp_path / name) in str(problem.value)
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]


def test_all_text_is_escaped(tmp_path: Path) -> None:
    evil = "\"'><script>alert(1)</script>&amp;"
    lines = [{"step": 1, "terms": {evil: 1.0}}, {"step": 2, "validation": {evil: 1.0, "mean_iou": 0.5}}]
    write_report(
        tmp_path / "page.html",
        evil,
        evil,
        figures=[(evil, evil)],
        pictures=[Picture(evil, png(tmp_path / "a.png"))],
        tables=[Table(evil, (evil, evil), ((evil, evil),), note=evil)],
        runs={evil: run(tmp_path / "one", *lines), evil + "2": run(tmp_path / "two", *lines)},
        notes=[evil],
    )
    page = Page(tmp_path / "page.html")
    assert not page.all("script")
    for tag in ("title", "h1", "dt", "dd", "caption", "th", "td", "summary", "figcaption"):
        assert any(evil in text for text in page.text(tag)), tag
    assert page.all("img")[0]["alt"] == evil
    assert evil + ": " in str(page.all("svg")[-1]["aria-label"])


def test_names_that_are_no_unicode_do_not_break_the_page(tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", os.fsdecode(b"caf\xe9"), "a lead")
    assert "<h1>caf&#56553;</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_columns_of_numbers_stand_to_the_right_and_no_row_stands_out(tmp_path: Path) -> None:
    rows = (
        ("pix2pix", "0.41 ± 0.02", "12 %", "-", "12 s", "-1e-05", "3 of 4", ""),
        ("cyclegan", "0.2", "\N{EN DASH}", "", "1,200.5 s", "0", "5", ""),
    )
    header = ("run", "miou", "share", "nothing", "time", "small", "words", "empty")
    write_report(tmp_path / "page.html", "t", "l", tables=[Table("c", header, rows)])
    page = Page(tmp_path / "page.html")
    right = [attributes.get("class") == "number" for attributes in page.all("th") if attributes["scope"] == "col"]
    assert right == [False, True, True, False, True, True, False, False]
    cells = [attributes.get("class") == "number" for attributes in page.all("td")]
    assert cells == right[1:] * 2
    assert not page.all("strong")


def test_ragged_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_report(tmp_path / "page.html", "t", "l", tables=[Table("c", ("a", "b"), (("1",),))])
    assert not list(tmp_path.iterdir())


def test_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = run(
        tmp_path / "run",
        {
            "step": 20,
            "seconds": 3.1,
            "images_per_second": 12.3,
            "lr": 0.0002,
            "terms": {"cycle_a": 0.5, "judge_b": 0.25},
        },
        {"step": 40, "seconds": 6.0, "images_per_second": 12.3, "lr": 0.0002, "terms": {"cycle_a": 0.375}},
        {"step": 40, "validation": {"mean_iou": 0.41, "iou": {"road": 0.9}, "best": [1, 2], "note": "x", "fid": None}},
        {"step": 60, "terms": {"cycle_a": float("nan"), "judge_b": float("inf"), "ok": True}},
        {"step": 80, "terms": {"judge_b": 10**400}, "validation": {"mean_iou": float("-inf")}},
        {"step": "later", "terms": {"cycle_a": 1}},
        rest='\n[1, 2]\n{"step": 100, "terms": {"cycle_a": 0.12',
    )
    log = read_log(folder / "log.jsonl")
    assert {name: curve.tolist() for name, curve in log.terms.items()} == {
        "cycle_a": [[20, 0.5], [40, 0.375]],
        "judge_b": [[20, 0.25]],
    }
    assert {name: curve.tolist() for name, curve in log.validation.items()} == {"mean_iou": [[40, 0.41]]}


def test_log_of_a_run_killed_and_resumed(tmp_path: Path) -> None:
    lines = [
        '{"step": 1, "terms": {"l1": 4}}',
        '{"step": 3, "terms": {"l1": 3}}',
        '{"step": 4, "te{"step": 2, "terms": ',
    ]
    lines += ['{"step": 2, "terms": {"l1": 2.5}}', '{"step": 3, "terms": {"l1": 2}}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert read_log(tmp_path / "log.jsonl").terms["l1"].tolist() == [[1, 4], [2, 2.5], [3, 2]]


def test_missing_and_empty_logs_have_no_curves(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    (tmp_path / "noise.jsonl").write_bytes(bytes(range(256)))
    for name in ("gone.jsonl", "log.jsonl", "noise.jsonl"):
        log = read_log(tmp_path / name)
        assert not log.terms
        assert not log.validation


def test_curves_are_drawn_where_they_belong(tmp_path: Path) -> None:
    lines = [{"step": 500, "validation": {"mean_iou": 0.2}}, {"step": 1000, "validation": {"mean_iou": 0.4}}]
    write_report(tmp_path / "page.html", "t", "l", runs={"small": run(tmp_path / "run", *lines)})
    page = Page(tmp_path / "page.html")
    # The frame is x 44..350 for steps 0..1000 and y 178..8 for 0.2 - 0.0124 .. 0.4 + 0.0124: 6 % of 0.2 and a
    # thousandth of 0.4 around the values. 0.2 is 178 - 170 * 124 / 2248 = 168.62, and 0.4 as far from the top, 17.38.
    assert [line["points"] for line in page.all("polyline")] == ["197.0,168.6 350.0,17.4"]
    assert [(dot["cx"], dot["cy"]) for dot in page.all("circle")] == [("197.0", "168.6"), ("350.0", "17.4")]
    assert page.text("title")[1:] == ["small, at the end 0.4", "small, step 500: 0.2", "small, step 1,000: 0.4"]
    assert page.text("text") == ["0.2", "0.25", "0.3", "0.35", "0.4", "0", "500", "1k"]
    assert page.text("b") == ["0.4"]


def test_validation_overlays_the_runs_and_folds_away_the_lesser_metrics(tmp_path: Path) -> None:
    def check(value: float) -> dict[str, Any]:
        return {"step": 10, "validation": {"kid": 1, "pixel_accuracy": value, "mean_iou": value, "odd": 3}}

    runs = {name: run(tmp_path / name, check(value)) for name, value in (("low", 0.1), ("high", 0.3))}
    runs["silent"] = tmp_path / "silent"
    write_report(tmp_path / "page.html", "t", "l", runs=runs)
    page = Page(tmp_path / "page.html")
    assert page.text("li") == ["low", "high"]
    assert [text for text in page.text("span") if text.strip()] == ["mean_iou", "pixel_accuracy", "kid", "odd"]
    assert page.text("summary") == ["Also measured: kid, odd"]
    assert [svg["aria-label"] for svg in page.all("svg") if svg.get("role") == "img"][:2] == [
        "mean_iou: low 0.1, high 0.3 at the end",
        "pixel_accuracy: low 0.1, high 0.3 at the end",
    ]


def test_no_two_of_many_runs_look_alike(tmp_path: Path) -> None:
    runs = {f"run {i}": run(tmp_path / str(i), {"step": 1, "validation": {"mean_iou": i / 20}}) for i in range(12)}
    write_report(tmp_path / "page.html", "t", "l", runs=runs)
    page = Page(tmp_path / "page.html")
    looks = [line["class"] for line in page.all("polyline")]
    assert len(set(looks)) == 12
    assert [mark["class"] for mark in page.all("path") if "mean" in str(mark["class"])] == looks


def test_other_metrics_come_first_where_the_usual_ones_are_missing(tmp_path: Path) -> None:
    write_report(
        tmp_path / "page.html",
        "t",
        "l",
        runs={"a": run(tmp_path / "a", {"step": 1, "validation": {"kid": 0, "fid": 3}})},
    )
    page = Page(tmp_path / "page.html")
    assert [text for text in page.text("span") if text.strip()] == ["kid", "fid"]
    assert not page.all("details")


def test_every_run_has_a_chart_per_term(tmp_path: Path) -> None:
    runs = {
        name: run(tmp_path / name, *({"step": step, "terms": dict.fromkeys(terms, 1.0)} for step in (1, 2)))
        for name, terms in (("one", ["l1", "adversarial_b"]), ("two", ["cycle_a"]))
    }
    write_report(tmp_path / "page.html", "t", "l", runs=runs)
    page = Page(tmp_path / "page.html")
    assert page.text("summary") == ["one", "two"]
    assert page.text("span") == ["l1", "adversarial_b", "cycle_a"]
    assert [line["class"] for line in page.all("polyline")] == ["raw c0", "mean c0"] * 2 + ["raw c1", "mean c1"]


def test_long_logs_are_thinned(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=100_000).tolist()
    with (folder / "log.jsonl").open("w") as file:
        for step, value in enumerate(noise, start=1):
            file.write(f'{{"step": {step}, "terms": {{"l1": {value}}}}}\n')
    write_report(tmp_path / "page.html", "t", "l", runs={"long": folder})
    page = Page(tmp_path / "page.html")
    assert len(page.source) < 30_000
    for line in page.all("polyline"):
        points = str(line["points"]).split()
        assert len(points) == 400
        assert points[0].startswith("44.0,")
        assert points[-1].startswith("350.0,")


def test_wild_values_do_not_flatten_a_chart(tmp_path: Path) -> None:
    lines = [{"step": step, "terms": {"l1": 1e6 if step == 300 else step % 2}} for step in range(1000)]
    write_report(tmp_path / "page.html", "t", "l", runs={"a": run(tmp_path / "a", *lines)})
    page = Page(tmp_path / "page.html")
    assert page.text("text")[:3] == ["0", "0.5", "1"]
    heights = [float(point.split(",")[1]) for point in str(page.all("polyline")[0]["points"]).split()]
    assert min(heights) >= 8
    assert max(heights) - min(heights) > 140


@pytest.mark.parametrize("values", [[0], [0, 0], [5, 5, 5], [1e-300, 2e-300], [-1e99, 1e99], [1e9, 1e9 + 1e-3]])
def test_charts_of_odd_values(tmp_path: Path, values: list[float]) -> None:
    lines = [{"step": step, "terms": {"x": value}, "validation": {"y": value}} for step, value in enumerate(values)]
    write_report(tmp_path / "page.html", "t", "l", runs={"a": run(tmp_path / "a", *lines)})
    page = Page(tmp_path / "page.html")
    assert not re.search(r"\b(nan|inf)\b", page.source)
    places = [pair.split(",") for line in page.all("polyline") for pair in str(line["points"]).split()]
    assert len(places) == 3 * len(values)
    assert all(44 <= float(x) <= 350 and 8 <= float(y) <= 178 for x, y in places)


def test_smooth_by_hand() -> None:
    # Eighty points reach two to either side. The two outer values of 0..79 count as the percentiles 0.79 and 78.21.
    curve = np.stack([np.arange(80.0) * 20, np.arange(80.0)], axis=1)
    means = smooth(curve)
    assert means[:, 0].tolist() == curve[:, 0].tolist()
    np.testing.assert_allclose(means[2:78, 1][2:-2], np.arange(4, 76))
    np.testing.assert_allclose(means[0, 1], (0.79 + 1 + 2) / 3)
    np.testing.assert_allclose(means[-1, 1], (77 + 78 + 78.21) / 3)


def test_smooth_leaves_short_curves_alone() -> None:
    curve = np.array([[1.0, 9.0], [2.0, -4.0], [3.0, 100.0]])
    assert smooth(curve).tolist() == curve.tolist()


def test_ticks_by_hand() -> None:
    assert ticks(0, 1000, 4) == [0, 500, 1000]
    assert ticks(0, 20000, 4) == [0, 5000, 10000, 15000, 20000]
    np.testing.assert_allclose(ticks(0.13, 0.47, 5), [0.2, 0.3, 0.4])
    np.testing.assert_allclose(ticks(-3, 4, 5), [-2, 0, 2, 4])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_even_and_inside(low: float, extent: float, about: int) -> None:
    high = low + extent
    values = ticks(low, high, about)
    assert 1 <= len(values) <= about + 1 if about > 2 else len(values) <= 3
    slack = 1e-9 * max(abs(low), abs(high))
    assert all(low - slack <= value <= high + slack for value in values)
    steps = np.diff(values)
    np.testing.assert_allclose(steps, steps[:1].repeat(len(steps)), rtol=1e-3)


def test_page_is_replaced_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "page.html"
    write_report(target, "old", "l")
    write_report(target, "new", "l")
    assert Page(target).text("h1") == ["new"]
    assert list(tmp_path.iterdir()) == [target]

    def fail(self: Path, other: Path) -> Path:
        assert self.parent == other.parent
        assert "<h1>newer</h1>" in self.read_text()
        assert "<h1>new</h1>" in other.read_text()
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(target, "newer", "l")
    assert list(tmp_path.iterdir()) == [target]
    assert Page(target).text("h1") == ["new"]


def test_report_imports_neither_torch_nor_matplotlib() -> None:
    check = "import sys, diptych.report; sys.exit(bool({'torch', 'matplotlib', 'PIL'} & set(sys.modules)))"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", check], env=paths, check=False).returncode == 0
