"""`diptych pack` and trainings on shards, by the command line."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import (
    Folders,
    assert_same_weights,
    diptych,
    stop_before_step,
    terms_of,
    tiny,
    train_settings,
    tree,
)
from diptych import commands
from diptych.batches import SIDE_A, Batches, rhythm_of
from diptych.build import open_dataset, resolve
from diptych.config import ResumeSettings
from diptych.dataset import Dataset
from diptych.decoded import Decoded, InMemory
from diptych.display import Silent
from diptych.shards import places
from diptych.shards.order import WINDOW
from miniatures import Behaviour, serving

SMALL = ("--shard-mb", "0.008")  # a few images a shard


@pytest.fixture(scope="module")
def shards(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pairs and the other images, in shards of a few images."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 5)
    assert diptych("pack", *words, *SMALL, "--out", out) == 0
    return out


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error, behind what is said of the data."""
    *before, error = capsys.readouterr().err.splitlines()
    assert error.startswith("diptych: error: ")
    assert not any("Traceback" in line for line in before)
    return error


def batches_of(dataset: Dataset, rhythm: str, budget: int = 10**7, batch_size: int = 1) -> Batches:
    order = rhythm_of(rhythm, len(dataset.pairs), max(len(dataset.unpaired_a), len(dataset.unpaired_b)), batch_size)
    return Batches(
        dataset,
        order,
        (32, 24),
        batch_size=batch_size,
        seed=3,
        jitter=1,
        flip=False,
        decoded=Decoded(budget, InMemory()),
    )


def dataset_of(*words: object) -> Dataset:
    return open_dataset(resolve(train_settings("shukla", *words, "--size", "32x24", "--out", "run")), Silent())


def rows(batches: Batches, steps: int) -> Counter[tuple[bytes, bytes]]:
    """How often each image comes, as its pixels and what cross-entropy learns from."""
    found: Counter[tuple[bytes, bytes]] = Counter()
    for step in range(steps):
        batch = batches.at(step)
        assert batch.b_classes is not None
        found.update((image.numpy().tobytes(), b"") for image in batch.a)
        found.update(
            (image.numpy().tobytes(), target.numpy().tobytes())
            for image, target in zip(batch.b, batch.b_classes, strict=True)
        )
    return found


def test_batches_hold_the_pixels_of_the_folders(folders: Folders, shards: Path) -> None:
    sides = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 5)
    from_folders, packed = dataset_of(*sides), dataset_of("--data", shards)
    assert from_folders.to_record() == packed.to_record()
    for rhythm, steps in (("unpaired", 12), ("pairs", 5)):
        for budget in (10**7, 0):
            found = rows(batches_of(packed, rhythm, budget), 2 * steps)
            assert found == rows(batches_of(from_folders, rhythm), 2 * steps)
            assert set(found.values()) == {2}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_few_shards_are_drawn_from_at_a_time(folders: Folders, tmp_path: Path, batch_size: int) -> None:
    sides = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", "none")
    assert diptych("pack", *sides, "--shard-mb", "0.012", "--out", tmp_path / "sh") == 0
    dataset = dataset_of("--data", tmp_path / "sh")
    batches = batches_of(dataset, "unpaired", batch_size=batch_size)
    assert dataset.a.packed is not None
    of = dataset.a.packed.shards
    assert WINDOW < len(set(of.tolist())) <= 6
    orders = [batches.order(SIDE_A, 12, turn) for turn in range(2)]
    assert orders[0].tolist() != orders[1].tolist()
    for order in orders:
        assert sorted(order.tolist()) == list(range(12))
        drawn = of[np.array(dataset.unpaired_a)[order]].tolist()
        met = list(dict.fromkeys(drawn))
        for begin in range(0, len(met), WINDOW):  # the images of so many shards, then those of as many others
            window = set(met[begin : begin + WINDOW])
            places = [place for place, shard in enumerate(drawn) if shard in window]
            assert places == list(range(places[0], places[-1] + 1))
    fresh = batches_of(dataset, "unpaired", batch_size=batch_size)
    assert (fresh.at(7).a == batches.at(7).a).all()  # whatever was asked before


def test_caps_draw_what_they_draw_from_folders(folders: Folders, tmp_path: Path) -> None:
    sides = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes)
    assert diptych("pack", *sides, "--out", tmp_path / "sh") == 0
    for caps in (("--pairs", 4, "--unpaired", 7), ("--pairs", "none"), ("--pairs", 3, "--unpaired-excludes-pairs")):
        assert dataset_of(*sides, *caps).to_record() == dataset_of("--data", tmp_path / "sh", *caps).to_record()
    table = tmp_path / "pairs.csv"
    table.write_text("a,b\nscene003.png,scene004.png\n")
    record = dataset_of("--data", tmp_path / "sh", "--pairs", table).to_record()
    assert record["pairs"] == [["scene003.png", "scene004.png"]]
    elsewhere = dataset_of("--data", tmp_path / "sh", "--unpaired-b", folders.val_labels)
    assert elsewhere.elsewhere_b is not None
    assert elsewhere.elsewhere_b.classes is not None
    assert len(elsewhere.unpaired_b) == 4


def test_swapped_shards(shards: Path, folders: Folders, tmp_path: Path) -> None:
    words = ("--data", shards, "--swap", "--val-a", folders.val_labels, "--val-b", folders.val_photos)
    assert diptych("train", "pix2pix", *words, *tiny("pix2pix"), "--out", tmp_path / "run") == 0
    assert diptych("resume", tmp_path / "run", "--steps", 6) == 0


@pytest.mark.parametrize("method", ["shukla", "supervised", "cyclegan", "pix2pix", "tripathy"])
def test_a_stopped_run_goes_on_as_if_it_had_not(method: str, shards: Path, tmp_path: Path) -> None:
    settings = train_settings(
        *(method, "--data", f"file://{shards}", *tiny(method), "--steps", 7),
        *("--log-every", 1, "--cache-gib", 0, "--out", tmp_path / "whole"),
    )
    assert commands.train(settings)[1] == 7
    stopped = settings.model_copy(update={"out": tmp_path / "stopped"})
    assert commands.train(stopped, stop=stop_before_step(3))[1] == 3
    assert commands.resume(ResumeSettings(run=tmp_path / "stopped"))[1] == 7
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped", 7)
    assert terms_of(tmp_path / "whole") == terms_of(tmp_path / "stopped")
    # The folder itself gives the same as its address.
    assert commands.train(settings.model_copy(update={"data": str(shards), "out": tmp_path / "local"}))[1] == 7
    assert_same_weights(tmp_path / "whole", tmp_path / "local", 7)


@pytest.mark.slow
def test_a_killed_run_is_resumed_by_the_command_line(shards: Path, folders: Folders, tmp_path: Path) -> None:
    def words(out: str) -> list[str]:
        data = ["--data", f"file://{shards}", "--val-a", folders.val_photos, "--val-b", folders.val_labels]
        rest = ["--precision", "fp32", "--steps", 60, "--log-every", 1, "--val-every", 20, "--out", tmp_path / out]
        return [str(word) for word in ["train", "shukla", *data, *tiny("shukla"), *rest]]

    command = [sys.executable, "-m", "diptych"]
    process = subprocess.Popen([*command, *words("killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "checkpoints.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert subprocess.run([*command, "resume", str(tmp_path / "killed")], check=False).returncode == 0
    assert subprocess.run([*command, *words("whole")], check=False).returncode == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "killed", 60)
    assert terms_of(tmp_path / "whole") == terms_of(tmp_path / "killed")


def test_training_over_http_with_a_connection_that_breaks(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(places, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    words = ("train", "shukla", *tiny("shukla"), "--out")
    assert diptych(*words, tmp_path / "local", "--data", shards) == 0
    files = {f"/sh/{path.name}": path.read_bytes() for path in shards.iterdir()}
    with serving(Behaviour(files, drop_after=[10**9] * 6 + [1000])) as server:
        assert diptych(*words, tmp_path / "http", "--data", f"{server}/sh", "--shard-cache-gib", "0.00003") == 0
    assert_same_weights(tmp_path / "local", tmp_path / "http", 4)


def test_resuming_with_shards_that_changed(
    shards: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "sh"
    shutil.copytree(shards, data)
    assert diptych("train", "shukla", "--data", data, *tiny("shukla"), "--out", tmp_path / "run") == 0
    experiment = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    assert experiment["data"] == str(data)
    assert experiment["a"] is None
    assert experiment["loss"] == "pixel"
    capsys.readouterr()
    shutil.rmtree(data)
    sides = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 5)
    assert diptych("pack", *sides, "--seed", 1, "--out", data) == 0
    assert diptych("resume", tmp_path / "run", "--steps", 6) == 0
    assert "the files of a, b have changed" in capsys.readouterr().err
    shutil.rmtree(data)
    assert diptych("pack", "--a", folders.val_photos, "--b", folders.val_labels, "--out", data) == 0
    capsys.readouterr()
    assert diptych("resume", tmp_path / "run", "--steps", 8) == 2
    assert "any more; bring the shards back" in last_line(capsys)


@pytest.mark.parametrize("how", ["cut", "bit", "gone"])
def test_a_damaged_shard_stops_the_training(
    how: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "sh"
    shutil.copytree(shards, data)
    for shard in data.glob("pairs-*.tar"):
        content = bytearray(shard.read_bytes())
        content[600] ^= 1
        shard.write_bytes(content[:-1] if how == "cut" else content)
        if how == "gone":
            shard.unlink()
    capsys.readouterr()
    assert diptych("train", "supervised", "--data", data, *tiny("supervised"), "--out", tmp_path / "run") == 2
    said = last_line(capsys)
    assert f"{data}/pairs-00000" in said
    assert "bring it back from a copy, or pack again" in said


def test_a_pack_that_is_killed_leaves_nothing_that_looks_whole(folders: Folders, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from diptych.cli import main
from diptych.shards.packing import Shard
added, add = [0], Shard.add
def add_and_die(*words):
    add(*words)
    added[0] += 1
    if added[0] == 9:
        os.kill(os.getpid(), signal.SIGKILL)
Shard.add = add_and_die
main(sys.argv[1:])
"""
    out = tmp_path / "sh"
    words = [str(word) for word in ("pack", "--a", folders.photos, "--b", folders.labels, *SMALL, "--out", out)]
    killed = subprocess.run([sys.executable, "-c", script, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".part-sh"]
    assert list((tmp_path / ".part-sh").glob("*.tar"))
    (tmp_path / ".part-sh" / "a-000099.tar").write_bytes(b"of another call")
    assert diptych("train", "shukla", "--data", tmp_path / ".part-sh", "--out", tmp_path / "run") == 2
    assert diptych(*words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sh"]
    assert not (out / ".lock").exists()
    assert diptych(*words[:-1], tmp_path / "clean") == 0
    assert tree(out) == tree(tmp_path / "clean")


def test_pack_behind_a_link_and_where_the_shards_cannot_appear(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ("pack", "--a", folders.photos, "--b", folders.labels)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert diptych(*sides, "--out", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "shards.json").is_file()

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path == tmp_path / "mount")
    (tmp_path / "mount").mkdir()
    for out in (".", tmp_path / "mount"):
        capsys.readouterr()
        assert diptych(*sides, "--out", out) == 2
        assert (
            f"the shards appear in one move, which cannot take its place; give --out {Path(out).resolve()}/shards"
            in (last_line(capsys))
        )
        assert not list(Path(out).iterdir())


def test_what_pack_refuses(own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = ("--a", own_folders.photos, "--b", own_folders.labels)
    out = tmp_path / "sh"
    (own_folders.photos / "scene002.png").write_bytes(b"no image")

    def refused(*words: object) -> str:
        capsys.readouterr()
        before = tree(tmp_path)
        assert diptych("pack", *words) == 2
        assert tree(tmp_path) == before
        return last_line(capsys)

    assert "scene002.png: not an image that can be read" in refused(*sides, "--out", out)
    assert "pack needs --b" in refused("--a", own_folders.photos, "--out", out)
    assert "is there already" in refused(*sides, "--skip-unreadable", "--out", own_folders.root)
    assert "--pairs 9: there are only 5 pairs" in refused(*sides, "--skip-unreadable", "--pairs", 9, "--out", out)
    assert diptych("pack", *sides, "--skip-unreadable", "--out", out) == 0
    assert json.loads((out / "shards.json").read_text())["domains"]["a"]["images"] == 5
    assert "is there already" in refused(*sides, "--skip-unreadable", "--out", out)
    assert "only diptych train reads shards" in refused("--data", out, "--out", tmp_path / "again")
    swapped = ("--a", own_folders.labels, "--b", own_folders.val_photos, "--b-classes", own_folders.classes)
    assert "are the two sides swapped?" in refused(*swapped, "--out", tmp_path / "again")


def test_what_else_refuses_shards(
    shards: Path, trained: Path, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ("evaluate", trained, "--data", shards),
        ("evaluate", trained, "--a", shards, "--b", folders.val_labels),
        ("evaluate", trained, "--data", "s3://bucket/shards"),
        ("translate", trained, shards, "--out", tmp_path / "out"),
        ("select", shards, "--out", tmp_path / "out"),
        ("check", shards, "--out", tmp_path / "out"),
        ("train", "shukla", "--a", shards, "--b", folders.labels, "--out", tmp_path / "out"),
        ("train", "shukla", "--data", shards, "--val-a", shards, "--val-b", shards, "--out", tmp_path / "out"),
    ):
        capsys.readouterr()
        assert diptych(*words) == 2
        assert "shards" in last_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--a", "x"), "--a: the shards of --data"),
        (("--b-classes", "x"), "--b-classes: the shards of --data"),
        (("--a-channels", "5", "--weights", "identity_a", "0", "identity_b", "0"), "has 3 bands where 5 are wanted"),
        (("--pairs", "9"), "there are only 5 pairs"),
        (("--size", "96x48", "--fit", "crop"), "smaller than the crop"),
    ],
)
def test_settings_that_shards_do_not_take(
    words: tuple[str, ...], said: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diptych("train", "shukla", "--data", shards, *tiny("shukla"), *words, "--out", tmp_path / "run") == 2
    assert said in last_line(capsys)
    assert not (tmp_path / "run").exists()


def test_shards_without_pairs(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = ("--a", folders.photos, "--b", folders.labels, "--pairs", "none")
    assert diptych("pack", *sides, "--out", tmp_path / "sh") == 0
    capsys.readouterr()
    assert diptych("train", "pix2pix", "--data", tmp_path / "sh", *tiny("pix2pix"), "--out", tmp_path / "run") == 2
    assert "was packed without pairs" in last_line(capsys)
    assert diptych("train", "shukla", "--data", tmp_path / "sh", *tiny("shukla"), "--out", tmp_path / "run") == 0


def test_a_dataset_of_halves(folders: Folders, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "maps" / "train").mkdir(parents=True)
    for name in ("scene000.png", "scene001.png", "scene002.png"):
        both = Image.new("RGB", (96, 32))
        both.paste(Image.open(folders.photos / name), (0, 0))
        both.paste(Image.open(folders.labels / name).convert("RGB"), (48, 0))
        both.save(tmp_path / "maps" / "train" / name)
    assert diptych("pack", "--data", tmp_path / "maps", "--out", tmp_path / "sh") == 0
    packed, halves = (
        dataset_of("--data", tmp_path / "sh", "--pairs", "all"),
        dataset_of("--data", tmp_path / "maps", "--pairs", "all"),
    )
    assert packed.to_record() == halves.to_record()
    for step in range(3):
        one, other = (
            batches_of(replace(data, unpaired_a=(), unpaired_b=()), "pairs", batch_size=3).at(step)
            for data in (packed, halves)
        )
        assert Counter(row.numpy().tobytes() for row in one.a) == Counter(row.numpy().tobytes() for row in other.a)
