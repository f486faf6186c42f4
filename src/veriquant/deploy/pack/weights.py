"""Writing a weight as stored codes and the standard operators that make its values of them.

For a kernel in float the values are scale · (code − zero point), or scale · levels[code], in Cast, Sub, Mul and Gather:
operators that ONNX Runtime computes when it loads the file, so that the kernel finds an ordinary initializer. (A
DequantizeLinear of a constant it leaves to every inference.) For a kernel in integers the codes end as int8 or uint8
in front of a DequantizeLinear, the form in which ONNX Runtime recognises one.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import Tensor

from veriquant.deploy.pack.parts import Parts
from veriquant.deploy.pack.storage import store
from veriquant.onnxgraph.graph import Array
from veriquant.schemes.codes import Codes

#: Largest weight that kernels for uint8 × int8 without VNNI multiply exactly: they add two products in 16 bits.
_EXACT_INT8 = 64


def write_float(parts: Parts, codes: Codes, transposed: bool, output: str | None = None) -> str:
    """Write a weight for a kernel in float; return the name of its tensor.

    `transposed`: the kernel wants (inputs, outputs) where `codes` are (outputs, inputs).
    """
    if codes.levels is not None:
        return _write_codebook(parts, codes, transposed, output)
    values, zero_point = _centred(codes)
    name = store(parts, _laid_out(values, transposed), codes.bits, TensorProto.FLOAT)
    if zero_point is not None:
        name = parts.add("Sub", [name, _float_zero_point(parts, zero_point, codes, transposed)], "centred")
    return parts.add("Mul", [name, _scale(parts, codes, transposed)], "weight", output)


def write_integer(parts: Parts, codes: Codes, transposed: bool, exact: bool) -> str:
    """Write a weight for a kernel in integers, for which `fits_integer`; return the name of its tensor.

    `exact`: as uint8 where products with int8 might saturate on a processor without VNNI.
    """
    zero_points = _array(codes.zero_point).ravel()
    zero_point = int(zero_points[0])
    values = _array(codes.values) - zero_point
    scale = parts.constant(_array(codes.scale), "scale")
    axis = 1 if transposed else 0
    limit = _EXACT_INT8 if exact else 127
    if np.abs(values).max() <= limit and _fits_signed(values, codes.bits):
        stored = store(parts, _laid_out(values, transposed), codes.bits, TensorProto.INT8)
        return parts.add("DequantizeLinear", [stored, scale], "weight", axis=axis)
    stored = store(parts, _laid_out(_array(codes.values), transposed), codes.bits, TensorProto.UINT8)
    # ONNX wants a zero point for every scale; layers with as many channels share the row.
    offset = parts.constant(np.full(codes.scale.shape, zero_point, np.uint8), "zero")
    return parts.add("DequantizeLinear", [stored, scale, offset], "weight", axis=axis)


def fits_integer(codes: Codes) -> bool:
    """Return whether ONNX Runtime has kernels in integers for such codes: uniform, <= 8 bits, one zero point."""
    if codes.levels is not None or codes.zero_point is None or codes.bits > 8:
        return False
    zero_points = _array(codes.zero_point)
    return bool((zero_points == zero_points.flat[0]).all() and 0 <= zero_points.flat[0] <= 255)


def _write_codebook(parts: Parts, codes: Codes, transposed: bool, output: str | None) -> str:
    assert codes.levels is not None
    indices, levels, scale = _array(codes.values), _array(codes.levels), _array(codes.scale)
    if levels.ndim == 1:
        index = store(parts, _laid_out(indices, transposed), codes.bits, TensorProto.INT32)
        if scale.ndim == 0:
            return parts.add("Gather", [parts.constant(scale * levels, "levels"), index], "weight", output)
        picked = parts.add("Gather", [parts.constant(levels, "levels"), index], "picked")
        return parts.add("Mul", [picked, _scale(parts, codes, transposed)], "weight", output)
    # Every channel has levels of its own, which take its scale in.
    rows = scale.reshape(-1, 1) * levels
    flat = indices.reshape(len(indices), -1)
    index = store(parts, _laid_out(flat, transposed), codes.bits, TensorProto.INT32)
    table = parts.constant(_laid_out(rows, transposed), "levels")
    if flat.shape == indices.shape:
        return parts.add("GatherElements", [table, index], "weight", output, axis=0 if transposed else 1)
    picked = parts.add("GatherElements", [table, index], "picked", axis=1)
    shape = parts.constant(np.array(indices.shape, np.int64), "shape")
    return parts.add("Reshape", [picked, shape], "weight", output)


def _centred(codes: Codes) -> tuple[Array, Array | None]:
    """Return what is stored, and the zero point still to be subtracted; None where the sign bit has seen to it."""
    values, zero_point = _array(codes.values), _array(codes.zero_point)
    if (zero_point == zero_point.flat[0]).all():
        centred = values - zero_point.flat[0]
        if _fits_signed(centred, codes.bits):
            return centred, None
    return values, zero_point


def _fits_signed(values: Array, bits: int) -> bool:
    """Return whether `values` can be stored with a sign; a single bit is never one."""
    half = 1 << bits - 1
    return bits > 1 and bool(-half <= values.min() and values.max() < half)


def _float_zero_point(parts: Parts, zero_point: Array, codes: Codes, transposed: bool) -> str:
    if (zero_point == zero_point.flat[0]).all():
        return parts.constant(np.array(zero_point.flat[0], np.float32), "zero")
    narrow: type[np.signedinteger | np.unsignedinteger] = np.int32
    if zero_point.min() >= 0:
        narrow = np.uint8 if zero_point.max() <= 255 else np.uint16
    row = _along_outputs(zero_point.astype(narrow), codes.values.ndim, transposed)
    return parts.add("Cast", [parts.constant(row, "zero")], "zero", to=TensorProto.FLOAT)


def _scale(parts: Parts, codes: Codes, transposed: bool) -> str:
    return parts.constant(_along_outputs(_array(codes.scale), codes.values.ndim, transposed), "scale")


def _along_outputs(value: Array, ndim: int, transposed: bool) -> Array:
    """Return `value`, one for each output channel or one for all, so that it broadcasts over the weight."""
    return value if value.ndim == 0 or transposed else value.reshape(-1, *[1] * (ndim - 1))


def _laid_out(value: Array, transposed: bool) -> Array:
    return value.T if transposed else value


def _array(tensor: Tensor | None) -> Array:
    assert tensor is not None, "uniform codes have a zero point"
    array: Array = tensor.detach().cpu().numpy()
    return array
