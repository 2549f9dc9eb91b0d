"""A stranger's run folder: going on with it touches nothing that lies outside."""

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import diptych, said_one_line, tree


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "checkpoints", "previews", "tensorboard"])
def test_what_a_link_leads_to_stays_as_it_is(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    if (run / name).is_dir():
        shutil.move(run / name, mine)
        (mine / "00000099").mkdir()
        (mine / "00000099" / "thesis.txt").write_text("precious")
        (mine / "00000099.png").write_text("precious")
    else:
        mine.write_text("precious")
        (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine)
    before = tree(mine) if mine.is_dir() else mine.read_bytes()
    assert diptych("resume", run, "--steps", 6) == 2
    assert f"{run / name}: is a link" in said_one_line(capsys)
    assert (tree(mine) if mine.is_dir() else mine.read_bytes()) == before


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "tensorboard/events.out.tfevents.1", "previews/00000001.png"])
def test_nobody_waits_for_a_pipe(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert diptych("resume", run, "--steps", 6) == 2
    assert str(run / name) in said_one_line(capsys)


def test_a_run_of_the_time_before_signs_of_collapse_goes_on(run: Path) -> None:
    state = run / "checkpoints" / "00000004" / "training" / "state.json"
    tree_of_values = json.loads(state.read_text())
    del tree_of_values["by_name"]["health"]
    state.write_text(json.dumps(tree_of_values))
    assert diptych("resume", run, "--steps", 6) == 0
