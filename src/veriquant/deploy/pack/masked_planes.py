"""Weights whose widths differ from one to the next in a standard ONNX file, without an entropy coder.

A plane of at most 3 bits (2 for widths 8, 4 and 2) says which width each weight has; the codes of each width lie in a
row of their own, in just their bits (see `storage`). How many of its width there are up to a weight is its place in the
row: Equal, CumSum, Gather and Where put them together. All of it depends on constants only, so ONNX Runtime computes it
once, when it loads the file. (It would leave NonZero, which says the places at once, to every inference.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from veriquant.deploy.pack.bits import packed_bytes
from veriquant.deploy.pack.masked import Bytes, check_masked, used_widths
from veriquant.deploy.pack.parts import Parts
from veriquant.deploy.pack.storage import opset, planes, store


def plane_bytes(widths: Bytes) -> int:
    """Return how many bytes the planes take for a tensor of these widths, the mask included, ONNX's frames aside."""
    counts = {width: int((widths == width).sum()) for width in used_widths(widths)}
    mask = sum(packed_bytes(widths.size, plane) for plane in planes(_mask_bits(len(counts))))
    return mask + sum(packed_bytes(count, plane) for width, count in counts.items() for plane in planes(width))


def planes_opset(widths: Bytes) -> int:
    """Return the least opset whose types and operators `write_masked` uses."""
    used = used_widths(widths)
    return max(opset(bits) for bits in (*used, _mask_bits(len(used))) if bits)


def write_masked(
    parts: Parts,
    widths: Bytes,
    codes: Bytes,
    levels: Mapping[int, tuple[int, float]],
    factors: Mapping[int, str] | None = None,
) -> str:
    """Store a mixture; return the name of a float tensor of its shape: apart · code + lowest, by each weight's width.

    `widths`, `codes`: uint8, of one shape, not empty. `levels`: (apart, lowest) of every width that occurs, such that
    the results are below 2**24; see `DorefaQuantizer.levels_by_width`. `factors`: names of float tensors that broadcast
    over the mixture, by which the results of a width are multiplied; 1 where there is none.
    """
    check_masked(widths, codes)
    used = used_widths(widths)
    flat_widths, flat_codes = widths.ravel(), codes.ravel()
    rows = [_values(parts, flat_codes[flat_widths == width], width, levels[width]) for width in used]
    shape = parts.constant(np.array(widths.shape, np.int64), "shape")
    given = factors or {}
    one = parts.constant(np.array(1.0, np.float32), "one")
    filled, factor = rows[0], given.get(used[0], one)
    if len(used) > 1:
        mask = store(parts, np.searchsorted(used, flat_widths), _mask_bits(len(used)), TensorProto.INT32)
        filled = _spread(parts, _which(parts, mask, 0), rows[0])
    for index in range(1, len(used)):
        which = _which(parts, mask, index)
        filled = parts.add("Where", [which, _spread(parts, which, rows[index]), filled], "filled")
        if factors:
            which = parts.add("Reshape", [which, shape], "which")
            factor = parts.add("Where", [which, given.get(used[index], one), factor], "factor")
    mixture = parts.add("Reshape", [filled, shape], "mixture")
    return parts.add("Mul", [mixture, factor], "scaled") if factors else mixture


def _mask_bits(classes: int) -> int:
    return max(classes - 1, 0).bit_length()


def _which(parts: Parts, mask: str, index: int) -> str:
    return parts.add("Equal", [mask, parts.constant(np.array(index, np.int32), "class")], "which")


def _spread(parts: Parts, which: str, row: str) -> str:
    """Return the name of a row as long as the tensor, with the values of `row` in their order where `which` holds."""
    one, axis = (parts.constant(np.array(each, np.int32), "number") for each in (1, 0))
    counted = parts.add("CumSum", [parts.add("Cast", [which], "counts", to=TensorProto.INT32), axis], "counted")
    # Before the first of them this is −1, the row's last: a value that is not taken.
    return parts.add("Gather", [row, parts.add("Sub", [counted, one], "places")], "spread")


def _values(parts: Parts, codes: Bytes, width: int, levels: tuple[int, float]) -> str:
    """Return the name of a row of what codes of one width stand for, float."""
    apart, lowest = (parts.constant(np.array(each, np.float32), "level") for each in levels)
    scaled = parts.add("Mul", [store(parts, codes, width, TensorProto.FLOAT), apart], "scaled")
    return parts.add("Add", [scaled, lowest], "values")
