"""The demo, shortened, through the real command line: everything the main job makes, in one go."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from diptych.demo import coverage_sentence, kinds_of
from diptych.scenes import CLASSES, KINDS


@pytest.mark.slow
def test_demo_makes_its_report(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "diptych", "demo", "--steps", "24", "--out", "demo", "--budget", "6"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.splitlines()[-1].endswith("demo/report.html")
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "mean IoU, hybrid" in page
    assert "kinds" in page
    for run in ("hybrid", "pairs-only"):
        record = json.loads((tmp_path / "demo" / "runs" / run / "scores" / "metrics.json").read_text())
        assert record["n"] == 48
        assert set(record["scores"]["per_class"]) == set(CLASSES.names)
    with Image.open(tmp_path / "demo" / "unseen.png") as picture:
        assert picture.width > picture.height / 2
    hybrid = json.loads((tmp_path / "demo" / "runs" / "hybrid" / "run.json").read_text())
    assert hybrid["data"] == {"pairs": 6, "unpaired_a": 160, "unpaired_b": 160}

    again = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_coverage_is_counted_beside_chance(tmp_path: Path) -> None:
    rows = [f"{n:04d}.png,{KINDS[n % 2]}" for n in range(10)]
    (tmp_path / "kinds.csv").write_text("file,kind\n" + "\n".join(rows) + "\n")
    assert kinds_of(tmp_path)["0003.png"] == KINDS[1]
    # Ten draws of ten always find both kinds; the two chosen ones are of one.
    every = [f"{n:04d}.png" for n in range(10)]
    assert "cover 2 of 6 kinds, no more than the median of 20 random draws (2)" in coverage_sentence(tmp_path, every, 0)
    same = coverage_sentence(tmp_path, ["0000.png"], 0)
    assert "cover 1 of 6 kinds, no more than" in same
    (tmp_path / "kinds.csv").write_text("file,kind\n" + "\n".join(row for row in rows) + "\n0099.png,night-town\n")
    few = coverage_sentence(tmp_path, [*every[:2], "0099.png"], 0)
    assert "cover 3 of 6 kinds, more than the median of 20 random draws (2)" in few
