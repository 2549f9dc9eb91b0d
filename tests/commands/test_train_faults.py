"""Trainings that meet trouble: one clear line, nothing of what was there is lost, and the way on works."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from conftest import Folders, diptych, said_one_line, tiny, tree
from diptych.recipes import load_settings


def words(folders: Folders, out: Path, *more: object) -> list[object]:
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4]
    rest = ["--steps", 6, "--val-every", 2, "--log-every", 1, "--precision", "fp32", "--keep", 1]
    return ["train", "supervised", *sides, *tiny("supervised"), *rest, "--out", out, *more]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert line.startswith("diptych: error: ")
    return line


def lr_of(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["lr"] for line in lines if "lr" in line}


@pytest.fixture(scope="module")
def whole(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert diptych(*words(folders, run)) == 0
    return run


def assert_the_same_end(whole: Path, run: Path) -> None:
    assert tree(whole / "checkpoints") == tree(run / "checkpoints")
    assert (whole / "checkpoints.json").read_bytes() == (run / "checkpoints.json").read_bytes()
    assert tree(whole / "previews") == tree(run / "previews")
    assert list(run.rglob(".part-*")) == []


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("checkpoints/.part-00000004/training/state.safetensors", errno.ENOSPC),
        ("checkpoints/.part-00000004/a_to_b/model.safetensors", errno.ESTALE),
        ("checkpoints/.part-00000004/translator.json", errno.EROFS),
        ("previews/00000004.png", errno.EDQUOT),
        ("checkpoints.json", errno.EIO),
    ],
)
def test_a_file_that_cannot_be_written_stops_the_run_and_the_last_checkpoint_goes_on(
    what: str,
    number: int,
    folders: Folders,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, replace = tmp_path / "run", Path.replace

    def failing(self: Path, target: Path) -> Path:
        if Path(target) == run / what and (run / "checkpoints.json").exists():
            raise OSError(number, os.strerror(number))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    assert diptych(*words(folders, run)) == 2
    line = last_line(capsys)
    assert f"stopped after step 4: {run / what}: {os.strerror(number)}; free space or mend the folder" in line
    assert line.endswith(f"diptych resume {run} goes on from the checkpoint of step 2")
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == 2
    assert list(run.rglob(".part-*")) == []  # which gives the disk its space back
    monkeypatch.undo()
    assert diptych("resume", run) == 0
    assert_the_same_end(whole, run)


def test_a_log_that_cannot_be_written_is_named(
    folders: Folders,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from diptych.training import journal

    real, written = journal.append, []

    def half_of_the_third(file: object, data: bytes) -> None:
        written.append(data)
        if len(written) == 3:
            real(file, data[: len(data) // 2])  # type: ignore[arg-type]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "run/log.jsonl"))
        real(file, data)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "append", half_of_the_third)
    run = tmp_path / "run"
    assert diptych(*words(folders, run)) == 2
    assert re.search(r"stopped after step \d: .*log\.jsonl: No space left on device", last_line(capsys))
    assert not (run / "log.jsonl").read_bytes().endswith(b"\n")
    monkeypatch.undo()
    assert diptych("resume", run) == 0
    assert_the_same_end(whole, run)
    assert lr_of(run) == lr_of(whole)


def test_an_image_that_goes_while_it_is_trained_on_is_named(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diptych.batches import Batches
    from diptych.images import UnreadableImageError

    real = Batches.at

    def stale(self: Batches, step: int) -> object:
        if step == 3:
            raise UnreadableImageError(f"{folders.photos / 'x.png'}: Stale file handle; repair it")
        return real(self, step)

    monkeypatch.setattr(Batches, "at", stale)
    run = tmp_path / "run"
    assert diptych(*words(folders, run)) == 2
    line = last_line(capsys)
    assert f"stopped after step 3: {folders.photos / 'x.png'}: Stale file handle" in line
    assert line.endswith(f"diptych resume {run} goes on from the checkpoint of step 2")


def test_a_run_folder_that_vanishes_is_not_begun_a_second_time(
    folders: Folders, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diptych.batches import Batches

    run, real = tmp_path / "run", Batches.at

    def moved_away(self: Batches, step: int) -> object:
        if step == 3 and not (tmp_path / "real").exists():
            run.rename(tmp_path / "real")
            run.mkdir()  # what lay below the mount
        return real(self, step)

    monkeypatch.setattr(Batches, "at", moved_away)
    assert diptych(*words(folders, run)) == 2
    assert f"{run}: is not the folder any more that the training began in; bring it back" in last_line(capsys)
    monkeypatch.undo()
    assert list(run.iterdir()) == []
    run.rmdir()
    (tmp_path / "real").rename(run)
    assert diptych("resume", run) == 0
    assert_the_same_end(whole, run)


@pytest.mark.parametrize(
    "path",
    ["previews/7.png", "checkpoints/20240101/w.pt", "log.jsonl", "experiment.yaml", "tensorboard/x", "translator.json"],
)
def test_a_folder_with_what_a_run_would_write_over_is_left_alone(
    path: str, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    (out / path).parent.mkdir(parents=True)
    (out / path).write_text("mine")
    before = tree(out)
    sides = ("--a", folders.photos, "--b", folders.labels, "--out", out)
    assert diptych("train", "cyclegan", *sides, *tiny("cyclegan")) == 2
    assert f"{out}: holds {path.partition('/')[0]}, and is no run; choose another --out" in said_one_line(capsys)
    assert tree(out) == before


def test_a_start_that_was_cut_off_may_be_given_again(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in (".lock", "experiment.yaml", "data.json", "printed.log"):
        (out / name).write_text("")
    sides = ("--a", folders.photos, "--b", folders.labels, "--out", out)
    assert diptych("train", "cyclegan", *sides, *tiny("cyclegan")) == 0
    assert (out / "checkpoints.json").exists()


@pytest.mark.parametrize("side", ["a", "b", "val-a", "unpaired-b"])
def test_a_run_does_not_lie_among_the_images(
    side: str, own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(own_folders.photos, other)
    sides = {"a": own_folders.photos, "b": own_folders.photos, "val-a": other, "val-b": other, "unpaired-b": other}
    sides[side] = tmp_path / "here"
    shutil.copytree(own_folders.photos, tmp_path / "here")
    words = [word for name, folder in sides.items() for word in (f"--{name}", folder)]
    assert diptych("train", "cyclegan", *words, *tiny("cyclegan"), "--out", tmp_path / "here" / "runs" / "x") == 2
    assert f"lies among the images of {tmp_path / 'here'}; choose a folder elsewhere" in said_one_line(capsys)
    assert not (tmp_path / "here" / "runs").exists()


def test_a_checkpoint_is_whole_before_it_is_named_and_gone_before_it_is_half(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks into the folder at every change of a name: whatever checkpoints.json names can be resumed from."""
    run, replace, seen = tmp_path / "run", Path.replace, set()

    def looking(self: Path, target: Path) -> Path:
        answer = replace(self, target)
        if (run / "checkpoints.json").exists():
            for entry in json.loads((run / "checkpoints.json").read_text()).values():
                folder = run / "checkpoints" / entry["name"]
                files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
                assert files >= {
                    "translator.json",
                    "a_to_b/config.json",
                    "a_to_b/model.safetensors",
                    "training/state.json",
                    "training/state.safetensors",
                }
                seen.add(entry["name"])
        return answer

    monkeypatch.setattr(Path, "replace", looking)
    assert diptych(*words(folders, run)) == 0
    assert seen == {"00000002", "00000004", "00000006"}
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000006"]


def test_a_term_that_is_not_finite_tells_of_a_lower_rate_which_works(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diptych.methods.supervised import Supervised

    real, calls = Supervised.generator_terms, []

    def spoiled(self: Supervised, *arguments: object) -> object:
        calls.append(1)
        terms = real(self, *arguments)  # type: ignore[arg-type]
        return {name: term * float("nan") for name, term in terms.items()} if len(calls) == 4 else terms

    monkeypatch.setattr(Supervised, "generator_terms", spoiled)
    run = tmp_path / "run"
    assert diptych(*words(folders, run)) == 2
    way_on = f"diptych resume {run} --lr-scale 0.5"
    line = last_line(capsys)
    assert f"step 4: the term supervised_b became nan; {way_on} goes on from the checkpoint of step 2" in line
    monkeypatch.undo()
    rate = load_settings(run).optim.lr
    assert diptych(*way_on.split()[1:]) == 0
    assert f"the learning rate is {rate / 2:g} from here on, before {rate:g}" in capsys.readouterr().err
    # Constant for three of six steps, then falling to 0: as before, but half of it after step 2.
    shares = {1: 1, 2: 1, 3: 1 / 2, 4: 1 / 2, 5: 1 / 3, 6: 1 / 6}
    assert lr_of(run) == pytest.approx({step: rate * share for step, share in shares.items()})


def test_a_spoiled_checkpoint_is_passed_over_for_the_one_before(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diptych.methods.supervised import Supervised

    real, calls = Supervised.generator_terms, []

    def spoiled(self: Supervised, *arguments: object) -> object:
        calls.append(1)
        terms = real(self, *arguments)  # type: ignore[arg-type]
        return {name: term * float("nan") for name, term in terms.items()} if len(calls) == 5 else terms

    assert diptych(*words(folders, tmp_path / "whole")) == 0
    monkeypatch.setattr(Supervised, "generator_terms", spoiled)
    run = tmp_path / "run"
    assert diptych(*words(folders, run), "--keep", 2) == 2
    line = last_line(capsys)
    assert f"diptych resume {run} --lr-scale 0.5 goes on from the checkpoint of step 4; if it fails at this" in line
    assert "add --from-step 2" in line
    monkeypatch.undo()
    assert diptych("resume", run, "--lr-scale", 0.5, "--from-step", 2) == 0
    rate = load_settings(run).optim.lr * 2
    shares = {1: 1, 2: 1, 3: 1 / 2, 4: 1 / 2, 5: 1 / 3, 6: 1 / 6}
    assert lr_of(run) == pytest.approx({step: rate * share for step, share in shares.items()})


def test_a_lower_rate_stays_and_multiplies(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    rate = load_settings(run).optim.lr
    assert diptych("resume", run, "--steps", 5, "--lr-scale", 0.5) == 0
    assert diptych("resume", run, "--steps", 6) == 0
    assert load_settings(run).optim.lr == pytest.approx(rate / 2)
    assert diptych("resume", run, "--steps", 8, "--lr-scale", 0.1) == 0
    assert load_settings(run).optim.lr == pytest.approx(rate / 20)
    assert [entry["lr"] for entry in json.loads((run / "run.json").read_text())["resumed"]] == pytest.approx(
        [rate / 2, rate / 2, rate / 20]
    )


def test_where_the_only_checkpoint_is_spoiled_there_is_none_to_go_back_to(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diptych.methods.supervised import Supervised

    real, calls = Supervised.generator_terms, []

    def spoiled(self: Supervised, *arguments: object) -> object:
        calls.append(1)
        terms = real(self, *arguments)  # type: ignore[arg-type]
        return {name: term * float("nan") for name, term in terms.items()} if len(calls) == 3 else terms

    monkeypatch.setattr(Supervised, "generator_terms", spoiled)
    assert diptych(*words(folders, tmp_path / "run")) == 2
    assert "if it fails at this step again, train again with a lower --optim.lr" in last_line(capsys)


def test_weights_that_make_nan_of_images_are_not_saved_as_the_last_checkpoint(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    rate = ("--optim.lr", "1e30", "--precision", "fp32", "--val-every", 1)
    assert diptych(*words(folders, run), *rate) == 2
    line = last_line(capsys)
    assert "step 1: the generator a_to_b answers with NaN or infinity; its weights are spoiled; diptych resume" in line
    assert line.rstrip().endswith("--lr-scale 0.5 starts again, as no checkpoint was saved yet")
    assert not (run / "checkpoints").exists()
    assert diptych("resume", run, "--lr-scale", "1e-33") == 0


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf"])
def test_an_impossible_factor_is_refused(factor: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(trained)
    assert diptych("resume", trained, f"--lr-scale={factor}") == 2
    assert "lr_scale" in said_one_line(capsys)
    assert tree(trained) == before


def test_collapse_is_noted_in_the_log_and_told(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diptych.networks.resnet import ResNetGenerator
    from diptych.training import health

    monkeypatch.setattr(health, "PATIENCE", 4)
    monkeypatch.setattr(health, "LOOK_EVERY", 1)
    forward = ResNetGenerator.forward
    monkeypatch.setattr(ResNetGenerator, "forward", lambda self, x: forward(self, x) * 0)
    run = tmp_path / "run"
    assert diptych(*words(folders, run, "--loss", "pixel")) == 0
    assert "step 4: fake_b has been nearly of one colour" in capsys.readouterr().err
    notes = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["note"][:6]) for line in notes if "note" in line] == [(4, "fake_b")]
    monkeypatch.undo()


def test_signs_of_collapse_outlast_a_resumption_and_are_told_once(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.networks.resnet import ResNetGenerator
    from diptych.training import health

    monkeypatch.setattr(health, "PATIENCE", 4)
    monkeypatch.setattr(health, "LOOK_EVERY", 1)
    forward = ResNetGenerator.forward
    monkeypatch.setattr(ResNetGenerator, "forward", lambda self, x: forward(self, x) * 0)
    run = tmp_path / "run"
    assert diptych(*words(folders, run, "--loss", "pixel", "--steps", 3)) == 0
    assert diptych("resume", run, "--steps", 5) == 0  # the fourth step in a row is its first
    assert diptych("resume", run, "--steps", 12) == 0
    notes = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in notes if "note" in line] == [4]


def test_clipping_holds_for_the_run_and_its_continuation(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert diptych(*words(folders, run, "--optim.clip", 1e-12)) == 0
    assert load_settings(run).optim.clip == 1e-12
    from safetensors.torch import load_file

    moments = load_file(run / "checkpoints/00000006/training/state.safetensors")
    sizes = [tensor.abs().max().item() for name, tensor in moments.items() if name.endswith("exp_avg")]
    assert sizes
    assert 0 < max(sizes) <= 1e-12
    assert torch.get_num_threads() == 1
