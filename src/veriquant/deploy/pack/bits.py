"""Packing codes of b bits tightly into bytes, and back.

Code i takes the bits i·b to i·b + b − 1 of the stream; bit j of the stream is bit j mod 8, counted from the least
significant, of byte j div 8. For 2, 4 and 8 bits this is how ONNX lays out INT2, INT4 and INT8; for 16, little-endian.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Codes handled at a time, a multiple of 8: eight bytes of scratch a bit would not fit for a whole network.
_CHUNK = 1 << 20

Codes = npt.NDArray[np.integer]


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` codes of `bits` bits take."""
    return (count * bits + 7) // 8


def pack_bits(codes: Codes, bits: int) -> npt.NDArray[np.uint8]:
    """Return `codes`, any shape, each in [0, 2**bits), as a row of `packed_bytes` uint8; 1 <= bits <= 16."""
    _check(bits)
    flat = np.ravel(codes)
    if flat.size and not (flat.min() >= 0 and flat.max() < 1 << bits):
        raise ValueError(f"codes from {flat.min()} to {flat.max()} do not fit into {bits} bits")
    chunks = [_spread(flat[start : start + _CHUNK], bits) for start in range(0, flat.size, _CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.uint8)


def unpack_bits(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint16]:
    """Return the `count` codes that `pack_bits` packed, uint16; the padding bits must be zero."""
    _check(bits)
    if packed.dtype != np.uint8 or packed.shape != (packed_bytes(count, bits),):
        raise ValueError(f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes, not {packed.shape}")
    step = _CHUNK * bits // 8
    chunks = [_gather(packed[start : start + step], bits) for start in range(0, packed.size, step)]
    codes = np.concatenate(chunks) if chunks else np.zeros(0, np.uint16)
    used = count * bits % 8
    if used and packed[-1] >> used:
        raise ValueError(f"{8 - used} bits of padding behind {count} codes of {bits} bits are not zero")
    return codes[:count]


def _check(bits: int) -> None:
    if not 1 <= bits <= 16:
        raise ValueError(f"{bits} bits: codes have 1 to 16")


def _spread(flat: Codes, bits: int) -> npt.NDArray[np.uint8]:
    pairs = flat.astype("<u2").view(np.uint8).reshape(-1, 2)
    return np.packbits(np.unpackbits(pairs, axis=1, count=bits, bitorder="little"), bitorder="little")


def _gather(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint16]:
    stream = np.unpackbits(packed, bitorder="little")
    rows = stream[: stream.size // bits * bits].reshape(-1, bits)
    pairs = np.zeros((len(rows), 2), np.uint8)
    narrow = np.packbits(rows, axis=1, bitorder="little")
    pairs[:, : narrow.shape[1]] = narrow
    return pairs.view("<u2").reshape(-1).astype(np.uint16)
