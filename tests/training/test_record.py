"""What run.json says a run was made with and of."""

import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diptych as package
from conftest import Folders, diptych, make_folders, tiny
from diptych.training import record
from diptych.training.record import changes, data_digest, git_state, made_with


def listed(folder: Path) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in sorted(folder.iterdir())]


def test_one_pixel_one_name_one_order_of_contents_change_the_digest_of_their_place_alone(own_folders: Folders) -> None:
    def digest() -> dict[str, str]:
        return data_digest({"a": listed(own_folders.photos), "b": listed(own_folders.labels)})

    seen = [digest()]
    assert digest() == seen[0]
    first, second = sorted(own_folders.photos.iterdir())[:2]
    pixels = np.array(Image.open(first))
    pixels[5, 7, 1] ^= 1
    Image.fromarray(pixels).save(first)
    seen.append(digest())
    first.rename(first.with_name("scene000b.png"))
    seen.append(digest())
    first = first.with_name("scene000b.png")
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    seen.append(digest())
    assert len({found["a"] for found in seen}) == 4
    assert len({found["b"] for found in seen}) == 1
    assert {found["of"] for found in seen} == {"names and contents"}


def test_the_digest_is_what_it_says(tmp_path: Path) -> None:
    """Worked by hand with sha256sum, so that the record of one machine can be compared on another."""
    import hashlib

    (tmp_path / "x").write_bytes(b"hello")
    of_hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    expected = hashlib.sha256(f"1 x {of_hello}\n".encode()).hexdigest()
    assert data_digest({"a": listed(tmp_path)})["a"] == expected


def test_of_very_many_files_names_and_sizes_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "y", "z"):
        (tmp_path / name).write_bytes(b"12345")
    monkeypatch.setattr(record, "MOST_FILES_READ", 2)
    before = data_digest({"a": listed(tmp_path)})
    assert before["of"] == "names and sizes"
    (tmp_path / "y").write_bytes(b"54321")
    assert data_digest({"a": listed(tmp_path)}) == before
    (tmp_path / "y").write_bytes(b"543210")
    assert data_digest({"a": listed(tmp_path)})["a"] != before["a"]


def test_names_that_are_no_unicode_count(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"x")
    assert len(data_digest({"a": listed(tmp_path)})["a"]) == 64


def test_the_state_of_the_packages_own_checkout(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    package = tmp_path / "src" / "diptych"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert git_state(package) is None
    git("init")
    (tmp_path / "of-somebody-else.txt").write_text("")
    git("add", "of-somebody-else.txt")
    git("commit", "-m", "x")
    assert git_state(package) is None  # it lies in a repository, and is no part of it
    git("add", ".")
    git("commit", "-m", "x")
    commit = git("rev-parse", "HEAD")
    assert git_state(package) == {"commit": commit, "dirty": False}
    (tmp_path / "elsewhere.txt").write_text("of somebody else")
    assert git_state(package) == {"commit": commit, "dirty": False}
    (package / "__init__.py").write_text("x = 1")
    assert git_state(package) == {"commit": commit, "dirty": True}


def test_without_git_there_is_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(Path(package.__file__).parent) is None


def test_what_differs_is_told_in_words() -> None:
    before = {"torch": "2.12.0", "git": {"commit": "0123456789", "dirty": True}, "seed": 3, "python": "3.12.1"}
    now = {"torch": "2.13.0", "git": None, "python": "3.12.1", "numpy": "2.4"}
    assert changes(before, now) == ["torch 2.12.0 (now 2.13.0)", "git 01234567 with changes (now None)"]


def test_run_json_says_it_all_and_a_resumption_tells_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, run = make_folders(tmp_path / "data", count=6, val_count=2), tmp_path / "run"
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4]
    validation = ["--val-a", folders.val_photos, "--val-b", folders.val_labels]
    words = ["train", "supervised", *sides, *validation, *tiny("supervised"), "--steps", 2, "--seed", 5]
    assert diptych(*words, "--out", run) == 0
    written = json.loads((run / "run.json").read_text())
    assert written["seed"] == 5
    assert {name: written[name] for name in ("torch", "numpy", "pillow", "safetensors")} == {
        name: version(name) for name in ("torch", "numpy", "pillow", "safetensors")
    }
    assert {"python", "diptych", "git", "device", "threads", "started", "precision"} <= written.keys()
    assert set(written["data_sha256"]) == {"of", "a", "b", "val_a", "val_b", "b_classes"}
    assert diptych(*words, "--out", tmp_path / "again") == 0
    assert json.loads((tmp_path / "again/run.json").read_text())["data_sha256"] == written["data_sha256"]

    capsys.readouterr()
    assert diptych("resume", run, "--steps", 3) == 0
    said = capsys.readouterr().err
    assert "began with" not in said
    assert "have changed" not in said
    pairs = json.loads((run / "data.json").read_text())["pairs"]
    pixels = np.array(Image.open(folders.photos / pairs[0][0]))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(folders.photos / pairs[0][0])
    shutil.copy(folders.classes, tmp_path / "classes.csv")
    folders.classes.write_text((tmp_path / "classes.csv").read_text() + "\n")
    (run / "run.json").write_text(json.dumps(written | {"torch": "1.0", "resumed": [{"step": 2}]}))
    assert diptych("resume", run, "--steps", 4) == 0
    said = capsys.readouterr().err
    assert f"run: began with torch 1.0 (now {version('torch')}); its numbers may differ from here on" in said
    assert "run: the files of a, b_classes have changed since the run began" in said
    resumed = json.loads((run / "run.json").read_text())["resumed"]
    assert [entry["step"] for entry in resumed] == [2, 3]
    assert resumed[1]["changed"] == [f"torch 1.0 (now {version('torch')})", "a", "b_classes"]


def test_files_that_are_not_used_do_not_count(tmp_path: Path) -> None:
    """Only the four pairs of supervised are read again and again."""
    folders, digests = make_folders(tmp_path / "data", count=6, val_count=2), []
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4]
    for name in ("one", "two"):
        words = ["train", "supervised", *sides, *tiny("supervised"), "--steps", 1, "--out", tmp_path / name]
        assert diptych(*words) == 0
        digests.append(json.loads((tmp_path / name / "run.json").read_text())["data_sha256"])
        used = {left for left, _ in json.loads((tmp_path / name / "data.json").read_text())["pairs"]}
        unused = next(path for path in sorted(folders.photos.iterdir()) if path.name not in used)
        Image.open(unused).convert("L").convert("RGB").save(unused)
    assert digests[0] == digests[1]


def test_threads_and_device_are_of_this_process() -> None:
    made = made_with(torch.device("cpu"))
    assert made["threads"] == torch.get_num_threads()
    assert made["device"].startswith("cpu, ")
