"""Lists in MATLAB's files: those that SciPy writes, every way to store them, and files that no one should trust."""

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from diptych.errors import DiptychError
from diptych.importers import gta5, matlab
from diptych.importers.matlab import read_vectors

SEGFAULT = """
TUFUTEFCIDUuMCBNQVQtZmlsZSBQbGF0Zm9ybTogcG9zaXgsIENyZWF0ZWQgb246IEZyaSBOb3YgMjAgMTc6MjY6MDggMjAyNgAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABSU0OAAAASAAAAAYAAAAIAAAADgAAAAAAAAAFAAAACAAAAAIAAAABAAAAAQAAAAgA
AAB0cmFpbklkc4QAAAAQAAAAAQAAAAAAAAACAAAAAAAAAA4AAABAAABsBgAAAAgAAAAOAAAAAAAAAAUAAAAIAAAAAQAAAAEAAAABAAD+BgAAAHZhbElk
cwAADAAAAAgAAAADAAAAAAAAAA4AAABAAAAABgAAAAgAAAAOAAAAAAAAAAUAAAAIAAAAAQAAAAEAAAABAAAABwAAAHRlc3Q4ZHMADAAAAAgAAAAEAAAA
AAAAAA==
"""
"""A damaged file that ends a process which reads it with SciPy."""


def element(order: str, type_: int, content: bytes) -> bytes:
    return struct.pack(f"{order}II", type_, len(content)) + content + bytes(-len(content) % 8)


def small(order: str, type_: int, content: bytes) -> bytes:
    return struct.pack(f"{order}I", len(content) << 16 | type_) + content.ljust(4, b"\0")


def variable(
    order: str, numbers: bytes, name: bytes = b"x", flags: int = 6, size: tuple[int, ...] = (2, 1), type_: int = 14
) -> bytes:
    """A variable, of doubles unless `flags` say otherwise; `numbers` is the element that holds them."""
    parts = element(order, 6, struct.pack(f"{order}II", flags, 0))
    parts += element(order, 5, struct.pack(f"{order}{len(size)}i", *size)) + small(order, 1, name) + numbers
    return element(order, type_, parts)


def write(path: Path, order: str, *variables: bytes) -> Path:
    mark = struct.pack(f"{order}H", 0x100) + (b"IM" if order == "<" else b"MI")
    path.write_bytes(b"made by hand".ljust(124) + mark + b"".join(variables))
    return path


def compressed(variable: bytes) -> bytes:
    content = zlib.compress(variable)
    return struct.pack("<II", 15, len(content)) + content


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_what_scipy_writes(tmp_path: Path, compress: bool, kind: str) -> None:
    values = {"trainIds": [1, 2, 99], "valIds": [7], "e": []}
    arrays = {"trainIds": np.array([[1, 2, 99]], kind), "valIds": np.array([[7]], kind), "e": np.zeros((0, 0), kind)}
    others = {"words": "split", "cells": np.array([[1, "a"]], object), "square": np.eye(2), "z": np.array([1j])}
    savemat(tmp_path / "x.mat", others | arrays, do_compression=compress)
    found = read_vectors(tmp_path / "x.mat", values.keys())
    assert {key: array.tolist() for key, array in found.items()} == values


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_are_stored_in_few_bytes_and_either_order(tmp_path: Path, order: str) -> None:
    two = variable(order, small(order, 4, struct.pack(f"{order}HH", 300, 24966)))
    file = write(tmp_path / "x.mat", order, two, variable(order, small(order, 2, b"\x05\x06"), b"y", size=(1, 2)))
    found = read_vectors(file, {"x", "y"})
    assert found["x"].tolist() == [300, 24966]
    assert found["y"].tolist() == [5, 6]


NUMBERS = small("<", 2, b"\x05\x06")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ([variable("<", small("<", 2, b"\x05"))], "no vector, or not whole"),
        ([variable("<", element("<", 2, bytes(4)), size=(2, 2))], "no vector"),
        ([variable("<", NUMBERS, size=(2, 1, 1))], "no vector"),
        ([variable("<", NUMBERS, size=(-2, -1))], "no vector"),
        ([variable("<", NUMBERS, flags=0x806)], "real numbers"),
        ([variable("<", NUMBERS, flags=4)], "real numbers"),
        ([variable("<", small("<", 16, b"ab"))], "real numbers"),
        ([variable("<", b"")], "real numbers"),
        ([variable("<", NUMBERS, type_=9)], "type 9 stands where a variable"),
        ([variable("<", NUMBERS)[:-1]], "ends early"),
        ([variable("<", NUMBERS), b"\0" * 7], "ends early"),
        ([struct.pack("<II", 14, 2**32 - 1)], "ends early"),
        ([element("<", 14, struct.pack("<I", 5 << 16 | 6) + bytes(4))], "small element"),
        ([element("<", 14, b"")], "type 6 is missing"),
        ([compressed(variable("<", NUMBERS))[:-3]], "ends early"),
        ([element("<", 15, b"12345678")], "header"),
        ([compressed(element("<", 9, bytes(8)))], "type 14 is missing"),
        ([compressed(compressed(variable("<", NUMBERS)))], "type 14 is missing"),
    ],
)
def test_what_is_no_list(tmp_path: Path, variables: list[bytes], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_vectors(write(tmp_path / "x.mat", "<", *variables), {"x"})


def test_a_file_that_unpacks_to_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = compressed(variable("<", element("<", 2, bytes(3000)), size=(3000, 1)))
    file = write(tmp_path / "x.mat", "<", many, many)
    assert len(read_vectors(file, {"x"})["x"]) == 3000
    monkeypatch.setattr(matlab, "MOST_BYTES", 5000)  # either variable is smaller
    with pytest.raises(ValueError, match="too much"):
        read_vectors(file, {"x"})
    monkeypatch.setattr(matlab, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="too large"):
        read_vectors(file, {"x"})


@pytest.mark.parametrize("header", [b"", b"\x89HDF\r\n", b"MATLAB 7.3".ljust(124) + b"\x00\x02IM"])
def test_other_versions(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "x.mat").write_bytes(header)
    with pytest.raises(ValueError, match="version 5"):
        read_vectors(tmp_path / "x.mat", {"x"})


# GTA5's split.mat.


def refusal(folder: Path) -> str:
    with pytest.raises(DiptychError) as problem:
        gta5._listed(folder)
    assert str(problem.value).startswith(f"{folder}/split.mat: holds no lists of frames (")
    assert "put train.txt and val.txt" in str(problem.value)
    return str(problem.value)


def test_a_split_that_crashes_scipy(tmp_path: Path) -> None:
    (tmp_path / "split.mat").write_bytes(base64.b64decode(SEGFAULT))
    assert "real numbers" in refusal(tmp_path)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1.5, -1])
def test_numbers_that_name_no_frame(tmp_path: Path, value: float) -> None:
    savemat(tmp_path / "split.mat", {"trainIds": [1], "valIds": [2.0, value], "testIds": [3]})
    assert "valIds are no numbers of frames" in refusal(tmp_path)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    savemat(tmp_path / "split.mat", {"trainIds": [1], "valIds": [2]})
    assert "there is no testIds" in refusal(tmp_path)


@pytest.mark.parametrize("compress", [True, False])
def test_a_thousand_damaged_splits(tmp_path: Path, compress: bool) -> None:
    file = tmp_path / "split.mat"
    savemat(file, {"trainIds": [[1], [2]], "valIds": [[3]], "testIds": [[4]]}, do_compression=compress)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for place in random.integers(100, len(data), random.integers(1, 4)):
            data[place] = random.integers(256)
        file.write_bytes(data)
        try:
            listed, _ = gta5._listed(tmp_path)
            assert len(listed) == 3
        except DiptychError:
            refused += 1
    assert 200 < refused < 1000
