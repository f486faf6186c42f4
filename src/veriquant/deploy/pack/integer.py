"""Weights and biases in the form that integer kernels take: int8 or uint8 in front of a DequantizeLinear, and int32.

A kernel adds its bias to a sum of products of codes, so that the bias is rounded to steps of activation scale × weight
scale. With few bits these steps are coarse, and nothing of them is in the simulation. Weights of fewer bits than 8 are
therefore multiplied by the power of two that fills the byte, and their scale is divided by it: the same weights, a
finer bias.

On processors without VNNI, ONNX Runtime multiplies uint8 by int8 so that two products are added in 16 bits, where
255·w₁ + 255·w₂ must stay below 2¹⁵: |w| <= 64. uint8 by uint8 is exact everywhere, but slower where there is VNNI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from veriquant.deploy.pack.arrays import fits_signed, laid_out, to_array
from veriquant.deploy.pack.parts import Parts
from veriquant.deploy.pack.storage import store
from veriquant.onnxgraph.graph import Array
from veriquant.schemes.codes import Codes

_EXACT_INT8 = 64
_LARGEST_INT8 = 127
_LARGEST_UINT8 = 255
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class IntegerWeight:
    """A weight, output channels first, in integers: weight = scale · (values · factor − zero_point).

    `values`: as they are stored, of `bits` bits. `kind`: int8 or uint8, of values · factor. `scale`: float32, () or one
    for each channel.
    """

    values: Array
    bits: int
    factor: int
    kind: type[np.int8] | type[np.uint8]
    zero_point: int
    scale: Array

    def largest_sum(self) -> int:
        """Return a bound of the sum of products with codes of activations, which int32 must hold."""
        largest = int(np.abs(self.values.astype(np.int64) * self.factor - self.zero_point).max())
        return int(self.values[0].size) * _LARGEST_UINT8 * largest


def integer_weight(codes: Codes, exact: bool) -> IntegerWeight | None:
    """Return codes as an integer kernel takes them, or None where ONNX Runtime has none.

    It has them for uniform codes of one width of at most 8 bits with one zero point for all channels. `exact`: as uint8
    where products with int8 may saturate.
    """
    if codes.levels is not None or codes.widths is not None or codes.bits > 8:
        return None
    stored, zero_points = to_array(codes.values), to_array(codes.zero_point)
    zero_point = int(zero_points.flat[0])
    if (zero_points != zero_point).any() or not 0 <= zero_point <= _LARGEST_UINT8:
        return None
    centred = stored - zero_point
    limit = _EXACT_INT8 if exact else _LARGEST_INT8
    if fits_signed(centred, codes.bits) and np.abs(centred).max() <= limit:
        factor = _power_of_two(limit, int(np.abs(centred).max()))
        return IntegerWeight(centred, codes.bits, factor, np.int8, 0, _divided(codes, factor))
    factor = _power_of_two(_LARGEST_UINT8, max(int(stored.max()), zero_point))
    return IntegerWeight(stored, codes.bits, factor, np.uint8, zero_point * factor, _divided(codes, factor))


def bias_codes(bias: Array, weight: IntegerWeight, step: float) -> Array | None:
    """Return `bias`, one for each channel, as int32 in units of `step`, the activation's scale, × the weight's.

    None: the kernel's sum, bias included, might not fit into 32 bits.
    """
    codes = np.round(bias.astype(np.float64) / (np.float64(step) * weight.scale))
    if np.abs(codes).max() + weight.largest_sum() > _LARGEST_INT32:
        return None
    integers: Array = codes.astype(np.int32)
    return integers


def write_integer_weight(parts: Parts, weight: IntegerWeight, transposed: bool) -> str:
    """Write a weight for a kernel in integers; return the name of its dequantized tensor.

    `transposed`: the kernel wants (inputs, outputs).
    """
    kind = TensorProto.INT8 if weight.kind is np.int8 else TensorProto.UINT8
    values = laid_out(weight.values, transposed)
    if weight.factor == 1:
        codes = store(parts, values, weight.bits, kind)
    else:
        factor = parts.constant(np.array(weight.factor, np.float32), "factor")
        filled = parts.add("Mul", [store(parts, values, weight.bits, TensorProto.FLOAT), factor], "filled")
        codes = parts.add("Cast", [filled], "cast", to=kind)
    # One zero point for every scale, even where all are 0: without it ONNX Runtime leaves a Gemm in float. Layers with
    # as many channels share the row.
    zero = parts.constant(np.full(weight.scale.shape, weight.zero_point, weight.kind), "zero")
    scale = parts.constant(weight.scale, "scale")
    return parts.add("DequantizeLinear", [codes, scale, zero], "weight", axis=1 if transposed else 0)


def write_bias(parts: Parts, codes: Array, weight: IntegerWeight, step: float) -> str:
    """Write what `bias_codes` returned; its scale is a product of two constants that the runtime computes once."""
    factors = [parts.constant(np.array(step, np.float32), "step"), parts.constant(weight.scale, "scale")]
    scale = parts.add("Mul", factors, "unit")
    return parts.add("DequantizeLinear", [parts.constant(codes, "bias"), scale], "bias", axis=0)


def _power_of_two(limit: int, largest: int) -> int:
    """Return the largest power of two, at most 128, by which `largest` may be multiplied within `limit`."""
    return 1 << min(7, max(limit // max(largest, 1), 1).bit_length() - 1)


def _divided(codes: Codes, factor: int) -> Array:
    scale: Array = to_array(codes.scale) / np.float32(factor)
    return scale
