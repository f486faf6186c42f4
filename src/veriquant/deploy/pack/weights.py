"""Writing a weight as stored codes and the standard operators that make its values of them, for a kernel in float.

The values are scale · (code − zero point), or scale · levels[code], in Cast, Sub, Mul and Gather: operators that ONNX
Runtime computes when it loads the file, so that the kernel finds an ordinary initializer. (A DequantizeLinear of a
constant it leaves to every inference.)
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from veriquant.deploy.pack.arrays import fits_signed, laid_out, to_array
from veriquant.deploy.pack.masked import used_widths
from veriquant.deploy.pack.masked_planes import write_masked
from veriquant.deploy.pack.parts import Parts
from veriquant.deploy.pack.storage import store
from veriquant.onnxgraph.graph import Array
from veriquant.schemes.codes import Codes
from veriquant.schemes.power_of_two_grids import COLUMNS, EXPONENT_BITS, LOWEST


def write_weight(parts: Parts, codes: Codes, transposed: bool) -> str:
    """Write a weight for a kernel in float; return the name of its tensor.

    `transposed`: the kernel wants (inputs, outputs) where `codes` are (outputs, inputs).
    """
    if codes.levels is not None and codes.widths is None:
        return _write_codebook(parts, codes, transposed)
    return parts.add("Mul", [write_codes(parts, codes, transposed), _scale(parts, codes, transposed)], "weight")


def write_codes(parts: Parts, codes: Codes, transposed: bool) -> str:
    """Write the integers that `whole` codes stand for, code − zero point or levels[code], as float; return the name."""
    if codes.widths is not None:
        return _write_mixture(parts, codes, transposed)
    if codes.levels is not None:
        index = store(parts, laid_out(to_array(codes.values), transposed), codes.bits, TensorProto.INT32)
        return parts.add("Gather", [parts.constant(to_array(codes.levels), "levels"), index], "integers")
    values, zero_point = _centred(codes)
    name = store(parts, laid_out(values, transposed), codes.bits, TensorProto.FLOAT)
    if zero_point is None:
        return name
    return parts.add("Sub", [name, _float_zero_point(parts, zero_point, codes, transposed)], "centred")


def _write_mixture(parts: Parts, codes: Codes, transposed: bool) -> str:
    rows = (laid_out(to_array(each), transposed) for each in (codes.widths, codes.own_codes()))
    widths, own = (np.ascontiguousarray(each) for each in rows)
    if codes.exponents is None:
        span = int(to_array(codes.levels).max())
        levels = {width: (2 * span // (2**width - 1), float(-span)) for width in used_widths(widths)}
        return write_masked(parts, widths, own, levels)
    used, exponents = used_widths(widths), to_array(codes.exponents)
    factors = {
        width: _powers(parts, _along_outputs(exponents[:, column], widths.ndim, transposed))
        for column, width in enumerate(COLUMNS)
        if width in used
    }
    return write_masked(parts, widths, own, {width: (1, LOWEST[width]) for width in used}, factors)


def _powers(parts: Parts, exponents: Array) -> str:
    """Return the name of a tensor of 2**exponent, float, the exponents in just their bits."""
    index = store(parts, exponents, EXPONENT_BITS, TensorProto.INT32)
    table = parts.constant(2.0 ** np.arange(1 << EXPONENT_BITS, dtype=np.float32), "powers")
    return parts.add("Gather", [table, index], "spacing")


def _write_codebook(parts: Parts, codes: Codes, transposed: bool) -> str:
    assert codes.levels is not None
    indices, levels, scale = to_array(codes.values), to_array(codes.levels), to_array(codes.scale)
    if levels.ndim == 1:
        index = store(parts, laid_out(indices, transposed), codes.bits, TensorProto.INT32)
        if scale.ndim == 0:
            return parts.add("Gather", [parts.constant(scale * levels, "levels"), index], "weight")
        picked = parts.add("Gather", [parts.constant(levels, "levels"), index], "picked")
        return parts.add("Mul", [picked, _scale(parts, codes, transposed)], "weight")
    # Every channel has levels of its own, which take its scale in.
    rows = scale.reshape(-1, 1) * levels
    flat = indices.reshape(len(indices), -1)
    index = store(parts, laid_out(flat, transposed), codes.bits, TensorProto.INT32)
    table = parts.constant(laid_out(rows, transposed), "levels")
    if flat.shape == indices.shape:
        return parts.add("GatherElements", [table, index], "weight", axis=0 if transposed else 1)
    picked = parts.add("GatherElements", [table, index], "picked", axis=1)
    shape = parts.constant(np.array(indices.shape, np.int64), "shape")
    return parts.add("Reshape", [picked, shape], "weight")


def _centred(codes: Codes) -> tuple[Array, Array | None]:
    """Return what is stored, and the zero point still to be subtracted; None where the sign bit has seen to it."""
    values, zero_point = to_array(codes.values), to_array(codes.zero_point)
    if (zero_point == zero_point.flat[0]).all():
        centred = values - zero_point.flat[0]
        if fits_signed(centred, codes.bits):
            return centred, None
    return values, zero_point


def _float_zero_point(parts: Parts, zero_point: Array, codes: Codes, transposed: bool) -> str:
    if (zero_point == zero_point.flat[0]).all():
        return parts.constant(np.array(zero_point.flat[0], np.float32), "zero")
    narrow: type[np.signedinteger | np.unsignedinteger] = np.int32
    if zero_point.min() >= 0:
        narrow = np.uint8 if zero_point.max() <= 255 else np.uint16
    row = _along_outputs(zero_point.astype(narrow), codes.values.ndim, transposed)
    return parts.add("Cast", [parts.constant(row, "zero")], "zero", to=TensorProto.FLOAT)


def _scale(parts: Parts, codes: Codes, transposed: bool) -> str:
    return parts.constant(_along_outputs(to_array(codes.scale), codes.values.ndim, transposed), "scale")


def _along_outputs(value: Array, ndim: int, transposed: bool) -> Array:
    """Return `value`, one for each output channel or one for all, so that it broadcasts over the weight."""
    return value if value.ndim == 0 or transposed else value.reshape(-1, *[1] * (ndim - 1))
