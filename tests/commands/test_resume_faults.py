"""Ctrl-C and SIGTERM at every stage of a training: it ends within seconds, and what was saved goes on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from conftest import Folders, diptych, log_of, stop_before_step, tiny, train_settings
from diptych import commands

SLOW_STAGES = """
import sys, time
from diptych import cli, looks
from diptych.training import loop

stage, mark = sys.argv[1], sys.argv[2]

def slow(owner, name):
    real = getattr(owner, name)
    def slowly(*arguments, **options):
        open(mark, "a").close()
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            time.sleep(0.01)
        return real(*arguments, **options)
    setattr(owner, name, slowly)

slow(*{
    "reading": (looks, "look_at"),
    "training": (loop, "take_step"),
    "saving": (loop, "save_training"),
    "validating": (loop, "_look"),
}[stage])
sys.exit(cli.main(sys.argv[3:]))
"""
"""A training whose stage takes so long that a signal comes in the middle of it; the stage is marked by a file."""


def words(folders: Folders, out: Path) -> list[str]:
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes]
    validation = ["--val-a", folders.val_photos, "--val-b", folders.val_labels, "--val-every", 2]
    size = ["--size", "32x24", "--ngf", 4, "--blocks", 1, "--generator", "resnet", "--precision", "fp32"]
    found = ["train", "supervised", *sides, *validation, *size, "--pairs", 4, "--steps", 6, "--out", out]
    return [str(word) for word in found]


def start(stage: str, mark: Path, command: list[str]) -> subprocess.Popen[str]:
    """The training, once it is in the middle of `stage`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_STAGES, stage, str(mark), *command],
        env=os.environ | {"DIPTYCH_CACHE": str(mark.with_name("cache"))},  # which remembers what was read before
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.1)
    return process


def ends(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["reading", "training", "saving", "validating"])
@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGTERM, signal.SIGINT]])
def test_twice_always_ends(stage: str, signals: list[signal.Signals], folders: Folders, tmp_path: Path) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    process = start(stage, mark, words(folders, run))
    for number in signals:
        if process.poll() is None:
            process.send_signal(number)
            time.sleep(0.2)
    code, _, err = ends(process)
    assert code in (130, -signal.SIGINT)  # the latter where the second comes while Python itself ends
    assert err.splitlines()[-1] == "diptych: stopped"
    assert list(run.rglob(".part-*")) == []
    assert diptych(*(["resume", run] if (run / "run.json").exists() else words(folders, run))) == 0
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["training", "saving", "validating"])
def test_once_finishes_the_step_and_saves(stage: str, number: signal.Signals, folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(stage, tmp_path / "mark", words(folders, run))
    if stage == "training":
        time.sleep(1.5)  # into the second step: before the first there is nothing to save
    process.send_signal(number)
    if number == signal.SIGTERM:
        time.sleep(0.1)
        process.send_signal(number)  # as some schedulers do
    code, out, err = ends(process)
    assert code == 130, err
    assert "finishing this step, then saving" in err
    found = re.search(r"Stopped and saved at step (\d)", out)
    assert found is not None
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == int(found[1])
    assert diptych("resume", run) == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["translate", "evaluate", "select"])
def test_other_commands_end_at_once_and_leave_whole_files(
    command: str, trained: Path, folders: Folders, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for place in range(400):
        shutil.copy(folders.photos / f"scene{place % 12:03d}.png", many / f"{place}.png")
    out = tmp_path / "out"
    done: Callable[[], bool] = lambda: out.exists() and any(out.iterdir())  # noqa: E731
    if command == "translate":
        line = ["translate", str(trained), str(many), "--out", str(out)]
    elif command == "select":
        line = ["select", str(many), "--features", "descriptor", "--out", str(out)]
        done = lambda: True  # noqa: E731
    else:
        sides = ["--a", str(folders.val_photos), "--b", str(folders.val_labels)]
        line = ["evaluate", str(trained), *sides, "--resamples", "1000000"]
        done = lambda: True  # noqa: E731
    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", *line],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not done() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)  # the latter while Python itself starts
    from PIL import Image

    for path in out.glob("*.png") if out.exists() else ():
        with Image.open(path) as image:
            image.load()
    assert [path.name for path in out.rglob(".part-*")] == []


def test_a_resumption_of_a_start_that_was_cut_off_says_what_to_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained / "experiment.yaml", run)
    assert diptych("resume", run) == 2
    assert "cut off before the first step; give diptych train once more" in capsys.readouterr().err


def test_lost_names_of_checkpoints_are_not_taken_for_a_new_start(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.copytree(run / "checkpoints/00000004", run / "checkpoints/00000003")
    (run / "checkpoints.json").unlink()
    before = sorted((run / "checkpoints").iterdir())
    assert diptych("resume", run, "--steps", 6) == 2
    assert "is gone, but checkpoints are there; bring it back" in capsys.readouterr().err
    assert sorted((run / "checkpoints").iterdir()) == before


def test_a_lone_checkpoint_whose_name_is_lost_is_gone_on_from(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for other in list((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(other)
    (left,) = (run / "checkpoints").iterdir()
    (run / "checkpoints.json").unlink()
    assert diptych("resume", run, "--steps", int(left.name) + 2) == 0
    assert "starting again" not in capsys.readouterr().err
    steps = [line["step"] for line in log_of(run)]
    assert int(left.name) in steps
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == int(left.name) + 2


def test_images_that_no_longer_fit_together_end_a_resumption(
    own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ("--a", own_folders.photos, "--b", own_folders.labels, "--b-classes", own_folders.classes)
    run = tmp_path / "run"
    assert diptych("train", "supervised", *sides, *tiny("supervised"), "--fit", "crop", "--out", run) == 0
    file = own_folders.labels / "scene000.png"
    original = Image.open(file).copy()
    for size, said in (((96, 36), "have different shapes"), ((8, 8), "smaller than the crop of 32x24")):
        original.resize(size, Image.Resampling.NEAREST).save(file)
        capsys.readouterr()
        assert diptych("resume", run, "--steps", 6) == 2
        assert said in capsys.readouterr().err


def test_a_paired_phase_that_would_be_all_is_refused(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 3)
    run = tmp_path / "run"
    words = ("tripathy", *sides, *tiny("tripathy"), "--steps", 20, "--paired-steps", 10, "--out", run)
    commands.train(train_settings(*words), stop=stop_before_step(2))
    before = (run / "experiment.yaml").read_bytes()
    capsys.readouterr()
    assert diptych("resume", run, "--steps", 10) == 2
    assert "--steps 10: the paired phase alone has 10 steps" in capsys.readouterr().err
    assert (run / "experiment.yaml").read_bytes() == before
    assert diptych("resume", run, "--steps", 11) == 0
