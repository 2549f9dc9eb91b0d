"""What becomes of a study whose workers are killed from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conftest import Folders


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the worker is found in /proc")
def test_a_worker_killed_from_outside_is_reported_as_such(folders: Folders, tmp_path: Path) -> None:
    study = {
        "title": "Long",
        "about": "One run that never ends.",
        "metrics": ["mean_iou"],
        "data": {
            "a": str(folders.photos),
            "b": str(folders.labels),
            "b_classes": str(folders.classes),
            "val_a": str(folders.val_photos),
            "val_b": str(folders.val_labels),
        },
        "train": {"size": "32x24", "generator": "resnet", "blocks": 1, "ngf": 4, "steps": 1_000_000, "pairs": "all"},
        "axes": {"method": {"regression": {"train": {"method": "supervised"}}}},
        "seeds": [0],
    }
    file, out = tmp_path / "long.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    words = [sys.executable, "-m", "diptych", "study", str(file), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any((out / "runs").glob("*/log.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the process was ended by SIGKILL" in err.splitlines()[-1]
    assert "starting again tries them once more" in err.splitlines()[-1]
