"""Lists of numbers in MATLAB's files of version 5 (also called 6 and 7), which may come from anyone."""

import struct
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.reading import open_file

MOST_BYTES = 2**24  # of a file, and of all that it unpacks to
HEADER = 128  # bytes
BYTE_ORDER = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}  # by the end of the header: the version and MATLAB's mark
NAME, DIMENSIONS, FLAGS, MATRIX, COMPRESSED = 1, 5, 6, 14, 15  # types of elements
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of an element -> NumPy's name of the numbers in it."""
NUMERIC = range(6, 16)  # classes of arrays: floats of 64 and 32 bits, integers of 8 to 64
COMPLEX = 0x800  # among the flags

Element = tuple[int, bytes]  # its type and what it holds


def read_vectors(file: Path, names: Set[str]) -> dict[str, NDArray[Any]]:
    """The vectors called `names`, `(N,)`, of those that the file holds; what else it holds is passed over.

    Raises `OSError`, or `ValueError` for a file that is damaged, of more than `MOST_BYTES` or of another version, and
    where one of `names` is no vector of real numbers.
    """
    with open_file(file) as opened:
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError("it is too large")
    order = BYTE_ORDER.get(data[HEADER - 4 : HEADER])
    if order is None:
        raise ValueError("it is not in MATLAB's format of version 5")
    found = {}
    for matrix in _matrices(data[HEADER:], order):
        parts = _elements(matrix, order)
        flags, dimensions, name = (_next(parts, type_) for type_ in (FLAGS, DIMENSIONS, NAME))
        if (key := name.decode("latin-1")) in names:
            found[key] = _vector(flags, dimensions, next(parts, None), order)
    return found


def _matrices(data: bytes, order: str) -> Iterator[bytes]:
    """What is in the variables, unpacked where they are compressed."""
    room = MOST_BYTES
    for type_, content in _elements(data, order):
        if type_ == COMPRESSED:
            unpacking = zlib.decompressobj()
            try:
                content = unpacking.decompress(content, room)
            except zlib.error as problem:
                raise ValueError(str(problem)) from None
            if not unpacking.eof:
                raise ValueError("a variable ends early, or unpacks to too much")
            room -= len(content)
            if room <= 0:
                raise ValueError("it unpacks to too much")
            content = _next(_elements(content, order), MATRIX)
        elif type_ != MATRIX:
            raise ValueError(f"an element of type {type_} stands where a variable should")
        yield content


def _elements(data: bytes, order: str) -> Iterator[Element]:
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise ValueError("an element ends early")
        type_, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if type_ >> 16:  # a small one: its size stands in the upper half, and it ends within the 8 bytes
            type_, size, start = type_ & 0xFFFF, type_ >> 16, place + 4
            if size > 4:
                raise ValueError("a small element is too large")
            place += 8
        else:
            # All but compressed ones are filled up to 8 bytes.
            place = start + (size if type_ == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise ValueError("an element ends early")
        yield type_, data[start : start + size]


def _next(elements: Iterator[Element], wanted: int) -> bytes:
    type_, content = next(elements, (None, b""))
    if type_ != wanted:
        raise ValueError(f"an element of type {wanted} is missing")
    return content


def _vector(flags: bytes, dimensions: bytes, numbers: Element | None, order: str) -> NDArray[Any]:
    if len(flags) != 8 or len(dimensions) != 8:
        raise ValueError("a list is no vector")
    (word,) = struct.unpack_from(f"{order}I", flags)
    height, width = struct.unpack(f"{order}ii", dimensions)
    if word & 0xFF not in NUMERIC or word & COMPLEX or numbers is None or numbers[0] not in STORED:
        raise ValueError("a list does not hold real numbers")
    kind = np.dtype(order + STORED[numbers[0]])
    if min(height, width) not in (0, 1) or height * width * kind.itemsize != len(numbers[1]):
        raise ValueError("a list is no vector, or not whole")
    return np.frombuffer(numbers[1], kind)
