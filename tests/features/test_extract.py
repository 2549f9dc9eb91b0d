import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diptych.cache import image_key
from diptych.errors import DiptychError
from diptych.features import BATCH, READERS, Extractor, descriptor, extract, table
from diptych.features.cache import open_cache

described: list[str] = []


@pytest.fixture(autouse=True)
def _cheap_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe_files(files: Sequence[Path]) -> NDArray[np.float32]:
        described.extend(file.name for file in files)
        return np.array([[file.stat().st_size, 7] for file in files], np.float32)

    described.clear()
    monkeypatch.setattr(descriptor, "describe_files", describe_files)


def write(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{index}.png" for index in range(count)]
    for index, file in enumerate(files):
        file.write_bytes(b"x" * index)
    return files


def test_rows_follow_the_files_and_progress_the_batches(tmp_path: Path) -> None:
    files = write(tmp_path, 40)
    told: list[tuple[int, int]] = []
    order = [*reversed(files), files[3]]
    features = extract("descriptor", order, cache=tmp_path / "c", progress=lambda *now: told.append(now))
    assert features.dtype == np.float32
    assert features.tolist() == [[size, 7] for size in [*reversed(range(40)), 3]]
    assert told == [(16, 40), (32, 40), (40, 40)]
    assert len(described) == 40


def test_only_new_content_is_computed(tmp_path: Path) -> None:
    files = write(tmp_path, 5)
    extract("descriptor", files[:3], cache=tmp_path / "c")
    files[0] = files[0].rename(tmp_path / "other name.png")
    files[1].write_bytes(b"edited")
    described.clear()
    assert extract("descriptor", files, cache=tmp_path / "c")[:, 0].tolist() == [0, 6, 2, 3, 4]
    assert described == ["1.png", "3.png", "4.png"]


def test_another_version_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, 2)
    extract("descriptor", files, cache=tmp_path / "c")
    monkeypatch.setattr(descriptor, "VERSION", "descriptor-next")
    extract("descriptor", files, cache=tmp_path / "c")
    assert described == ["0.png", "1.png"] * 2


def test_an_interrupted_extraction_goes_on(tmp_path: Path) -> None:
    files = write(tmp_path, 20)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract("descriptor", files, cache=tmp_path / "c", progress=interrupt)
    described.clear()
    extract("descriptor", files, cache=tmp_path / "c")
    assert described == ["16.png", "17.png", "18.png", "19.png"]


def test_too_many_for_the_memory_are_a_file_of_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(tmp_path, 40)
    order = [*reversed(files), files[3], files[3]]
    extract("descriptor", files[10:20], cache=tmp_path / "c")  # some are known before
    monkeypatch.setattr(table, "IN_MEMORY", 0)
    features = extract("descriptor", order, cache=tmp_path / "c")
    assert isinstance(features, np.memmap)
    assert features.tolist() == [[size, 7] for size in [*reversed(range(40)), 3, 3]]
    assert len(described) == 40
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["features.sqlite"]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from diptych.features import Extractor, extract, table

table.IN_MEMORY = 0
files = sorted(Path(sys.argv[1]).glob("*.png"), key=lambda file: int(file.stem))

def describe(sizes):
    print("described", *sizes, flush=True)
    return np.array([[size, 7] for size in sizes], np.float32)

def progress(done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

extractor = Extractor("any", "any-1", "none", lambda batch: [file.stat().st_size for file in batch], describe)
features = extract(extractor, files, cache=Path(sys.argv[1]) / "c", progress=progress)
print(features.tolist() == [[size, 7] for size in range(40)])
"""


def test_an_extraction_into_a_file_goes_on_after_a_kill(tmp_path: Path) -> None:
    write(tmp_path, 40)

    def run(kill_at: int) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-c", KILLED, str(tmp_path), str(kill_at)]
        return subprocess.run(call, stdout=subprocess.PIPE, text=True, check=False)

    killed = run(32)
    assert killed.returncode == -signal.SIGKILL
    again = run(0)
    assert again.stdout.splitlines() == ["described 32 33 34 35 36 37 38 39", "True"]
    left = {path.name for path in (tmp_path / "c").iterdir()}
    assert {name for name in left if not name.startswith("features.sqlite")} == set()


def test_default_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "mine"))
    extract("descriptor", write(tmp_path, 1))
    assert (tmp_path / "mine" / "features.sqlite").is_file()


def test_broken_features_are_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(descriptor, "describe_files", lambda _: np.array([[np.nan]], np.float32))
        with pytest.raises(DiptychError, match="not finite"):
            extract("descriptor", files, cache=tmp_path / "c")
    assert extract("descriptor", files, cache=tmp_path / "c").tolist() == [[0, 7]]


def test_no_files() -> None:
    with pytest.raises(DiptychError, match="no images"):
        extract("descriptor", [])


def test_the_real_descriptor_names_a_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("I;16", (20, 10), 40000).save(good)
    bad.write_bytes(b"not an image")
    assert extract("descriptor", [good], cache=tmp_path / "c").shape == (1, 384)
    with pytest.raises(DiptychError, match=r"bad\.png: not an image"):
        extract("descriptor", [good, bad], cache=tmp_path / "c")


def test_images_are_read_while_the_network_is_at_work_but_not_without_bounds(tmp_path: Path) -> None:
    files, begun, ahead = write(tmp_path, 10 * BATCH), [], threading.Event()

    def read(batch: Sequence[Path]) -> list[int]:
        begun.append(batch[0])
        if len(begun) == 2:
            ahead.set()
        return [file.stat().st_size for file in batch]

    def describe(sizes: list[int]) -> NDArray[np.float32]:
        assert ahead.wait(20), "the second batch is read only after the first was described"
        assert len(begun) <= done + 2 * READERS + 1
        return np.array([[size] for size in sizes], np.float32)

    done = 0

    def progress(images: int, _: int) -> None:
        nonlocal done
        done = images // BATCH

    extractor = Extractor("any", "any-1", "none", read, describe)
    features = extract(extractor, files, cache=tmp_path / "c", progress=progress)
    assert features[:, 0].tolist() == list(range(10 * BATCH))


def test_what_came_before_an_unreadable_image_is_kept(tmp_path: Path) -> None:
    files = write(tmp_path, 3 * BATCH)

    def read(batch: Sequence[Path]) -> list[int]:
        if files[-1] in batch:
            raise DiptychError("the last one is bad")
        return [file.stat().st_size for file in batch]

    def describe(sizes: list[int]) -> NDArray[np.float32]:
        return np.array([[size] for size in sizes], np.float32)

    told: list[int] = []
    extractor = Extractor("any", "any-1", "none", read, describe)
    with pytest.raises(DiptychError, match="the last one is bad"):
        extract(extractor, files, cache=tmp_path / "c", progress=lambda now, _: told.append(now))
    assert told == [BATCH, 2 * BATCH]
    with open_cache(tmp_path / "c", "any-1") as store:
        assert len(store.find(image_key(file) for file in files)) == 2 * BATCH
