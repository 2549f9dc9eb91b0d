"""An index may come from anyone: what is wrong in it is said in one line, and leads to no byte outside of a shard."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_packing import dataset_of, opened, pack, quiet

from conftest import Folders
from diptych.dataset import Dataset
from diptych.errors import DiptychError
from diptych.shards.opening import open_shards, recognised

Change = Callable[[dict[str, Any], list[Any]], None]  # of shards.json, and of the shards in images.json


@pytest.fixture
def packed(folders: Folders, tmp_path: Path) -> Path:
    return pack(dataset_of(folders), tmp_path / "sh")


def change(folder: Path, how: Change) -> None:
    index, images = (json.loads((folder / name).read_text()) for name in ("shards.json", "images.json"))
    how(index, images["shards"])
    data = json.dumps(images).encode()
    (folder / "images.json").write_bytes(data)
    index["images_sha256"] = index["images_sha256"] and hashlib.sha256(data).hexdigest()
    (folder / "shards.json").write_text(json.dumps(index))


def out_of_folder(index: dict[str, Any], images: list[Any]) -> None:
    index["shards"][0]["name"] = "../pairs-000000.tar"


def absolute(index: dict[str, Any], images: list[Any]) -> None:
    index["shards"][0]["name"] = "/etc/passwd"


def below(index: dict[str, Any], images: list[Any]) -> None:
    index["shards"][0]["name"] = "deep/pairs-000000.tar"


def image_out_of_folder(index: dict[str, Any], images: list[Any]) -> None:
    images[0]["a"]["names"][0] = "../../x.png"


def beyond_the_end(index: dict[str, Any], images: list[Any]) -> None:
    images[0]["a"]["lengths"][0] = index["shards"][0]["bytes"]


def overflowing(index: dict[str, Any], images: list[Any]) -> None:
    images[0]["a"]["starts"][0] = images[0]["a"]["lengths"][0] = 2**63 - 1


def before_the_start(index: dict[str, Any], images: list[Any]) -> None:
    images[0]["a"]["starts"][0] = -5


def too_few_rows(index: dict[str, Any], images: list[Any]) -> None:
    images[0]["b"]["names"].pop()


def too_few_shards(index: dict[str, Any], images: list[Any]) -> None:
    images.pop()


def a_pair_of_one(index: dict[str, Any], images: list[Any]) -> None:
    del images[0]["b"]


def other_count(index: dict[str, Any], images: list[Any]) -> None:
    index["domains"]["a"]["images"] += 1


def twice(index: dict[str, Any], images: list[Any]) -> None:
    images[1]["a"]["names"][0] = images[0]["a"]["names"][0]


def same_shard_twice(index: dict[str, Any], images: list[Any]) -> None:
    index["shards"][1]["name"] = index["shards"][0]["name"]


def no_b(index: dict[str, Any], images: list[Any]) -> None:
    del index["domains"]["b"]


def later_format(index: dict[str, Any], images: list[Any]) -> None:
    index["format"] = 2


def no_digest(index: dict[str, Any], images: list[Any]) -> None:
    index["shards"][0]["sha256"] = "0"


HOSTILE: dict[Change, str] = {
    out_of_folder: r"'\.\./pairs-000000\.tar' leads out of its folder",
    absolute: "'/etc/passwd' leads out of its folder",
    below: "is no name of a file beside it",
    image_out_of_folder: r"'\.\./\.\./x\.png' leads out of its folder",
    beyond_the_end: r"names bytes beyond the end of pairs-000000\.tar",
    overflowing: "names bytes beyond the end",
    before_the_start: "starts",
    too_few_rows: r"lists \d+ where pairs-000000\.tar has \d+",
    too_few_shards: r"lists \d+ shards, shards\.json \d+",
    a_pair_of_one: r"the columns of pairs-000000\.tar are a",
    other_count: "lists 12 images of a, shards.json 13",
    twice: r"lists 'scene0\d\d\.png' twice",
    same_shard_twice: "a shard stands there twice",
    no_b: "domains of a and b must both be there",
    later_format: "format",
    no_digest: "sha256",
}


@pytest.mark.parametrize("how", list(HOSTILE), ids=lambda how: how.__name__)
def test_a_hostile_or_damaged_index(how: Change, packed: Path) -> None:
    change(packed, how)
    with pytest.raises(DiptychError, match=HOSTILE[how]) as raised:
        opened(packed)
    assert ".json" in str(raised.value)


def test_files_of_the_index_that_are_cut_or_gone(packed: Path) -> None:
    data = (packed / "images.json").read_bytes()
    (packed / "images.json").write_bytes(data[:-10])
    with pytest.raises(DiptychError, match=r"images\.json: damaged \(its SHA-256"):
        opened(packed)
    (packed / "images.json").unlink()
    with pytest.raises(DiptychError, match=r"images\.json: missing or damaged"):
        opened(packed)
    (packed / "shards.json").write_bytes(b"{")
    with pytest.raises(DiptychError, match=r"shards\.json: damaged"):
        opened(packed)


def test_opening_reads_no_shard(packed: Path) -> None:
    for shard in packed.glob("*.tar"):
        shard.unlink()
    assert len(opened(packed).domains["a"].names) == 12
    assert "12 of a, 12 of b; 5 pairs" in recognised(str(packed), False)


def test_swapped(folders: Folders, tmp_path: Path) -> None:
    dataset = dataset_of(folders)
    packed = pack(Dataset(dataset.a, dataset.b, ((0, 1), (4, 7))), tmp_path / "sh")
    there = opened(packed)
    assert set(there.pairs) == {("scene000.png", "scene001.png"), ("scene004.png", "scene007.png")}
    swapped = open_shards(str(packed), swap=True, channels={"a": 3, "b": 3}, cache_limit=2**30, note=quiet)
    assert swapped.domains["a"].classes is not None
    assert swapped.domains["b"].classes is None
    assert swapped.pairs == tuple((b, a) for a, b in there.pairs)


@pytest.mark.parametrize("damage", ["cut", "bit", "gone", "pipe"])
def test_a_damaged_shard_is_named(damage: str, packed: Path) -> None:
    shard = packed / "pairs-000000.tar"
    data = bytearray(shard.read_bytes())
    shard.unlink()
    if damage == "cut":
        shard.write_bytes(data[:-512])
    elif damage == "bit":
        data[700] ^= 1
        shard.write_bytes(data)
    elif damage == "pipe":
        import os

        os.mkfifo(shard)
    domain = opened(packed).domains["a"]
    assert domain.packed is not None
    member = domain.file(int(domain.packed.shards.argmin()))
    assert not isinstance(member, Path)
    words = {"cut": "bytes, where", "bit": "its SHA-256 is not", "gone": "cannot be read", "pipe": "is no file"}
    with pytest.raises(DiptychError, match=words[damage]) as raised:
        member.open()
    assert str(shard) in str(raised.value)
    assert "bring it back from a copy, or pack again" in str(raised.value)
