"""`diptych resume`: a stopped run goes on as if it had not stopped."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conftest import (
    Folders,
    assert_same_weights,
    diptych,
    log_of,
    said_one_line,
    stop_before_step,
    terms_of,
    tiny,
    train_settings,
    tree,
)
from diptych import commands
from diptych.cli import main
from diptych.config import ResumeSettings
from diptych.methods import METHODS


@pytest.mark.parametrize("method", list(METHODS))
def test_a_stopped_run_goes_on_as_if_it_had_not(method: str, folders: Folders, tmp_path: Path) -> None:
    pairs = () if method == "cyclegan" else ("--pairs", 3)
    pools = ("--pool-size", 2) if "pool_size" in METHODS[method].defaults else ()
    settings = train_settings(
        *(method, "--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes),
        *(*tiny(method), *pairs, *pools, "--steps", 5, "--log-every", 1, "--out", tmp_path / "whole"),
    )
    assert commands.train(settings) == (tmp_path / "whole", 5)
    stopped = settings.model_copy(update={"out": tmp_path / "stopped"})
    assert commands.train(stopped, stop=stop_before_step(2)) == (tmp_path / "stopped", 2)
    assert commands.resume(ResumeSettings(run=tmp_path / "stopped"), stop=stop_before_step(1))[1] == 3
    assert commands.resume(ResumeSettings(run=tmp_path / "stopped"))[1] == 5
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped", 5)
    assert terms_of(tmp_path / "whole") == terms_of(tmp_path / "stopped")


def test_a_run_stopped_before_its_first_step_can_be_resumed(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sides = ("--a", folders.photos, "--b", folders.labels)
    settings = train_settings("shukla", *sides, *tiny("shukla"), "--steps", 1, "--out", run)
    assert commands.train(settings, stop=lambda: True) == (run, 0)
    assert diptych("resume", run) == 0
    assert list(terms_of(run)) == [1]


def test_resume_goes_beyond_the_first_end(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert diptych("resume", run, "--steps", 6) == 0
    assert [line["step"] for line in log_of(run) if "validation" in line] == [2, 4, 6]
    assert terms_of(run)[4] == terms_of(trained)[4]
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == 6
    assert yaml.safe_load((run / "experiment.yaml").read_text())["steps"] == 6


@pytest.mark.parametrize("name", ["data.json", "checkpoints.json", "experiment.yaml", "training/state.safetensors"])
def test_a_damaged_run_is_refused(name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    file = run / "checkpoints" / "00000004" / name if "/" in name else run / name
    file.write_bytes(b"{")
    before = tree(run)
    assert diptych("resume", run, "--steps", 6) == 2
    assert str(run) in said_one_line(capsys)
    assert tree(run) == before


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_at_the_same_weights(folders: Folders, tmp_path: Path) -> None:
    def words(out: str) -> list[str]:
        sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4]
        rest = ["--precision", "fp32", "--steps", 80, "--log-every", 1, "--val-every", 30, "--out", tmp_path / out]
        return [str(word) for word in ["train", "shukla", *sides, *tiny("shukla"), *rest]]

    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", *words("stopped")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "stopped" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_bytes().splitlines()) >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "finishing this step" in err
    assert "Traceback" not in err
    stopped_at = re.fullmatch(r"Stopped and saved at step (\d+)\. Go on with: diptych resume (\S+)\n", out)
    assert stopped_at is not None
    assert 3 <= int(stopped_at[1]) < 80
    assert stopped_at[2] == str(tmp_path / "stopped")
    assert len(terms_of(tmp_path / "stopped")) == int(stopped_at[1])

    resumed = subprocess.run([sys.executable, "-m", "diptych", "resume", stopped_at[2]], check=False)
    assert resumed.returncode == 0
    assert main(words("whole")) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped", 80)
    assert terms_of(tmp_path / "whole") == terms_of(tmp_path / "stopped")


def test_a_damaged_last_checkpoint_is_passed_over_for_the_one_before(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "checkpoints/00000004/training/state.safetensors").write_bytes(b"")
    before = tree(run)
    assert diptych("resume", run, "--steps", 6) == 2
    line = said_one_line(capsys)
    assert line.rstrip().endswith(f"; diptych resume {run} --from-step 2 goes on from the checkpoint before")
    assert tree(run) == before
    assert diptych("resume", run, "--from-step", 2) == 0
    assert tree(run / "checkpoints") == tree(trained / "checkpoints")
    assert tree(run / "previews") == tree(trained / "previews")
    assert (run / "checkpoints.json").read_bytes() == (trained / "checkpoints.json").read_bytes()
    assert terms_of(run) == terms_of(trained)


def test_what_is_gone_back_from_is_undone_before_the_first_step(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert commands.resume(ResumeSettings(run=run, from_step=2), stop=lambda: True) == (run, 2)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000002"]
    assert max(line["step"] for line in log_of(run)) == 2
    index = json.loads((run / "checkpoints.json").read_text())
    (score,) = [line["validation"] for line in log_of(run) if "validation" in line]
    entry = {"name": "00000002", "step": 2, "metric": "mean_iou", "value": score["mean_iou"]}
    assert index == {"last": entry, "best": entry}


def test_a_checkpoint_that_is_not_kept_is_told_with_those_that_are(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diptych("resume", trained, "--from-step", 3) == 2
    assert "keeps no checkpoint of step 3; give --from-step one that is kept: 2, 4" in said_one_line(capsys)
