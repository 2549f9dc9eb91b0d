"""The short form of `kills.py`, and what a kill may leave behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diptych import commands
from diptych.config import ResumeSettings
from diptych.training.board import cut_board

HERE = Path(__file__).parent


@pytest.mark.slow
def test_five_kills() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "kills.py", "--kills", "5", "--seed", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) kills, (\d+) runs resumed to the end", done.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= 5
    assert int(found[2]) >= 4  # every method at least once
    assert "largest relative difference of any number in the last checkpoint: 0\n" in done.stdout


def points(folder: Path) -> list[tuple[int, float]]:
    """What TensorBoard shows of the one curve in `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return [(point.step, point.value) for point in board.Scalars("curve")] if board.Tags()["scalars"] else []


@pytest.mark.parametrize("torn", [1, 5, 12, 20])
def test_events_after_the_checkpoint_and_one_cut_in_half_are_gone(tmp_path: Path, torn: int) -> None:
    from diptych.training.board import Board

    board = Board(tmp_path, 0)
    for step in range(1, 7):
        board.add_scalar("curve", float(step), step)
    board.close()
    assert points(tmp_path) == [(step, float(step)) for step in range(1, 7)]
    board.path.write_bytes(board.path.read_bytes()[:-torn])

    again = Board(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == [again.path.name]
    assert again.path.name > board.path.name
    again.add_scalar("curve", 40.0, 4)
    again.close()
    assert points(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_a_kill_between_the_new_events_and_the_end_of_the_old_ones_doubles_nothing(tmp_path: Path) -> None:
    from diptych.training.board import Board

    board = Board(tmp_path, 0)
    for step in range(1, 5):
        board.add_scalar("curve", float(step), step)
    board.close()
    old = board.path.read_bytes()
    again = Board(tmp_path, 2)
    again.add_scalar("curve", 30.0, 3)
    again.close()
    board.path.write_bytes(old)  # as if it had not been deleted yet
    assert points(tmp_path) == [(1, 1.0), (2, 2.0), (3, 30.0)]
    cut_board(tmp_path, 3)
    assert len(list(tmp_path.iterdir())) == 1
    assert points(tmp_path) == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_what_a_killed_start_left_after_its_checkpoint_is_taken_away(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for half in ("checkpoints/.part-00000006/a_to_b", "checkpoints/.part-00000002"):
        (run / half).mkdir(parents=True)
    (run / "checkpoints/.part-00000006/a_to_b/.part-x1.safetensors").write_bytes(b"half")
    (run / ".part-x2.json").write_text("{")
    (run / "previews/00000005.png").write_bytes(b"of a step that is taken back")
    shutil.copytree(run / "checkpoints/00000004", run / "checkpoints/00000005")  # whole, but named nowhere
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "seconds": 9, "terms": {"cycle_a": 9.0}}\n{"step": 6, "sec')
    _, step = commands.resume(ResumeSettings(run=run, steps=6))
    assert step == 6
    assert list(run.rglob(".part-*")) == []
    assert (
        sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000004", "00000006"]
        or json.loads((run / "checkpoints.json").read_text())["best"]["name"] == "00000002"
    )
    assert not (run / "previews/00000005.png").exists()
    assert 5 not in [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_killed_before_its_report_gets_one(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "checkpoints.json").read_bytes()
    (run / "report.html").unlink()
    assert commands.resume(ResumeSettings(run=run)) == (run, 4)
    assert "4 of 4 steps" in (run / "report.html").read_text()
    assert (run / "checkpoints.json").read_bytes() == before
    os.utime(run / "report.html", (1, 1))  # of an earlier end
    (run / "report.html").write_text("old")
    os.utime(run / "report.html", (1, 1))
    assert commands.resume(ResumeSettings(run=run)) == (run, 4)
    assert (run / "report.html").read_text() != "old"
