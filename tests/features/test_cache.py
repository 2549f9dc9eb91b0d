import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from diptych.cache import default_folder, image_key
from diptych.errors import DiptychError
from diptych.features.cache import open_cache

NUMBERS = np.array([1.5, -2, 3], np.float32)


def test_what_was_added_is_found_by_content_and_extractor(tmp_path: Path) -> None:
    with open_cache(tmp_path / "new" / "folder", "one") as cache:
        cache.add({b"a": NUMBERS})
    with open_cache(tmp_path / "new" / "folder", "one") as cache:
        found = cache.find([b"b", b"a"])
    assert list(found) == [b"a"]
    assert found[b"a"].tolist() == [1.5, -2, 3]
    assert found[b"a"].dtype == np.float32
    with open_cache(tmp_path / "new" / "folder", "two") as cache:
        assert cache.find([b"a"]) == {}


def test_added_features_outlive_an_interruption(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_cache(tmp_path, "one") as cache:
            cache.add({b"a": NUMBERS})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_cache(tmp_path, "one") as cache:
        assert list(cache.find([b"a"])) == [b"a"]


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    with open_cache(tmp_path, "one") as cache:
        other = sqlite3.connect(tmp_path / "features.sqlite", check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.3, other.rollback).start()
        cache.add({b"a": NUMBERS})
        assert list(cache.find([b"a"])) == [b"a"]
    other.close()


def test_key_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert image_key(tmp_path / "abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DiptychError, match="none: cannot be read"):
        image_key(tmp_path / "none")


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/person")
    assert default_folder() == Path("/chosen")
    monkeypatch.delenv("DIPTYCH_CACHE")
    assert default_folder() == Path("/xdg/diptych")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path("/home/person/.cache/diptych")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").write_bytes(b"no database, but long enough to look at" * 100)
    with pytest.raises(DiptychError, match=r"features\.sqlite: the cache is damaged .*delete this file"):
        open_cache(tmp_path, "one").__enter__()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiptychError, match=r"cannot be used .*DIPTYCH_CACHE"):
        open_cache(tmp_path / "file" / "below", "one").__enter__()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").mkdir()
    with pytest.raises(DiptychError, match=r"features\.sqlite: .*cannot be used .*DIPTYCH_CACHE"):
        open_cache(tmp_path, "one").__enter__()
