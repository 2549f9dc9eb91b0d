"""Downloads from a server of our own: resumed, verified, and with a line for whatever goes wrong."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import miniatures
from diptych.errors import DiptychError
from diptych.importers import download
from diptych.importers.download import fetch
from miniatures import Behaviour

DATA = bytes(range(256)) * 5000
SHA = hashlib.sha256(DATA).hexdigest()


def behaviour_of(data: bytes = DATA, **how: Any) -> Behaviour:
    return Behaviour({"/some/data.tar.gz": data}, **how)


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    with miniatures.serving(behaviour) as server:
        yield f"{server}/some/data.tar.gz"


@pytest.fixture(autouse=True)
def _no_proxy_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "WAIT_S", 0.0)


def test_a_file_is_fetched_once_and_remembered(tmp_path: Path) -> None:
    behaviour = behaviour_of()
    told: list[tuple[int, int]] = []
    with serving(behaviour) as url:
        file = fetch(url, tmp_path / "store", lambda done, total: told.append((done, total)))
        assert file == tmp_path / "store" / "data.tar.gz"
        assert file.read_bytes() == DATA
        assert told[0][1] == told[-1][0] == told[-1][1] == len(DATA)
        fetch(url, tmp_path / "store")
    assert behaviour.asked == [None]
    record = json.loads((tmp_path / "store" / "downloads.json").read_text())
    assert record == {"data.tar.gz": {"url": url, "bytes": len(DATA), "sha256": SHA}}
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["data.tar.gz", "downloads.json"]


@pytest.mark.parametrize("etag", ['"one"', 'W/"one"', None])
def test_a_dropped_connection_is_taken_up(tmp_path: Path, etag: str | None) -> None:
    behaviour = behaviour_of(drop_after=[300_000, 200_000], etag=etag)
    with serving(behaviour) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA
    assert behaviour.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_stopped_download_goes_on_later(tmp_path: Path) -> None:
    with serving(behaviour_of(drop_after=[300_000], status=[])) as url:

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch(url, tmp_path, stop)
    kept = (tmp_path / "data.tar.gz.part").stat().st_size
    assert 0 < kept < len(DATA)
    behaviour = behaviour_of()
    with serving(behaviour) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA
    assert behaviour.asked == [f"bytes={kept}-"]


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    behaviour = behaviour_of(drop_after=[300_000], ranges=False)
    with serving(behaviour) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA
    assert len(behaviour.asked) == 2


def test_a_file_that_changed_meanwhile_is_not_mixed(tmp_path: Path) -> None:
    with serving(behaviour_of(drop_after=[300_000] + [0] * 9)) as url, pytest.raises(DiptychError):
        fetch(url, tmp_path)
    new = DATA[::-1]
    with serving(behaviour_of(new, etag='"two"')) as url:
        assert fetch(url, tmp_path).read_bytes() == new


def test_a_file_of_another_length_is_not_mixed_either(tmp_path: Path) -> None:
    with serving(behaviour_of(drop_after=[300_000] + [0] * 9, etag=None)) as url, pytest.raises(DiptychError):
        fetch(url, tmp_path)
    new = DATA[::-1] + b"more"
    with serving(behaviour_of(new, etag=None)) as url:
        assert fetch(url, tmp_path).read_bytes() == new


def test_a_part_that_is_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz.part").write_bytes(DATA)
    with serving(behaviour_of()) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA


def test_a_part_that_is_longer_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz.part").write_bytes(DATA + b"more")
    with serving(behaviour_of()) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA


def test_no_length_given(tmp_path: Path) -> None:
    with serving(behaviour_of(length=False)) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA


def test_errors_that_pass_are_tried_again(tmp_path: Path) -> None:
    behaviour = behaviour_of(status=[503, 429, 500])
    with serving(behaviour) as url:
        assert fetch(url, tmp_path).read_bytes() == DATA
    assert len(behaviour.asked) == 4


def test_errors_that_stay(tmp_path: Path) -> None:
    with serving(behaviour_of(status=[404])) as url, pytest.raises(DiptychError, match="answers 404"):
        fetch(url, tmp_path)
    with serving(behaviour_of(status=[503] * 9)) as url, pytest.raises(DiptychError, match=r"503 .* \(5 tries\)"):
        fetch(url, tmp_path)
    with serving(behaviour_of()) as url:
        pass
    with pytest.raises(DiptychError, match=r"cannot be had .*refused"):
        fetch(url, tmp_path)
    assert not (tmp_path / "data.tar.gz").exists()


def test_what_is_kept_is_said(tmp_path: Path) -> None:
    behaviour = behaviour_of(drop_after=[1000] + [0] * 9)
    with serving(behaviour) as url, pytest.raises(DiptychError, match=r"ended after .*1,000 bytes of it are kept"):
        fetch(url, tmp_path)
    assert (tmp_path / "data.tar.gz.part").stat().st_size == 1000


def test_another_content_later_names_both_sums(tmp_path: Path) -> None:
    with serving(behaviour_of()) as url:
        file = fetch(url, tmp_path)
        file.write_bytes(DATA + b"!")
        spoilt = hashlib.sha256(DATA + b"!").hexdigest()
        with pytest.raises(DiptychError) as problem:
            fetch(url, tmp_path)
        assert spoilt in str(problem.value)
        assert SHA in str(problem.value)
        file.unlink()
    other = DATA[:-1] + b"?"
    with serving(behaviour_of(other)) as url, pytest.raises(DiptychError, match=SHA):
        fetch(url, tmp_path)
    assert not (tmp_path / "data.tar.gz").exists()


@pytest.mark.parametrize("text", [b"[1]", b"{", b"\xff", b"[" * 200_000])
def test_a_damaged_record(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "downloads.json").write_bytes(text)
    with serving(behaviour_of()) as url, pytest.raises(DiptychError, match=r"downloads\.json: is damaged"):
        fetch(url, tmp_path)


@pytest.mark.parametrize("url", ["ftp://host/x.zip", "http://host/", "http:///x.zip", "file:///x.zip", "http://h/a/.."])
def test_addresses_that_name_no_archive(tmp_path: Path, url: str) -> None:
    with pytest.raises(DiptychError, match="not the http or https address"):
        fetch(url, tmp_path)
