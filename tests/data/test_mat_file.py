from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from veriquant.data.mat_file import Grid, read_mat


def saved(value: object, compress: bool) -> bytes:
    stream = io.BytesIO()
    savemat(stream, {"before": np.arange(5), "x": value, "after": "text"}, do_compression=compress)
    return stream.getvalue()


def cells(*items: object) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    made[0, :] = items
    return made


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Zoë Ōta", "Zoë Ōta"),
        ("", ""),
        (cells("a", "bc", "d" * 500), Grid((1, 3), ("a", "bc", "d" * 500))),
        (cells(cells("a"), cells()), Grid((1, 2), (Grid((1, 1), ("a",)), Grid((1, 0), ())))),
        (
            {"path": "p", "long name of a field": cells("q")},
            {"path": "p", "long name of a field": Grid((1, 1), ("q",))},
        ),
    ],
)
def test_what_scipy_writes_is_read(value, expected, compress):
    assert read_mat(saved(value, compress), "x") == expected


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_numbers_are_read(kind, compress):
    value = np.arange(6).reshape(2, 3).astype(kind)
    found = read_mat(saved(value, compress), "x")
    assert np.array_equal(found, value)
    assert found.dtype.kind == np.dtype(kind).kind


def test_the_other_order_of_bytes():
    tags = struct.pack(">II II II ii", 6, 8, 6, 0, 5, 8, 1, 2) + struct.pack(">II 8s", 1, 1, b"x")
    body = tags + struct.pack(">II dd", 9, 16, 1.5, -2.0)
    content = bytes(124) + struct.pack(">H", 0x0100) + b"MI" + struct.pack(">II", 14, len(body)) + body
    assert read_mat(content, "x").tolist() == [[1.5, -2.0]]


def test_a_variable_that_is_not_there():
    assert read_mat(saved(1, True), "y") is None


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def matrix(kind: int, shape: tuple[int, ...], *parts: bytes, name: bytes = b"x") -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    return element(14, b"".join([flags, element(5, struct.pack(f"<{len(shape)}i", *shape)), element(1, name), *parts]))


HEADER = bytes(124) + struct.pack("<H", 0x0100) + b"IM"
DEEP = matrix(6, (1, 1), element(9, bytes(8)))
for _ in range(50):
    DEEP = matrix(1, (1, 1), DEEP)
HOSTILE = {
    "cells without end": matrix(1, (2**31 - 1, 2**31 - 1)),
    "structs without end": matrix(2, (2**31 - 1, 1), element(5, struct.pack("<i", 8)), element(1, b"a" * 8)),
    "structs without fields": matrix(2, (2**31 - 1, 1), element(5, struct.pack("<i", 8)), element(1, b"")),
    "numbers without end": matrix(6, (2**31 - 1, 4), element(9, bytes(8))),
    "negative dimensions": matrix(1, (-1, -1)),
    "no dimensions": matrix(1, ()),
    "many dimensions": matrix(1, (1,) * 99),
    "names of no length": matrix(2, (1, 1), element(5, struct.pack("<i", 0)), element(1, b"abcd")),
    "names of negative length": matrix(2, (1, 1), element(5, struct.pack("<i", -8)), element(1, b"abcd")),
    "cells of cells of cells": DEEP,
    "a bomb": element(15, zlib.compress(bytes(200 << 20), 9)),
    "not compressed at all": element(15, b"not compressed"),
    "cut in the middle": element(15, zlib.compress(matrix(6, (1, 1), element(9, bytes(8))))[:-9]),
    "length beyond the file": struct.pack("<II", 14, 2**32 - 1),
    "a long small element": struct.pack("<HHI", 14, 60000, 0),
    "sparse": matrix(5, (1, 1), element(9, bytes(8))),
    "object": matrix(3, (1, 1), element(9, bytes(8))),
    "function": matrix(16, (1, 1)),
    "opaque": matrix(17, (1, 1)),
    "characters of no kind": matrix(4, (1, 1), element(9, bytes(8))),
    "half a character": matrix(4, (1, 1), element(16, b"\xff")),
    "a block of characters": matrix(4, (2, 2), element(16, b"abcd")),
    "numbers of no kind": matrix(6, (1, 1), element(99, bytes(8))),
    "half a number": matrix(6, (1, 1), element(9, bytes(7))),
    "nothing inside": element(14, b""),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_one_value_error(body):
    with pytest.raises(ValueError, match=r"^[^\n]{5,200}$"):
        read_mat(HEADER + body, "x")


def test_other_files():
    for content, reason in [
        (b"", "0 bytes"),
        (bytes(128), "order of bytes"),
        (b"MATLAB 7.3".ljust(124) + b"\x00\x02IM", "7.3"),
        (bytes(124) + b"\x05\x00IM", "version 5"),
    ]:
        with pytest.raises(ValueError, match=reason):
            read_mat(content, "x")
