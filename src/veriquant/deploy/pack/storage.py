"""Codes of 1 to 16 bits as ONNX initializers of just that many bits, and the operators that put them together.

A code is cut into planes of 16, 8, 4, 2 and 1 bits, as its width reads in binary, the widest on top: 7 bits are a
plane of 4, one of 2 and one of 1. ONNX has types of 16, 8, 4 (opset 21) and 2 bits (opset 25); a plane of single bits
is eight to a byte, taken apart by BitShift (opset 18). All of it depends on constants only, so ONNX Runtime computes
it once, when it loads the file.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto

from veriquant.deploy.pack.bits import pack_bits
from veriquant.deploy.pack.parts import Parts
from veriquant.onnxgraph.graph import Array

_UNSIGNED = {16: np.uint16, 8: np.uint8, 4: ml_dtypes.uint4, 2: ml_dtypes.uint2}
_SIGNED = {16: np.int16, 8: np.int8, 4: ml_dtypes.int4, 2: ml_dtypes.int2}
_ONNX_TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
_OPSETS = {16: 17, 8: 17, 4: 21, 2: 25, 1: 18}


def planes(bits: int) -> list[int]:
    """Return the widths of the planes that codes of `bits` bits are stored in, the most significant first."""
    return [width for width in (16, 8, 4, 2, 1) if bits & width]


def opset(bits: int) -> int:
    """Return the least opset whose types and operators store codes of `bits` bits."""
    return max(_OPSETS[width] for width in planes(bits))


def store(parts: Parts, codes: Array, bits: int, to: int) -> str:
    """Store `codes` and return the name of a tensor of them, of ONNX type `to` and the same shape.

    `codes`: integers in [0, 2**bits), or in [−2**(bits−1), 2**(bits−1)) where any is negative (bits > 1). `to`: FLOAT,
    INT32, INT8 or UINT8, wide enough for every code.
    """
    codes = codes.astype(np.int32)
    signed = bool((codes < 0).any())
    widths = planes(bits)
    if len(widths) == 1 and widths[0] == 1:
        return _cast(parts, _single_bits(parts, codes), to)
    if len(widths) == 1:
        kind = _SIGNED if signed else _UNSIGNED
        stored = codes.astype(kind[widths[0]])
        name = parts.constant(stored, "codes")
        return name if _ONNX_TYPES.get(stored.dtype) == to else _cast(parts, name, to)
    below = bits
    total = ""
    for position, width in enumerate(widths):
        below -= width
        # Arithmetic shift: the top plane carries the sign.
        plane = codes >> below if position == 0 else codes >> below & (1 << width) - 1
        part = store(parts, plane, width, TensorProto.FLOAT)
        if position:
            shift = parts.constant(np.array(1 << width, np.float32), "shift")
            total = parts.add("Add", [parts.add("Mul", [total, shift], "high"), part], "sum")
        else:
            total = part
    return total if to == TensorProto.FLOAT else _cast(parts, total, to)


def _cast(parts: Parts, name: str, to: int) -> str:
    return parts.add("Cast", [name], "cast", to=to)


def _single_bits(parts: Parts, codes: Array) -> str:
    """Store zeros and ones eight to a byte; return the uint8 tensor of them."""
    packed = parts.constant(pack_bits(codes, 1)[:, None], "codes")
    places = parts.constant(np.arange(8, dtype=np.uint8), "places")
    one = parts.constant(np.array(1, np.uint8), "one")
    bits = parts.add("BitShift", [packed, places], "shift", direction="RIGHT")
    bits = parts.add("BitwiseAnd", [bits, one], "bit")
    if codes.size % 8:
        bits = parts.add("Reshape", [bits, parts.constant(np.array([-1]), "flat")], "row")
        ends = [parts.constant(np.array([end]), "end") for end in (0, codes.size)]
        bits = parts.add("Slice", [bits, *ends], "used")
    return parts.add("Reshape", [bits, parts.constant(np.array(codes.shape, np.int64), "shape")], "bits")
