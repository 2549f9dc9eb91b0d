"""Archives from elsewhere: what is unpacked, and every trick that is not."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from diptych.errors import DiptychError
from diptych.importers import archives
from diptych.importers.archives import unpack

FILES = {"data/train/1.txt": b"one", "data/train/2.txt": b"two" * 1000, "data/näme.txt": b""}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/", b"")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("data")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def refusal(archive: Path, folder: Path) -> str:
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(DiptychError) as problem:
        unpack(archive, folder)
    assert "\n" not in str(problem.value)
    assert str(archive) in str(problem.value)
    assert sorted(folder.parent.rglob("*")) == before
    return str(problem.value)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_everything_is_unpacked(tmp_path: Path, suffix: str) -> None:
    kinds = {".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
    file = tmp_path / f"x{suffix}"
    archive = make_zip(file, FILES) if suffix == ".zip" else make_tar(file, FILES, kinds[suffix])
    told: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "out" / "x", lambda done, total: told.append((done, total)))
    found = {
        path.relative_to(tmp_path / "out" / "x").as_posix(): path.read_bytes()
        for path in (tmp_path / "out" / "x").rglob("*")
        if path.is_file()
    }
    assert found == FILES
    assert told[-1] == (archive.stat().st_size,) * 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["../evil", "data/../../evil", "/evil", "..\\evil", "C:/evil", "data/..", "."])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_no_name_leads_out(tmp_path: Path, name: str, make) -> None:
    archive = make(tmp_path / "x.archive", {"data/good": b"1", name: b"evil"})
    assert "leads out" in refusal(archive, tmp_path / "deep" / "x")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tar_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("data/thing")
        member.type, member.linkname = kind, "../../etc/passwd"
        archive.addfile(member)
    assert "link or a device" in refusal(tmp_path / "x.tar", tmp_path / "out")


def test_zip_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("data/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "../../etc/passwd")
    assert "link or a device" in refusal(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["data/1", "./data/1", "data//1"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_names_that_stand_there_twice(tmp_path: Path, again: str, suffix: str) -> None:
    archive = tmp_path / f"x{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("data/1", "first")
            opened.writestr(again, "second")
    else:
        with tarfile.open(archive, "w") as tar:
            for name in ("data/1", again):
                tar.addfile(tarfile.TarInfo(name))
    assert "stands there twice" in refusal(archive, tmp_path / "out")


def test_a_file_that_is_another_ones_folder(tmp_path: Path) -> None:
    assert "another file's folder" in refusal(make_tar(tmp_path / "x.tar", {"a": b"1", "a/b": b"2"}), tmp_path / "out")


@pytest.mark.parametrize("name", ["data/a\nb", "data/\x1b[2J", "data/a\x7f"])
def test_control_characters(tmp_path: Path, name: str) -> None:
    assert "control characters" in refusal(make_tar(tmp_path / "x.tar", {name: b"1"}), tmp_path / "out")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("data/né"))
    assert "not written in UTF-8" in refusal(tmp_path / "x.tar", tmp_path / "out")


def test_names_that_are_too_long(tmp_path: Path) -> None:
    assert "too long" in refusal(make_tar(tmp_path / "x.tar", {"data/" + "ä" * 128: b"1"}), tmp_path / "out")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = {"data/zeros": bytes(3_000_000)}
    for archive in (make_zip(tmp_path / "x.zip", zeros), make_tar(tmp_path / "x.tar.gz", zeros)):
        unpack(archive, tmp_path / f"fine-{archive.name}")  # small enough to grow as it likes
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1000)
    for archive in (tmp_path / "x.zip", tmp_path / "x.tar.gz"):
        assert "decompression bomb" in refusal(archive, tmp_path / "out")
    two = {f"data/{n}": os.urandom(600) for n in range(2)}
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    assert "more than 0 MB" in refusal(make_tar(tmp_path / "y.tar", two, "w"), tmp_path / "out")
    monkeypatch.setattr(archives, "MOST_BYTES", 1200)
    unpack(tmp_path / "y.tar", tmp_path / "out")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_ENTRIES", 2)
    assert "more than 2 files" in refusal(make_zip(tmp_path / "x.zip", FILES), tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_damaged_archives(tmp_path: Path, make, damage: str) -> None:
    archive = make(tmp_path / "x.archive", {"data/1": os.urandom(5000), "data/2": os.urandom(5000)})
    data = bytearray(archive.read_bytes())
    if damage == "cut":
        data = data[: len(data) * 2 // 3]
    elif damage == "flip":
        data[len(data) // 3] ^= 0xFF
    else:
        data = bytearray(b"" if damage == "empty" else b"<html>404 not found</html>" * 100)
    archive.write_bytes(data)
    assert "is damaged" in refusal(archive, tmp_path / "out")


def test_an_archive_without_files(tmp_path: Path) -> None:
    assert "holds no file" in refusal(make_tar(tmp_path / "x.tar", {}), tmp_path / "out")


def test_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"data/1": b"secret"})
    data = bytearray(archive.read_bytes())
    central = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)  # the second entry, behind the folder's
    data[central + 8] |= 1
    archive.write_bytes(data)
    assert "is encrypted" in refusal(archive, tmp_path / "out")


@pytest.mark.parametrize("more", [5, -5])
def test_a_zip_that_lies_about_sizes(tmp_path: Path, more: int) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("data/1", b"1" * 100)
    data = bytearray(archive.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # where the central directory has the size unpacked
    data[place : place + 4] = (100 + more).to_bytes(4, "little")
    archive.write_bytes(data)
    assert "is damaged" in refusal(archive, tmp_path / "out")


def test_a_full_disk_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "x.zip", FILES)

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        archives._copy(next(archives._entries(archive)), tmp_path / "a" / "b", archive, 100, 100)
