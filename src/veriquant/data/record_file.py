"""MXNet RecordIO: the records of a ``.rec`` file, read one by one at their byte offsets, and written.

A record on disk is one part or several. A part is u32 magic ``0xced7230a``, u32 ``cflag << 29 | length``, `length`
bytes and zeros up to the next multiple of four. cflag 0 is a whole record; 1, 2 and 3 are its first, middle and last
part: the writer cuts where the content holds the magic itself at a multiple of four, and leaves those four bytes out;
the reader puts them back. A record's content is the header ``IfQQ`` (flag, label, id, id2), then `flag` float32 labels
where flag > 0, then the encoded image. All numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError
from veriquant.progress import bar

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
_MOST = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
#: Bytes read at once: one system call for an image of 112×112, which seldom takes more.
_READ_AHEAD = 16384
#: The bar is moved once for so many records.
_STRIDE = 1000


class RecordFile:
    """Random access to the records of a ``.rec`` file by their byte offset.

    Reads with ``pread``: no position is shared, so threads and forked processes may read at once. The file is opened on
    first use, and again in a process that this was sent to by pickling.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        try:
            self.size = os.stat(path).st_size
        except OSError as error:
            raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            os.close(self._handle)  # type: ignore[arg-type]

    def content(self, offset: int) -> bytes:
        """Return the content of the record at byte `offset`, the magic put back between its parts.

        `VeriQuantError` names the file and the byte where there is no record, or one that is cut off.
        """
        flag, length, read = self._part(offset, _READ_AHEAD)
        body = self._body(offset, length, read)
        if flag == _WHOLE:
            return body
        if flag != _FIRST:
            raise VeriQuantError(
                f"{self.path}: expected the start of a record at byte {offset}, found a later part of one "
                f"(cflag {flag}); the .idx file belongs to another .rec file"
            )
        parts = [body]
        while flag != _LAST:
            offset = _after(offset, length)
            flag, length, read = self._part(offset, _READ_AHEAD)
            if flag not in (_MIDDLE, _LAST):
                raise VeriQuantError(
                    f"{self.path}: expected the next part of a record at byte {offset} (cflag 2 or 3), "
                    f"found cflag {flag}; the file is damaged"
                )
            parts.append(self._body(offset, length, read))
        return _MAGIC_BYTES.join(parts)

    def labels(self, offset: int, most: int = 2) -> tuple[float, ...]:
        """Return the first `most` labels of the record at byte `offset`, reading no more of it than those."""
        wanted = _HEADER.size + 4 * most
        flag, length, read = self._part(offset, _FRAME.size + wanted)
        if flag != _WHOLE:
            return tuple(unpack(self.content(offset), self._where(offset))[0][:most])
        body = read[_FRAME.size :][: min(length, wanted)]
        if len(body) < min(length, wanted):
            self._cut(offset, _FRAME.size + length)
        return _labels(body, length, self._where(offset))[:most]

    def scan(self) -> npt.NDArray[np.int64]:
        """Return the byte offset of every record, int64, by walking through the file; a bar shows how far it is."""
        offsets = array("q")
        at = seen = 0
        with bar(f"indexing {self.path.name}", self.size) as advance:
            while at < self.size:
                flag, length, _ = self._part(at, _FRAME.size)
                end = _after(at, length)
                # zeros after the last record may be missing; its content may not
                if at + _FRAME.size + length > self.size:
                    self._cut(at, _FRAME.size + length)
                if flag in (_WHOLE, _FIRST):
                    offsets.append(at)
                    if len(offsets) % _STRIDE == 0:
                        advance(end - seen)
                        seen = end
                at = end
        return np.frombuffer(offsets, dtype=np.int64) if offsets else np.empty(0, dtype=np.int64)

    def _part(self, offset: int, count: int) -> tuple[int, int, bytes]:
        """Return cflag and length of the part at `offset`, and the (up to `count`) bytes read from there."""
        read = self._pread(offset, count)
        if len(read) < _FRAME.size:
            self._cut(offset, _FRAME.size)
        magic, word = _FRAME.unpack_from(read)
        if magic != MAGIC:
            raise VeriQuantError(
                f"{self.path}: expected a record (magic {MAGIC:#010x}) at byte {offset}, found {magic:#010x}; "
                "the file is damaged, or its .idx belongs to another one"
            )
        return word >> _LENGTH_BITS, word & _MOST, read

    def _body(self, offset: int, length: int, read: bytes) -> bytes:
        body = read[_FRAME.size : _FRAME.size + length]
        if len(body) < length and offset + _FRAME.size + length <= self.size:
            body += self._pread(offset + len(read), length - len(body))
        if len(body) < length:
            self._cut(offset, _FRAME.size + length)
        return body

    def _pread(self, offset: int, count: int) -> bytes:
        try:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_RDONLY)
            return os.pread(self._handle, count, offset)
        except OSError as error:
            raise VeriQuantError(f"cannot read {self.path}: {error.strerror or error}") from error

    def _cut(self, offset: int, expected: int) -> NoReturn:
        raise VeriQuantError(
            f"{self.path} is truncated: the record at byte {offset} needs {expected} bytes, the file ends after "
            f"{max(0, self.size - offset)} of them; copy the file again"
        )

    def _where(self, offset: int) -> str:
        return f"{self.path}, record at byte {offset}"


def unpack(content: bytes, where: str) -> tuple[tuple[float, ...], bytes]:
    """Return the labels (one, or as many as the header's flag says) and the encoded image of a record's content.

    `where` names the record in the `VeriQuantError` that content too short for its own header raises.
    """
    labels = _labels(content, len(content), where)
    flag = _HEADER.unpack_from(content)[0]
    return labels, content[_HEADER.size + 4 * flag :]


def _labels(start: bytes, length: int, where: str) -> tuple[float, ...]:
    """Return the labels in the first bytes of a record of `length` bytes: as many as `start` holds."""
    if length < _HEADER.size:
        raise VeriQuantError(f"{where}: expected a header of {_HEADER.size} bytes (IfQQ), found {length} bytes in all")
    flag, label, _, _ = _HEADER.unpack_from(start)
    if flag == 0:
        return (label,)
    if _HEADER.size + 4 * flag > length:
        raise VeriQuantError(f"{where}: its header promises {flag} labels, the record has {length} bytes in all")
    held = min(flag, (len(start) - _HEADER.size) // 4)
    return struct.unpack_from(f"<{held}f", start, _HEADER.size)


def _after(offset: int, length: int) -> int:
    return offset + _FRAME.size + (length + 3) // 4 * 4


def pack(key: int, labels: Sequence[float], image: bytes) -> bytes:
    """Return the content of a record: one label in the header itself, several after it."""
    if len(labels) == 1:
        return _HEADER.pack(0, labels[0], key, 0) + image
    return _HEADER.pack(len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image


def append(file: BinaryIO, content: bytes) -> int:
    """Write a record at the end of `file`, in parts where its content holds the magic; return its byte offset."""
    offset = file.tell()
    parts = _parts(content)
    for number, part in enumerate(parts):
        if len(part) > _MOST:
            raise VeriQuantError(f"a record of {len(content)} bytes is too long for RecordIO, which ends at {_MOST}")
        flag = _WHOLE if len(parts) == 1 else _FIRST if number == 0 else _LAST if number == len(parts) - 1 else _MIDDLE
        file.write(_FRAME.pack(MAGIC, flag << _LENGTH_BITS | len(part)) + part + bytes(-len(part) % 4))
    return offset


def _parts(content: bytes) -> list[bytes]:
    parts: list[bytes] = []
    start = at = 0
    while (at := content.find(_MAGIC_BYTES, at)) >= 0:
        if at % 4:
            at += 1
            continue
        parts.append(content[start:at])
        start = at = at + 4
    return [*parts, content[start:]]
