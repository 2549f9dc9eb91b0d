"""Files that are the old one or the new one, never half."""

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.files import append, delete_folder, write_bytes, write_json, write_tensors, write_text


def test_writes_what_it_was_given_and_makes_the_folder(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "x.bin", b"\0\r\n\xff")
    assert (tmp_path / "a" / "b" / "x.bin").read_bytes() == b"\0\r\n\xff"
    write_text(tmp_path / "x.txt", "é\n")
    assert (tmp_path / "x.txt").read_bytes() == b"\xc3\xa9\n"
    write_json(tmp_path / "x.json", {"b": [1, None], "a": 0.5})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"b": [1, None], "a": 0.5}
    assert text.startswith('{\n  "b": [')
    assert text.endswith("}\n")


def test_replaces_the_file_instead_of_writing_into_it(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "the old text")
    with path.open() as still_open:
        write_text(path, "new")
        assert still_open.read() == "the old text"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]


def disk_is_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", [(os, "fsync"), (Path, "chmod"), (Path, "replace")])
@pytest.mark.parametrize("trouble", [disk_is_full, interrupted])
def test_trouble_midway_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str], trouble: Callable[..., None]
) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    monkeypatch.setattr(*where, trouble)
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path: Path, number: float) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": number})
    assert json.loads(path.read_text()) == {"loss": 1.0}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "x.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == mode


def test_long_names_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".txt")
    write_text(path, "x")
    assert path.read_text() == "x"


def test_a_full_disk_is_known_from_what_safetensors_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors have no number, only a text; these two were seen on a full tmpfs and under a limit of sizes."""
    import safetensors.torch

    path = tmp_path / "x.safetensors"
    for said, number in (
        ("Error while serializing: I/O error: No space left on device (os error 28)", errno.ENOSPC),
        ("Error while serializing: I/O error: File too large (os error 27)", errno.EFBIG),
        ("something else", errno.EIO),
    ):

        def fail(*_: object, said: str = said) -> None:
            raise safetensors.SafetensorError(said)

        monkeypatch.setattr(safetensors.torch, "save_file", fail)
        with pytest.raises(OSError, match=re.escape(str(path))) as caught:
            write_tensors(path, {})
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
        assert list(tmp_path.iterdir()) == []


def test_a_folder_goes_by_its_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / ".part-folder").mkdir()  # left by a kill in the middle of the same
    (tmp_path / ".part-folder" / "x").write_text("half")
    real, seen = shutil.rmtree, []

    def looking(path: Path, **options: bool) -> None:
        seen.append((Path(path).name, folder.exists()))
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", looking)
    delete_folder(folder)
    assert seen == [(".part-folder", True), (".part-folder", False)]
    assert list(tmp_path.iterdir()) == []


def test_an_append_is_whole_or_names_its_file(tmp_path: Path) -> None:
    class Reluctant:
        """Takes three bytes at a time, as a nearly full disk may, and then none."""

        name = "the/log.jsonl"

        def __init__(self, room: int) -> None:
            self.room, self.data = room, b""

        def write(self, data: bytes) -> int:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = data[: min(3, self.room)]
            self.data += taken
            self.room -= len(taken)
            return len(taken)

    file = Reluctant(100)
    append(file, b"a whole line\n")  # type: ignore[arg-type]
    assert file.data == b"a whole line\n"
    with pytest.raises(OSError, match=r"No space left on device: 'the/log\.jsonl'"):
        append(Reluctant(5), b"a whole line\n")  # type: ignore[arg-type]
