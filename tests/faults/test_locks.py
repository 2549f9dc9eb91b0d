"""One process at a time in a folder: real processes, killed and alive, and filesystems that have no locks."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import diptych, said_one_line
from diptych.errors import DiptychError
from diptych.files import alone_in

HOLD = """
import os, sys, subprocess, time
from pathlib import Path
from diptych.files import alone_in
with alone_in(Path(sys.argv[1]), "train") as lock:
    child = ["-c", "import time; time.sleep(float(%r))" % sys.argv[2]]
    if float(sys.argv[2]):
        subprocess.Popen([sys.executable, *child], pass_fds=(lock,))
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path, child_seconds: float = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `folder`, perhaps with a child that inherits it."""
    words = [sys.executable, "-c", HOLD, str(folder), str(child_seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ended_process() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_is_told_who_the_first_is_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(DiptychError, match=rf"diptych train is at work there \(process {process.pid} on ") as told:
            alone_in(tmp_path, "resume").__enter__()
        assert socket.gethostname() in str(told.value)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with alone_in(tmp_path, "resume"):
            assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
    assert (tmp_path / ".lock").read_bytes() == b""


def test_what_a_dead_process_has_left_behind_is_waited_for(tmp_path: Path) -> None:
    waited = []
    with holder(tmp_path, child_seconds=1.0) as process:
        process.kill()
        process.wait()
        with alone_in(tmp_path, "study", lambda: waited.append(True)):
            assert waited == [True]


def test_one_that_has_not_said_its_name_yet_is_waited_for(tmp_path: Path) -> None:
    handle = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(0.3, os.close, [handle]).start()
    with alone_in(tmp_path, "train"):
        pass


def without_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def write_holder(folder: Path, **changes: object) -> None:
    record = {"command": "train", "process": os.getppid(), "host": socket.gethostname(), "since": "2026-01-01T00:00"}
    (folder / ".lock").write_text(json.dumps(record | changes))


def test_where_there_are_no_locks_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks)
    with alone_in(tmp_path, "train"):
        pass
    write_holder(tmp_path)
    with pytest.raises(DiptychError, match=rf"process {os.getppid()} .*delete .*\.lock if it is gone"):
        alone_in(tmp_path, "train").__enter__()
    write_holder(tmp_path, host="another-machine", process=ended_process())
    with pytest.raises(DiptychError, match=r"on another-machine, .*delete"):  # of whom nothing can be known here
        alone_in(tmp_path, "train").__enter__()
    write_holder(tmp_path, process=ended_process())
    with alone_in(tmp_path, "train"):
        pass
    for odd in (b"", b"[]", b'{"process": "1"}', b"\xff"):
        (tmp_path / ".lock").write_bytes(odd)
        with alone_in(tmp_path, "train"):
            pass


def test_other_troubles_with_the_lock_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output"):
        alone_in(tmp_path, "train").__enter__()


def test_a_run_is_trained_by_one_process_and_read_by_many(
    trained: Path, folders: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "experiment.yaml").read_bytes()
    with holder(run) as process:
        assert diptych("resume", run, "--steps", 6) == 2
        assert f"process {process.pid} on" in said_one_line(capsys)
        assert (run / "experiment.yaml").read_bytes() == before
        assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "out") == 0  # type: ignore[attr-defined]
    assert diptych("resume", run, "--steps", 6) == 0


def test_a_checkpoint_that_goes_while_it_is_read_is_read_from_its_successor(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diptych.translator as reading
    from diptych.translator import Translator

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    index = json.loads((run / "checkpoints.json").read_text())
    index["best"] = index["last"] = {"name": "00000002", "step": 2, "metric": None, "value": None}
    (run / "checkpoints.json").write_text(json.dumps(index))
    if not (run / "checkpoints/00000002").exists():
        shutil.copytree(run / "checkpoints/00000004", run / "checkpoints/00000002")
    real, read = reading._read_generator, []

    def a_save_comes_between(folder: Path, *rest: object) -> object:
        if not read:
            index["best"] = index["last"] = {"name": "00000004", "step": 4, "metric": None, "value": None}
            (run / "checkpoints.json").write_text(json.dumps(index))
            shutil.rmtree(run / "checkpoints/00000002")
        read.append(folder.name)
        return real(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "_read_generator", a_save_comes_between)
    assert set(Translator.from_pretrained(run).generators) == {"a_to_b", "b_to_a"}
    assert read == ["00000002", "00000004", "00000004"]
    # Where checkpoints.json still names what is gone, nobody can help.
    shutil.rmtree(run / "checkpoints/00000004")
    with pytest.raises(DiptychError, match="00000004"):
        Translator.from_pretrained(run)


@pytest.mark.slow
def test_readers_of_a_run_in_training_never_see_half_a_checkpoint(folders: object, tmp_path: Path) -> None:
    from conftest import tiny
    from diptych.translator import Translator

    run = tmp_path / "run"
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes]  # type: ignore[attr-defined]
    words = ["train", "supervised", *sides, "--pairs", 4, *tiny("supervised")]
    words += ["--steps", 60, "--val-every", 1, "--keep", 1, "--out", run]
    process = subprocess.Popen([sys.executable, "-m", "diptych", *map(str, words)], stderr=subprocess.DEVNULL)
    deadline, reads = time.monotonic() + 120, 0
    while process.poll() is None:
        assert time.monotonic() < deadline
        if (run / "checkpoints.json").exists():
            Translator.from_pretrained(run, "last")
            reads += 1
    assert process.returncode == 0
    assert reads >= 10
