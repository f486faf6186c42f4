"""Weights whose widths differ from one to the next as bytes: the mask and the codes, entropy-coded.

Kolf et al. count average bits and leave out that a reader has to know each weight's width. Here the widths are coded
first and then, for each width, the codes of its weights in order. All symbols of one kind are taken as independent and
are coded by asymmetric numeral systems (Duda 2013; the library `constriction`). Their probabilities are learned on
the way by writer and reader alike: a block is coded by the counts of those before it and one half for every symbol
(Krichevsky and Trofimov 1981), so that no table is stored.

The bytes: version (1), the widths that occur as bits (1; bit b−1 stands for b bits), CRC-32 of the widths and the codes
as bytes (4, little-endian), then words of 4 bytes, little-endian. Small layers are cheaper coded together, one after
another in one row.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError

Bytes = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.int32]

WIDTHS = range(1, 9)
_VERSION = 1
_HEAD = 6
#: The first block, and how a block compares with all that came before it: the cost of learning is that of learning
#: after every symbol within a thousandth, in a few dozen calls.
_FIRST_BLOCK, _GROWTH = 16, 0.125


def encode(widths: Bytes, codes: Bytes) -> bytes:
    """Return `widths` and `codes`, uint8, of one shape, as bytes; each width 1 to 8, each code in [0, 2**width).

    Raises ValueError for others, `VeriQuantError` where the coder is not installed.
    """
    widths, codes = np.ravel(widths), np.ravel(codes)
    check_masked(widths, codes)
    used = used_widths(widths)
    rows = [(np.searchsorted(used, widths).astype(np.uint8), len(used))]
    rows += [(codes[widths == width], 1 << width) for width in used]
    blocks = [block for row, size in rows for block in _modelled(row, size)]
    coder = entropy_coder().stream.stack.AnsCoder()
    # A stack: what is to be read first is put on it last.
    for symbols, model in reversed(blocks):
        coder.encode_reverse(symbols, model)
    present = sum(1 << width - 1 for width in used)
    head = bytes([_VERSION, present]) + _checksum(widths, codes)
    words: npt.NDArray[np.uint32] = coder.get_compressed()
    return head + words.astype("<u4").tobytes()


def decode(content: bytes, shape: Sequence[int]) -> tuple[Bytes, Bytes]:
    """Return the widths and the codes that `encode` made `content` of, uint8, of `shape`.

    Memory is bounded by `shape`, whatever the bytes. Raises `VeriQuantError` for bytes that are cut off, altered or of
    another shape, and where the coder is not installed.
    """
    count = math.prod(shape)
    if len(content) < _HEAD or len(content) % 4 != _HEAD % 4:
        raise _damaged("it is cut off")
    if content[0] != _VERSION:
        raise VeriQuantError(f"packed weights of version {content[0]}, expected {_VERSION}: pack the network again")
    used = [width for width in WIDTHS if content[1] >> width - 1 & 1]
    if bool(used) != bool(count):
        raise _damaged(f"it does not hold {count} weights")
    words = np.frombuffer(content, "<u4", offset=_HEAD).astype(np.uint32)
    try:
        coder = entropy_coder().stream.stack.AnsCoder(words)
        widths = np.array(used, np.uint8)[_taken(coder, count, len(used))]
        codes = np.zeros(count, np.uint8)
        for width in used:
            here = widths == width
            codes[here] = _taken(coder, int(here.sum()), 1 << width)
    except (ValueError, AssertionError) as error:
        raise _damaged("its words are no code") from error
    if not coder.is_empty() or _checksum(widths, codes) != content[2:_HEAD]:
        raise _damaged("the checksum does not fit")
    return widths.reshape(shape), codes.reshape(shape)


def entropy_bytes(widths: Bytes, codes: Bytes) -> float:
    """Return N · H(width, code) in bytes, H by the frequencies in this tensor: the size if these cost nothing."""
    _, counts = np.unique(np.ravel(widths).astype(np.int32) << 8 | np.ravel(codes), return_counts=True)
    return float(-(counts * np.log2(counts / max(counts.sum(), 1))).sum() / 8)


def used_widths(widths: Bytes) -> list[int]:
    """Return the widths that occur, ascending."""
    return [int(width) for width in np.flatnonzero(np.bincount(np.ravel(widths)))]


def check_masked(widths: Bytes, codes: Bytes) -> None:
    """Raise ValueError unless both are uint8 of one shape, each width 1 to 8 and each code below 2**width."""
    if widths.dtype != np.uint8 or codes.dtype != np.uint8 or widths.shape != codes.shape:
        raise ValueError(
            f"widths {widths.dtype} {widths.shape} and codes {codes.dtype} {codes.shape}: one shape, uint8"
        )
    if widths.size and not WIDTHS[0] <= widths.min() <= widths.max() <= WIDTHS[-1]:
        raise ValueError(f"widths from {widths.min()} to {widths.max()}: expected {WIDTHS[0]} to {WIDTHS[-1]}")
    if (codes > ((1 << widths.astype(np.uint16)) - 1)).any():
        raise ValueError("a code does not fit into its weight's width")


class _Learned:
    """The probabilities of `size` symbols, as learned from those seen so far."""

    def __init__(self, size: int) -> None:
        self._counts = np.zeros(size, np.int64)

    def model(self) -> Any:
        # In halves, whole numbers: the same to the last bit for writer and reader.
        weights = (2 * self._counts + 1).astype(np.float64)
        return entropy_coder().stream.model.Categorical(weights, perfect=False)

    def saw(self, symbols: Symbols) -> None:
        self._counts += np.bincount(symbols, minlength=len(self._counts))


def _modelled(row: Bytes, size: int) -> Iterator[tuple[Symbols, Any]]:
    """Yield the blocks of a row of symbols in [0, size), each with the model that it is coded by."""
    learned = _Learned(size)
    for block in _blocks(len(row) if size > 1 else 0):
        symbols = row[block].astype(np.int32)
        yield symbols, learned.model()
        learned.saw(symbols)


def _taken(coder: Any, count: int, size: int) -> Bytes:
    """Return a row of `count` symbols, uint8, that `_modelled` put on the coder."""
    row = np.zeros(count, np.uint8)
    learned = _Learned(size)
    for block in _blocks(count if size > 1 else 0):
        symbols = coder.decode(learned.model(), block.stop - block.start)
        row[block] = symbols
        learned.saw(symbols)
    return row


def _blocks(count: int) -> Iterator[slice]:
    start = 0
    while start < count:
        stop = min(count, start + max(_FIRST_BLOCK, int(start * _GROWTH)))
        yield slice(start, stop)
        start = stop


def _checksum(widths: Bytes, codes: Bytes) -> bytes:
    return zlib.crc32(codes.tobytes(), zlib.crc32(widths.tobytes())).to_bytes(4, "little")


def _damaged(what: str) -> VeriQuantError:
    return VeriQuantError(f"a packed mask of widths is damaged ({what}): write the file again")


def entropy_coder() -> Any:
    """Return the library that codes masks; raises `VeriQuantError` saying what to install where it is missing."""
    try:
        import constriction
    except ImportError as error:
        raise VeriQuantError(
            "packing weights of several widths needs the entropy coder: pip install 'veriquant[train]'"
        ) from error
    return constriction
