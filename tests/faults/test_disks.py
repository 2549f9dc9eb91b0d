"""The short forms of `disks.py` and `memory.py`, and what the other commands do when they cannot write."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Folders, diptych, said_one_line, tree

HERE = Path(__file__).parent


@pytest.mark.slow
def test_disks_that_fail() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "disks.py", "--tries", "1", "--seed", "4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "limit: 1 tries" in done.stdout
    assert "injected: 1 tries" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "memory.py", "--steps", "300", "--images", "1000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 steps: the second half is" in done.stdout
    assert "1000 translations: the second half is" in done.stdout


def full_from(number: int) -> Callable[[Path, Path], Path]:
    """`Path.replace` on a disk that is full from the `number`-th file on."""
    real, left = Path.replace, [number]

    def replace(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, target)

    return replace


def commands(trained: Path, folders: Folders, out: Path) -> dict[str, list[object]]:
    sides = ["--a", folders.val_photos, "--b", folders.val_labels]
    return {
        "translate": ["translate", trained, folders.val_photos, "--out", out, "--overwrite"],
        "evaluate": ["evaluate", trained, *sides, "--out", out, "--resamples", 10],
        "select": ["select", folders.photos, "--features", "descriptor", "--budget", 3, "--out", out],
    }


@pytest.mark.parametrize("name", ["translate", "evaluate", "select"])
def test_a_full_disk_is_told_in_one_line_and_leaves_whole_files(
    name: str,
    trained: Path,
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = commands(trained, folders, tmp_path / "whole")[name]
    assert diptych(*words) == 0
    whole = tree(tmp_path / "whole")
    out = tmp_path / "out"
    for number in range(len(whole)):
        capsys.readouterr()
        monkeypatch.setattr(Path, "replace", full_from(number))
        code = diptych(*commands(trained, folders, out)[name])
        monkeypatch.undo()
        assert code == 2
        line = said_one_line(capsys)
        assert "No space left on device" in line
        assert str(out) in line
        assert all(whole[path] == found for path, found in tree(out).items())
        if name == "select":  # it asks for another place rather than overwrite pairs
            for path in out.iterdir():
                path.unlink()
    assert diptych(*commands(trained, folders, out)[name]) == 0
    assert tree(out) == whole


def test_old_results_outlive_a_full_disk(
    trained: Path, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = commands(trained, folders, out)
    for name in ("translate", "evaluate"):
        assert diptych(*words[name]) == 0
        before = tree(out)
        monkeypatch.setattr(Path, "replace", full_from(0))
        assert diptych(*words[name]) == 2
        monkeypatch.undo()
        assert tree(out) == before
