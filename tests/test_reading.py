"""Reading files from anyone: what is no file, what is no text, what is asked for beyond the end."""

import json
import os
from pathlib import Path

import pytest

from diptych.errors import DiptychError
from diptych.reading import is_file, leads_out, log_line, open_file, read_json, read_table, read_text


def test_more_than_the_file_holds_may_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abcdef")
    with open_file(tmp_path / "x") as file:
        assert file.read(2) == b"ab"
        assert file.read(2**62) == b"cdef"  # Python alone would want memory for all of it
        assert file.read(2**62) == b""
        file.seek(1)
        assert file.read() == b"bcdef"
        file.seek(1)
        assert file.read(None) == b"bcdef"


def test_a_large_file_is_read_as_asked(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2**13
    (tmp_path / "x").write_bytes(data)
    with open_file(tmp_path / "x") as file:
        assert file.read(2**20 + 5) == data[: 2**20 + 5]
        assert file.read(10) == data[2**20 + 5 : 2**20 + 15]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="is no file"):
            open_file(place)
    for place in (tmp_path / "pipe", tmp_path / "none.json"):
        with pytest.raises(DiptychError, match="missing or damaged"):
            read_json(place)


def test_text_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    for data in ("é\r\n".encode(), "\ufeffé\r\n".encode()):
        (tmp_path / "x").write_bytes(data)
        assert read_text(tmp_path / "x") == "é\r\n"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, "\xff"])
def test_json_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DiptychError, match=r"x\.json: missing or damaged \("):
        read_json(tmp_path / "x.json")


def test_tables_of_spreadsheets(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes('\ufeffid;name\r\n1;"a;b"\r\n2\r\n'.encode())
    assert read_table(tmp_path / "x.csv", "id") == (
        ["id", "name"],
        [{"id": "1", "name": "a;b"}, {"id": "2", "name": ""}],
    )


@pytest.mark.parametrize("name", ["..", "../x", "x/../y", "/x", "//x", "x\0"])
def test_names_that_lead_out(name: str) -> None:
    assert leads_out(name)


@pytest.mark.parametrize("name", ["x", "x/y", "..x", "x..", "./x", "a b", "é", ""])
def test_names_that_stay(name: str) -> None:
    assert not leads_out(name)


def test_lines_of_a_log() -> None:
    whole = {"step": 3, "seconds": 1, "terms": {"x": None}}
    assert log_line(json.dumps(whole)) == whole
    assert log_line('{"step": 0}') == {"step": 0}
    for text in (
        "",
        "{",
        "3",
        "[]",
        "{}",
        '{"step": "3"}',
        '{"step": true}',
        '{"step": 1, "seconds": "x"}',
        "[" * 9999,
    ):
        assert log_line(text) is None


def test_no_file_has_an_endless_name(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert is_file(tmp_path / "x")
    assert not any(is_file(path) for path in (tmp_path, tmp_path / "y", tmp_path / ("x" * 5000), Path("x\0")))
