"""A study from the command line to its table and its page: failures, kills, changes, several runs at a time."""

import csv
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
from typing import Any

import pytest
import yaml

from conftest import Folders, diptych, said_one_line, tree
from diptych.config import StudySettings
from diptych.errors import DiptychError
from diptych.studies.estimate import operations_of_a_step
from diptych.studies.folder import KEPT, error_in, logged
from diptych.studies.runs import duration, visible
from diptych.studies.study import plan_of

GRID = ["pairs-only--3--seed0", "pairs-only--3--seed1", "regression--3--seed0", "regression--3--seed1"]


def tiny_study(folders: Folders) -> dict[str, Any]:
    """Four runs of a second each, and two that ask for more pairs than there are images."""
    networks = {"size": "32x24", "generator": "resnet", "blocks": 1, "ngf": 4, "norm": "instance"}
    return {
        "title": "Tiny & quick",
        "about": "Two methods on three pairs.",
        "metrics": ["mean_iou", "pixel_accuracy"],
        "data": {
            "a": str(folders.photos),
            "b": str(folders.labels),
            "b_classes": str(folders.classes),
            "val_a": str(folders.val_photos),
            "val_b": str(folders.val_labels),
        },
        "select": {"features": "descriptor"},
        "train": {**networks, "steps": 4, "batch_size": 2, "val_every": 2, "log_every": 1},
        "evaluate": {"resamples": 0, "checkpoint": "last"},
        "axes": {
            "method": {
                "pairs only": {"train": {"method": "pix2pix", "dropout": False, "judge": {"patch": 16}}},
                "regression": {"train": {"method": "supervised"}},
            },
            "budget": {3: {"select": {"budget": 3}}},
        },
        "seeds": [0, 1],
        "rows": [{"labels": {"method": "greedy"}, "train": {"method": "supervised"}, "select": {"budget": 99}}],
        "published": [{"labels": {"method": "regression", "budget": 3}, "mean_iou": 0.237}],
        "curve": {"x": "budget", "y": "mean_iou"},
    }


def write(study: dict[str, Any], file: Path) -> Path:
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return file


def scores(out: Path, run: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "scores" / run / "metrics.json").read_text())
    return record["scores"]  # type: ignore[no-any-return]


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("table.md", "table.csv", "table.json")}


@pytest.fixture(scope="session")
def finished(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, worked through two runs at a time; its file lies beside it."""
    root = tmp_path_factory.mktemp("study")
    file = write(tiny_study(folders), root / "tiny.yaml")
    assert diptych("study", file, "--out", root / "out", "--jobs", "2") == 2  # two runs cannot be done
    return root / "out"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished study in a folder of one's own, to change."""
    shutil.copy(finished.parent / "tiny.yaml", tmp_path / "tiny.yaml")
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.slow
def test_scores_alone_are_a_study_whose_runs_were_cleared_away(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tables(copy)
    for path in copy.iterdir():
        if not any(map(path.match, KEPT)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = [scores(copy, run) for run in GRID]
    assert diptych("study", copy.parent / "tiny.yaml", "--out", copy, "--only", "pairs-only*", "regression*") == 0
    assert not (copy / "runs").exists()  # nothing was trained
    assert f"{GRID[0]}, {GRID[1]}, {GRID[2]} and 1 more: only scores are left" in capsys.readouterr().err
    assert [scores(copy, run) for run in GRID] == done
    assert tables(copy)["table.csv"] == before["table.csv"]


@pytest.mark.slow
def test_scores_name_a_run_below_the_present_folder_without_what_is_above(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "scores" / GRID[0])
    monkeypatch.chdir(copy.parent)
    assert diptych("study", copy.parent / "tiny.yaml", "--out", "out", "--only", GRID[0]) == 0
    record = json.loads((copy / "scores" / GRID[0] / "metrics.json").read_text())
    assert record["scored"]["run"] == f"out/runs/{GRID[0]}"


@pytest.mark.slow
def test_the_table_holds_means_and_deviations_beside_the_published_numbers(finished: Path) -> None:
    with (finished / "table.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["pairs only", "regression", "greedy"]
    for method, row in rows.items():
        if method == "greedy":
            continue
        first, second = (scores(finished, f"{method.replace(' ', '-')}--3--seed{seed}") for seed in (0, 1))
        for metric in ("mean_iou", "pixel_accuracy"):
            x, y = first[metric], second[metric]
            assert float(row[f"{metric}_mean"]) == pytest.approx((x + y) / 2, abs=1e-12)
            assert float(row[f"{metric}_std"]) == pytest.approx(abs(x - y) / 2**0.5, abs=1e-12)
        assert (row["seeds_finished"], row["seeds_planned"], row["budget"]) == ("2", "2", "3")
    assert rows["regression"]["mean_iou_published"] == "0.237"
    assert (rows["greedy"]["seeds_finished"], rows["greedy"]["mean_iou_mean"]) == ("0", "")

    x, y = (scores(finished, f"regression--3--seed{seed}")["mean_iou"] for seed in (0, 1))
    text = (finished / "table.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| regression"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:5] == ["regression", "3", "2", f"{(x + y) / 2:.3f} ± {abs(x - y) / 2**0.5:.3f}", "0.237"]
    missing = next(line for line in text.splitlines() if line.startswith("| greedy"))
    assert "0 of 2" in missing
    assert "2 runs are missing" in text
    assert text.startswith("# Tiny & quick\n\nTwo methods on three pairs.\n\n|")

    note = "4 images. output resized"
    assert sum(line.startswith(note) for line in text.splitlines()) == 1
    assert note in (finished / "index.html").read_text()

    record = json.loads((finished / "table.json").read_text())
    assert record["notes"][0].startswith(note)
    runs = {run["name"]: run for row in record["rows"] for run in row["runs"]}
    assert runs["regression--3--seed1"]["scores"]["mean_iou"] == y
    assert [run["state"] for run in runs.values()] == ["done"] * 4 + ["failed"] * 2


@pytest.mark.slow
def test_the_runs_of_a_seed_share_their_selection(finished: Path) -> None:
    assert len(list((finished / "selections").iterdir())) == 2
    chosen = {run: json.loads((finished / "runs" / run / "data.json").read_text())["pairs"] for run in GRID}
    assert chosen[GRID[0]] == chosen[GRID[2]]
    assert chosen[GRID[1]] == chosen[GRID[3]]
    assert len(chosen[GRID[0]]) == 3


@pytest.mark.slow
def test_the_page_is_one_file_with_everything_in_it(finished: Path) -> None:
    page = (finished / "index.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert all(text in page for text in ("Tiny &amp; quick", "Two methods on three pairs.", "4 of 6", "0.237"))
    assert page.count("data:image/png;base64,") == 1
    assert page.count("<circle") == 2 + 1  # two methods at one budget, one published
    assert "there are only 12 images to choose from" in page
    for run in GRID:
        assert run in page
    assert "0.237" in (finished / "mean_iou-by-budget.svg").read_text()


@pytest.mark.slow
def test_a_failed_run_is_told_at_the_end_and_tried_again(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copy / "runs")
    study = yaml.safe_load((copy.parent / "tiny.yaml").read_text())
    log = (copy / "failed" / "greedy--seed0.txt").read_text()
    assert log.startswith("$ diptych select ")
    assert log.endswith(
        "diptych: error: --budget 99: there are only 12 images to choose from; give at most that many\n"
    )
    study["rows"][0]["select"]["budget"] = 5  # none of its runs has begun, so that it may be mended
    file = write(study, copy.parent / "tiny.yaml")
    capsys.readouterr()
    assert diptych("study", file, "--out", copy, "--only", "greedy--seed1") == 0
    assert sorted(path.name for path in (copy / "failed").iterdir()) == ["greedy--seed0.txt"]
    assert [run["state"] for run in json.loads((copy / "table.json").read_text())["rows"][2]["runs"]] == [
        "failed",
        "done",
    ]
    after = tree(copy / "runs")
    assert {name: after[name] for name in before} == before  # what was finished is left alone
    assert f"Look at {copy / 'index.html'}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_start_with_failures_ends_with_2_and_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diptych("study", copy.parent / "tiny.yaml", "--out", copy) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith(
        "diptych: error: 2 of 6 runs failed: greedy--seed0 (--budget 99: there are only 12 images to choose from; give "
        f"at most that many), and 1 more; logs are in {copy / 'failed'}"
    )
    assert "| regression" in said.out  # the table is there all the same


@pytest.mark.slow
def test_only_works_on_what_is_asked_for(folders: Folders, tmp_path: Path) -> None:
    file = write(tiny_study(folders), tmp_path / "tiny.yaml")
    assert diptych("study", file, "--out", tmp_path / "out", "--only", "regression--*--seed1") == 0
    assert [path.name for path in (tmp_path / "out" / "runs").iterdir()] == ["regression--3--seed1"]
    row = next(line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if "| regression" in line)
    assert "1 of 2" in row
    assert "± \N{EN DASH}" in row  # one seed has no deviation


def test_only_must_match_something(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tiny_study(folders), tmp_path / "tiny.yaml")
    assert diptych("study", file, "--out", tmp_path / "out", "--only", "regresion--3--seed1") == 2
    assert "did you mean 'regression--3--seed1'?" in said_one_line(capsys)


@pytest.mark.slow
def test_what_has_begun_may_not_change_and_the_rest_may(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copy)
    file = copy.parent / "tiny.yaml"
    original = yaml.safe_load(file.read_text())
    for layer, name, value, said in (
        ("train", "steps", 6, "train.steps 4, not 6"),
        ("select", "selector", "random", "select.selector unset, not random"),
        ("data", "val_b", str(copy), "train.val_b "),
    ):
        study = yaml.safe_load(yaml.safe_dump(original, sort_keys=False))
        study[layer][name] = value
        capsys.readouterr()
        assert diptych("study", write(study, file), "--out", copy) == 2
        assert f"pairs-only--3--seed0 has begun with {said}" in said_one_line(capsys)
        assert tree(copy) == before

    study = original | {"metrics": ["class_accuracy"], "published": [], "rows": [], "seeds": [1, 0], "title": "Other"}
    study.pop("curve")
    capsys.readouterr()
    assert diptych("study", write(study, file), "--out", copy) == 0
    assert "class accuracy" in (copy / "table.md").read_text()
    assert tree(copy / "runs") == {
        path.removeprefix("runs/"): data for path, data in before.items() if path.startswith("runs/")
    }


@pytest.mark.slow
def test_a_run_that_is_to_be_scored_otherwise_is_scored_anew(copy: Path) -> None:
    study = yaml.safe_load((copy.parent / "tiny.yaml").read_text()) | {"rows": []}
    study["evaluate"]["resamples"] = 7
    study["seeds"] = [0]
    study["axes"]["method"].pop("pairs only")
    weights = tree(copy / "runs")
    assert json.loads((copy / "scores" / GRID[2] / "metrics.json").read_text())["scored"]
    assert diptych("study", write(study, copy.parent / "tiny.yaml"), "--out", copy) == 0
    record = json.loads((copy / "scores" / GRID[2] / "metrics.json").read_text())
    assert record["bootstrap"]["resamples"] == 7
    assert tree(copy / "runs") == weights


@pytest.mark.slow
def test_a_metric_that_no_run_has_is_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = yaml.safe_load((copy.parent / "tiny.yaml").read_text()) | {"metrics": ["fid", "mean_iou"], "rows": []}
    capsys.readouterr()
    assert diptych("study", write(study, copy.parent / "tiny.yaml"), "--out", copy) == 2
    assert "no run has a score 'fid'; there are " in said_one_line(capsys)


def test_a_folder_of_something_else_is_left_alone(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    file = write(tiny_study(folders), tmp_path / "tiny.yaml")
    assert diptych("study", file, "--out", tmp_path / "out") == 2
    assert "holds something that is no study" in said_one_line(capsys)
    assert diptych("study", file, "--out", tmp_path / "out" / "thesis.tex") == 2
    assert "is a file" in said_one_line(capsys)


def test_a_dry_run_counts_without_any_image(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tiny_study(folders)
    study["data"] = {side: f"/nowhere/{side}" for side in study["data"]}
    file = write(study, tmp_path / "tiny.yaml")
    assert diptych("study", file, "--out", tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    assert re.search(r"^pairs-only--3--seed0 +4 +\d+ s +to do$", said, re.M)
    assert "6 runs, 24 steps, 4 selections; 0 done.\nLeft: 6 runs, 24 steps, about " in said
    assert not (tmp_path / "out").exists()
    assert diptych("study", file, "--out", tmp_path / "out", "--dry-run", "--only", "pairs*") == 0
    assert "2 runs, 8 steps, 2 selections" in capsys.readouterr().out


@pytest.mark.slow
def test_a_dry_run_says_what_is_done(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert diptych("study", finished.parent / "tiny.yaml", "--out", finished, "--dry-run") == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^\S+--3--seed. +4 +\d+ s +done$", said, re.M)) == 4
    assert len(re.findall(r"^greedy--seed. +4 +\d+ s +failed: --budget 99: there are only 12 images", said, re.M)) == 2
    assert "6 runs, 24 steps, 4 selections; 4 done.\nLeft: 2 runs, 8 steps" in said
    assert "as measured for 6 of the runs" in said  # the greedy ones are as long as the others of their method


def test_the_operations_of_a_step_worked_by_hand(tmp_path: Path) -> None:
    """One generator and L1, so that only its convolutions count, forward and backward."""
    study = {
        "metrics": ["psnr"],
        "data": dict.fromkeys(("a", "b", "val_a", "val_b"), "x"),
        "train": {"method": "supervised", "generator": "resnet", "blocks": 1, "ngf": 4, "size": "32x16"},
        "rows": [{"labels": {"method": "supervised"}}],
    }
    file = write(study, tmp_path / "one.yaml")
    (run,) = plan_of(StudySettings(study=str(file), out=tmp_path)).runs
    full, half, quarter = 32 * 16, 16 * 8, 8 * 4  # pixels
    first = 49 * 3 * 4 * full
    down = 9 * 4 * 8 * half + 9 * 8 * 16 * quarter
    block = 2 * 9 * 16 * 16 * quarter
    up = 9 * 16 * 8 * quarter + 9 * 8 * 4 * half  # a transposed convolution multiplies for every input pixel
    last = 49 * 4 * 3 * full
    forward = 2 * (first + down + block + up + last)
    # Backward computes as much for the weights and as much for the input, which the first layer's image has no need of.
    assert operations_of_a_step(run.settings) == 3 * forward - 2 * first


def test_durations_are_told_roughly() -> None:
    told = [duration(seconds) for seconds in (0.2, 89, 91, 3600, 3600 * 5 + 600, 3600 * 30, 86400 * 3 + 3600 * 4)]
    assert told == ["0 s", "89 s", "2 min", "1 h 0 min", "5 h 10 min", "30 h", "3 d 4 h"]


def test_the_device_of_a_job_is_the_only_one_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible("cuda:1") == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert visible("cuda:1") == "7"
    for wrong in ("cuda:2", "gpu:0", "cuda:x"):
        with pytest.raises(DiptychError, match=f"--devices {wrong}"):
            visible(wrong)


def test_logs_are_read_from_their_end(tmp_path: Path) -> None:
    assert logged(tmp_path) == (0, 0.0)
    lines = [json.dumps({"step": step, "seconds": step / 4, "terms": {"x": 0.1}}) for step in range(1, 2001)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, json.dumps({"step": 2000, "validation": {}}), '{"ste']))
    assert logged(tmp_path) == (2000, 500.0)


def test_the_error_of_a_log_is_what_diptych_said_last(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for text, error in (
        ("$ diptych train\nx: 3 pairs\ndiptych: error: no room\n", "no room"),
        ("Traceback\n  File\nMemoryError: all gone\n\n", "MemoryError: all gone"),
        ("", "stopped without a word"),
    ):
        log.write_text(text)
        assert error_in(log) == error


def start(file: Path, out: Path, *flags: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "diptych", "study", str(file), "--out", str(out), *flags]
    return subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Tests that run in the background of a script would hand on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(there: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    for _ in range(3000):
        if there() or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened for a minute")


@pytest.mark.slow
def test_a_study_killed_five_times_gives_the_table_of_one_never_killed(finished: Path, tmp_path: Path) -> None:
    file, out = finished.parent / "tiny.yaml", tmp_path / "out"
    moments: list[Callable[[], bool]] = [
        lambda: (out / "study.yaml").exists(),
        lambda: any((out / "selections").glob(".*.part/*")),
        lambda: (out / "runs" / GRID[0] / "log.jsonl").exists(),
        lambda: (out / "runs" / GRID[1] / "checkpoints" / "00000002").exists(),
        lambda: (out / "scores" / GRID[2] / "metrics.json").exists(),
    ]
    for there in moments:
        process = start(file, out)
        wait_for(there, process)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(file, out)
    process.communicate()
    assert process.returncode == 2  # the greedy rows
    assert tables(out) == tables(finished)
    # The runs went on instead of beginning anew, each to the same weights.
    for run in GRID:
        ours, theirs = (tree(folder / "runs" / run / "checkpoints" / "00000004") for folder in (out, finished))
        assert {name: data for name, data in ours.items() if "model" in name} == {
            name: data for name, data in theirs.items() if "model" in name
        }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere steps end by themselves")
def test_no_step_outlives_a_killed_study_and_no_two_studies_share_a_folder(folders: Folders, tmp_path: Path) -> None:
    study = tiny_study(folders) | {"rows": [], "seeds": [0]}
    study["train"] |= {"steps": 1_000_000, "val_every": 1_000_000}  # never reached, however slow the test
    file, out = write(study, tmp_path / "long.yaml"), tmp_path / "out"
    process = start(file, out)
    log = out / "runs" / GRID[0] / "log.jsonl"
    wait_for(log.exists, process)
    second = start(file, out)
    assert b"diptych study is at work there" in second.communicate()[1]
    assert second.returncode == 2

    process.send_signal(signal.SIGKILL)
    process.communicate()
    checkpoints = out / "runs" / GRID[0] / "checkpoints.json"
    for _ in range(500):
        if checkpoints.exists():  # the training was interrupted and has saved
            break
        time.sleep(0.02)
    saved = json.loads(checkpoints.read_text())["last"]["step"]
    assert 0 < saved < 1_000_000

    process = start(file, out)
    wait_for(lambda: logged(log.parent)[0] > saved, process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert saved < json.loads(checkpoints.read_text())["last"]["step"] < 1_000_000
    assert (out / "index.html").exists()
    assert not (out / "failed").exists()  # to be stopped is no failure
