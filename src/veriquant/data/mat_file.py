"""MATLAB 5 files, the little that a protocol needs of them: cells, structs, text and numbers, within bounds.

Layout (MathWorks, 'MAT-File Format', R2024a, chapter 1): a header of 128 bytes, then elements, each a tag of type and
length in bytes and that many bytes, padded to a multiple of eight. A compressed element opens to another one. A matrix
element holds elements of its own: flags, dimensions, name, then by its class numbers, characters, the matrices of its
cells, or the names and matrices of its fields. Every length is checked against what is there before anything is made of
it; nothing in a file is executed. Sparse and complex arrays, objects and functions are refused.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
#: NumPy's types of the elements that hold numbers or characters, by their number.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_COMPLEX = 0x800
#: An opened element is at most so many times its compressed length (zlib's own limit is about 1032), and at most so
#: many bytes; a file holds at most so many matrices. A protocol of 6,000 pairs has 40,000.
_MOST_BYTES = 1 << 26
_MOST_MATRICES = 1 << 19
_DEEPEST = 12

Value = Any
"""A text, numbers (NumPy), one struct (a dict), or a `Grid` of cells or structs."""


@dataclass(frozen=True)
class Grid:
    """Cells, or the structs of an array of them: `items` in MATLAB's order, the first axis running fastest."""

    shape: tuple[int, ...]
    items: tuple[Value, ...]


def read_mat(content: bytes, name: str) -> Value | None:
    """Return the variable `name` of a MATLAB 5 file, None where it has none; raise ValueError for any other file."""
    if len(content) < _HEADER:
        raise ValueError(f"{len(content)} bytes, and its header alone has {_HEADER}")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError("its header does not tell the order of bytes")
    version = struct.unpack_from(order + "H", content, 124)[0]
    if version != 0x0100:
        newer = content.startswith(b"MATLAB 7.3") or version == 0x0200
        raise ValueError("MATLAB 7.3 writes another format (HDF5): save it with '-v7'" if newer else "no version 5")
    reader = _Reader(order)
    for kind, body in reader.elements(memoryview(content)[_HEADER:]):
        matrix = kind, body
        if kind == _COMPRESSED:
            matrix = next(reader.elements(memoryview(reader.opened(body))), (0, memoryview(b"")))
        if matrix[0] != _MATRIX:
            continue
        found = reader.matrix(matrix[1], wanted=name)
        if found is not None:
            return found[1]
    return None


class _Reader:
    def __init__(self, order: str) -> None:
        self._order = order
        self._matrices = 0
        self._opened = 0

    def elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield type and content of each element in `data`."""
        at = 0
        while at < len(data):
            if len(data) - at < 8:
                raise ValueError(f"it ends within a tag ({len(data) - at} bytes left)")
            kind, length = struct.unpack_from(self._order + "II", data, at)
            if kind >> 16:  # a small element: its content stands in the tag
                kind, length, begin, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
                if length > 4:
                    raise ValueError(f"a small element of {length} bytes")
            else:
                begin = at + 8
                after = begin + length if kind == _COMPRESSED else begin + (length + 7) // 8 * 8
            if begin + length > len(data):
                raise ValueError(f"an element of {length} bytes, {len(data) - begin} are left")
            yield kind, data[begin : begin + length]
            at = after

    def opened(self, body: memoryview) -> bytes:
        """Return what was compressed."""
        room = _MOST_BYTES - self._opened
        opener = zlib.decompressobj()
        try:
            content = opener.decompress(body, room)
        except zlib.error as error:
            raise ValueError(f"a compressed element that cannot be opened ({error})") from error
        if not opener.eof:
            raise ValueError(f"a compressed element that is cut off, or opens to more than {_MOST_BYTES >> 20} MB")
        self._opened += len(content)
        return content

    def matrix(self, body: memoryview, wanted: str | None = None, depth: int = 0) -> tuple[str, Value] | None:
        """Return name and value of a matrix; None for one that is not called as `wanted`."""
        self._matrices += 1
        if depth > _DEEPEST or self._matrices > _MOST_MATRICES:
            raise ValueError(f"matrices nested more than {_DEEPEST} deep, or more than {_MOST_MATRICES} of them")
        if not len(body) and wanted is None:
            return "", Grid((0, 0), ())
        parts = self.elements(body)
        flags = self._numbers(*_next(parts))
        dims = self._numbers(*_next(parts))
        name = bytes(_next(parts)[1]).decode("latin-1")
        if wanted is not None and name != wanted:
            return None
        if not len(flags) or dims.dtype.kind not in "iu" or not 1 <= len(dims) <= 8 or (dims < 0).any():
            raise ValueError("a matrix with impossible dimensions")
        shape = tuple(int(each) for each in dims)
        kind, options = int(flags[0]) & 0xFF, int(flags[0])
        if kind == _CELL:
            return name, self._grid(parts, shape, len(body), depth)
        if kind == _STRUCT:
            return name, self._structs(parts, shape, len(body), depth)
        if kind == _CHAR:
            return name, self._text(*_next(parts), shape)
        if kind not in _NUMERIC or options & _COMPLEX:
            raise ValueError(f"a matrix of class {kind}{', complex' if options & _COMPLEX else ''}")
        values = self._numbers(*_next(parts))
        if len(values) != math.prod(shape):
            raise ValueError(f"{len(values)} numbers for a matrix of shape {shape}")
        return name, values.reshape(shape, order="F")

    def _grid(self, parts: Iterator[tuple[int, memoryview]], shape: tuple[int, ...], room: int, depth: int) -> Grid:
        count = _fitting(shape, room)
        return Grid(shape, tuple(self._inner(parts, depth) for _ in range(count)))

    def _structs(
        self, parts: Iterator[tuple[int, memoryview]], shape: tuple[int, ...], room: int, depth: int
    ) -> dict[str, Value] | Grid:
        longest = self._numbers(*_next(parts))
        text = bytes(_next(parts)[1])
        size = int(longest[0]) if len(longest) == 1 else 0
        if size < 1 or len(text) % size:
            raise ValueError(f"{len(text)} bytes of names of fields, {size} each")
        names = [text[at : at + size].split(b"\0")[0].decode("latin-1") for at in range(0, len(text), size)]
        count = _fitting((*shape, len(names)), room) // max(1, len(names)) if names else _fitting(shape, room)
        items = tuple({field: self._inner(parts, depth) for field in names} for _ in range(count))
        return items[0] if count == 1 else Grid(shape, items)

    def _inner(self, parts: Iterator[tuple[int, memoryview]], depth: int) -> Value:
        kind, body = _next(parts)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a matrix belongs")
        found = self.matrix(body, depth=depth + 1)
        assert found is not None
        return found[1]

    def _numbers(self, kind: int, body: memoryview) -> npt.NDArray[Any]:
        if kind not in _TYPES:
            raise ValueError(f"an element of type {kind} where numbers belong")
        dtype = np.dtype(self._order + _TYPES[kind])
        if len(body) % dtype.itemsize:
            raise ValueError(f"{len(body)} bytes of numbers of {dtype.itemsize} bytes each")
        return np.frombuffer(body, dtype)

    def _text(self, kind: int, body: memoryview, shape: tuple[int, ...]) -> str:
        """Return a row of characters; other arrays of them are none that a protocol holds."""
        if kind not in _ENCODINGS:
            raise ValueError(f"an element of type {kind} where characters belong")
        coding = _ENCODINGS[kind] + ({"<": "-le", ">": "-be"}[self._order] if kind in (4, 17, 18) else "")
        text = bytes(body).decode(coding)
        if math.prod(shape) not in (0, max(shape)):
            raise ValueError(f"characters of shape {shape}, expected a row of them")
        return text


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    found = next(parts, None)
    if found is None:
        raise ValueError("a matrix that lacks some of its parts")
    return found


def _fitting(shape: tuple[int, ...], room: int) -> int:
    """Return how many matrices a shape stands for; ValueError where their tags alone would not fit into `room`."""
    count = math.prod(shape)
    if count * 8 > room:
        raise ValueError(f"{count} matrices in {room} bytes")
    return count
