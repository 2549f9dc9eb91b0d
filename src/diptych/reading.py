"""Files that may come from anyone, read so that nothing in them, and nothing that stands in their place, does harm."""

import csv
import hashlib
import io
import json
import os
import re
import stat
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Protocol

from diptych.errors import DiptychError, reason

SMALL = 2**20  # bytes that anyone may have


class Member(Protocol):
    """An image that is no file of its own but lies in an archive; as text, what messages call it."""

    def open(self) -> BinaryIO:
        """Its bytes. Raises `DiptychError` where the archive cannot be had, or is not what it should be."""
        ...


def open_file(path: Path) -> io.BufferedReader:
    """`path` opened for reading. Raises `OSError` for anything but a file: one would wait for a named pipe for ever."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path.name}: is no file")
    return _File(io.FileIO(handle))


class _File(io.BufferedReader):
    """Never takes memory for more bytes than the file holds, however many a damaged header makes a reader ask for."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; the rest for None or a negative number."""
        if size is not None and size > SMALL:  # few reads are, and each question to the system costs
            size = min(size, os.fstat(self.fileno()).st_size)
        return super().read(size)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; raises `OSError` where it cannot be read."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """The text of a file, UTF-8, without a byte order mark; raises `OSError` or `UnicodeDecodeError`."""
    with open_file(path) as file:
        return file.read().decode("utf-8-sig")


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises `DiptychError` where it cannot be read."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as problem:
        raise DiptychError(f"{path}: missing or damaged ({reason(problem)}); bring it back from a copy") from None


def read_table(path: Path, columns: str) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the columns of a CSV, and its rows; a cell that is not there is empty.

    Raises `DiptychError`, saying that `columns` are wanted, for a file that cannot be read.
    """
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as file:
            head = file.readline(csv.field_size_limit())
            file.seek(0)
            # Spreadsheets write semicolons where the comma is the decimal point.
            reader = csv.DictReader(file, restval="", delimiter=";" if ";" in head and "," not in head else ",")
            rows = list(reader)
            return list(reader.fieldnames or []), rows
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DiptychError(f"{path}: cannot be read ({reason(problem)}); give a CSV with {columns}") from None


def leads_out(name: str) -> bool:
    """Whether the relative `name` of a file leads out of its folder, or can be no file's name at all."""
    paths = (PurePosixPath(name), PurePath(name))
    return "\0" in name or any(path.anchor or ".." in path.parts for path in paths)


def is_address(text: str) -> bool:
    """Whether `text` is an address such as `s3://bucket/folder`, also where a `Path` has made one slash of its two."""
    return re.match("[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def log_line(text: str) -> dict[str, Any] | None:
    """A line of log.jsonl; None for one that was cut in half, or is none."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(line, dict) and type(line.get("step")) is int and type(line.get("seconds", 0.0)) in (int, float)
    return line if whole else None


def is_file(path: Path) -> bool:
    """Whether `path` is a file; no for what no file can be called."""
    try:
        return path.is_file()
    except OSError:
        return False
