"""Shards from addresses: fetched whole, checked, kept within a limit, and shared between processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_packing import dataset_of, pack, quiet

from conftest import Folders
from diptych.errors import DiptychError
from diptych.saved import PackedIndex
from diptych.shards import places
from diptych.shards.cached import Fetched
from diptych.shards.opened import OpenShards
from diptych.shards.opening import open_shards, read_index
from diptych.shards.places import Address
from miniatures import Behaviour, serving

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def packed(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(dataset_of(folders), tmp_path_factory.mktemp("packed") / "sh")


@pytest.fixture
def in_memory(packed: Path) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for path in packed.iterdir():
        files.pipe_file(f"/sh/{path.name}", path.read_bytes())
    yield "memory://sh"
    files.rm("/sh", recursive=True)


def files_of(packed: Path) -> dict[str, bytes]:
    return {f"/sh/{path.name}": path.read_bytes() for path in packed.iterdir()}


def all_bytes(where: str, limit: int = 2**30) -> list[bytes]:
    """Every image of a, in order."""
    domain = open_shards(where, swap=False, channels={"a": 3, "b": 3}, cache_limit=limit, note=quiet).domains["a"]
    found = []
    for index in range(len(domain.names)):
        member = domain.file(index)
        assert not isinstance(member, Path)
        found.append(member.open().read())
    return found


def test_memory_and_file_addresses_give_what_the_folder_gives(packed: Path, in_memory: str, folders: Folders) -> None:
    there = [path.read_bytes() for path in sorted(folders.photos.iterdir())]
    assert all_bytes(str(packed)) == there
    assert all_bytes(in_memory) == there
    assert all_bytes(f"file://{packed}/") == there


def test_a_dropped_connection_is_tried_again(packed: Path, tmp_path: Path) -> None:
    index = read_index(str(packed))
    shard = index.shards[0]
    with serving(Behaviour(files_of(packed), drop_after=[5000], status=[])) as server:
        fetched = Fetched(Address(f"{server}/sh"), tmp_path, 2**30)
        with fetched.open(shard) as file:
            assert file.read() == (packed / shard.name).read_bytes()
    assert [path.name for path in tmp_path.glob("[!.]*")] == [f"{shard.sha256}.tar"]
    assert not list(tmp_path.glob(".part-*"))


def test_http_from_end_to_end(packed: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    behaviour = Behaviour(files_of(packed), drop_after=[100, 10**9, 10**9, 3000], status=[503])
    with serving(behaviour) as server:
        found = all_bytes(f"{server}/sh")
        assert found == [path.read_bytes() for path in sorted(folders.photos.iterdir())]
        asked = len(behaviour.asked)
        assert all_bytes(f"{server}/sh") == found  # the shards are kept
        assert len(behaviour.asked) == asked + 2  # shards.json and images.json
        with pytest.raises(DiptychError, match=r"/other/shards\.json: no such file; look whether"):
            all_bytes(f"{server}/other")


def test_what_stays_wrong_is_said(packed: Path, tmp_path: Path) -> None:
    index = read_index(str(packed))
    files = files_of(packed)
    files[f"/sh/{index.shards[0].name}"] = files[f"/sh/{index.shards[0].name}"][:-1]
    del files[f"/sh/{index.shards[1].name}"]
    with serving(Behaviour(files)) as server:
        fetched = Fetched(Address(f"{server}/sh"), tmp_path, 2**30)
        with pytest.raises(DiptychError, match=rf"{server}/sh/pairs-000000\.tar: has .* bytes, where .*copy it there"):
            fetched.open(index.shards[0])
        with pytest.raises(DiptychError, match=r"pairs-000001\.tar: no such file"):
            fetched.open(index.shards[1])
    with pytest.raises(DiptychError, match=r"pairs-000000\.tar: .*\(5 tries\); try again later"):
        fetched.open(index.shards[0])
    assert not list(tmp_path.glob("*.tar"))
    assert not list(tmp_path.glob(".part-*"))


def test_the_limit_holds_and_the_one_used_longest_ago_goes(packed: Path, in_memory: str, tmp_path: Path) -> None:
    shards = read_index(str(packed)).shards[:5]
    limit = sum(shard.bytes for shard in shards[:3])
    fetched = Fetched(Address(in_memory), tmp_path, limit)

    def kept() -> set[str]:
        return {path.stem for path in tmp_path.glob("[!.]*.tar")}

    for age, shard in zip((3, 1, 2), shards[:3], strict=True):
        fetched.open(shard).close()
        os.utime(tmp_path / f"{shard.sha256}.tar", (time.time() - age, time.time() - age))
    fetched.open(shards[0]).close()  # now the one used last
    fetched.open(shards[3]).close()
    assert shards[0].sha256 in kept()
    assert shards[2].sha256 not in kept()
    for shard in (*shards, *shards):
        fetched.open(shard).close()
        assert sum(path.stat().st_size for path in tmp_path.glob("*.tar")) <= limit


def test_a_tiny_limit_costs_fetches_and_nothing_else(
    packed: Path, in_memory: str, folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    largest = max(shard.bytes for shard in read_index(str(packed)).shards)
    assert all_bytes(in_memory, largest) == [path.read_bytes() for path in sorted(folders.photos.iterdir())]
    assert sum(path.stat().st_size for path in (tmp_path / "shards").glob("*.tar")) <= largest
    with pytest.raises(DiptychError, match=r"--shard-cache-gib .*the largest shard of memory://sh has"):
        all_bytes(in_memory, largest - 1)


def test_what_was_let_go_is_closed(packed: Path, in_memory: str, tmp_path: Path) -> None:
    """Otherwise the disk would not get its room back."""
    shards = read_index(str(packed)).shards
    largest = max(shard.bytes for shard in shards)
    opened = OpenShards(Fetched(Address(in_memory), tmp_path, largest), shards)
    for number in range(len(shards)):
        opened.read(number, 0, 512)
    assert len(opened._files) <= 2


def test_half_a_file_in_the_cache_is_fetched_again(packed: Path, in_memory: str, tmp_path: Path) -> None:
    shard = read_index(str(packed)).shards[0]
    (tmp_path / f"{shard.sha256}.tar").write_bytes(b"after a power cut")
    with Fetched(Address(in_memory), tmp_path, 2**30).open(shard) as file:
        assert file.read() == (packed / shard.name).read_bytes()


def test_parts_of_dead_processes_are_cleared_away(packed: Path, in_memory: str, tmp_path: Path) -> None:
    for name, age in ((".part-old.tar", 2 * 24 * 3600), (".part-new.tar", 60)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    Fetched(Address(in_memory), tmp_path, 2**30).open(read_index(str(packed)).shards[0]).close()
    assert [path.name for path in tmp_path.glob(".part-*")] == [".part-new.tar"]


def test_a_disk_without_room(packed: Path, in_memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    address = Address(in_memory)
    monkeypatch.setattr(address, "fetch", full)
    with pytest.raises(DiptychError, match="its disk has no room for shards; give a smaller --shard-cache-gib"):
        Fetched(address, tmp_path, 2**30).open(read_index(str(packed)).shards[0])


def test_several_processes_fetch_a_shard_once(packed: Path, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from diptych.shards.cached import Fetched
from diptych.shards.opening import read_index
from diptych.shards.places import Address
shard = read_index(sys.argv[2]).shards[0]
print("ready", flush=True)
sys.stdin.readline()
print(len(Fetched(Address(sys.argv[1]), Path(sys.argv[3]), 2**30).open(shard).read()))
"""
    shard = read_index(str(packed)).shards[0]

    class Slow(dict[str, bytes]):
        def get(self, *words: Any) -> Any:
            time.sleep(1)  # all of them want the shard while the first one fetches it
            return super().get(*words)

    behaviour = Behaviour(Slow(files_of(packed)))
    with serving(behaviour) as server:
        words = [sys.executable, "-c", script, f"{server}/sh", str(packed), str(tmp_path)]
        processes = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        outs = [process.communicate(timeout=300)[0] for process in processes]
    assert outs == [f"{shard.bytes}\n"] * 3
    assert len(behaviour.asked) == 1


def test_the_next_shard_is_fetched_meanwhile(packed: Path, in_memory: str, tmp_path: Path) -> None:
    shards = read_index(str(packed)).shards
    opened = OpenShards(Fetched(Address(in_memory), tmp_path, 2**30), shards)
    opened.fetch_ahead(1)
    deadline = time.monotonic() + 60
    while not (tmp_path / f"{shards[1].sha256}.tar").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    OpenShards(Fetched(Address(in_memory), tmp_path, 2**30), shards, fetches_ahead=False).fetch_ahead(0)
    time.sleep(0.05)
    assert not (tmp_path / f"{shards[0].sha256}.tar").exists()


def test_addresses_that_nothing_reads(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiptychError, match="fsspec cannot read from it"):
        read_index("nonsense://x/y")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DiptychError, match=r"fsspec lacks what reads s3://.*pip install"):
        read_index("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DiptychError, match=r"pip install 'diptych\[shards\]'"):
        read_index("http://127.0.0.1/x")
    assert isinstance(read_index(str(packed)), PackedIndex)  # folders need none of it
