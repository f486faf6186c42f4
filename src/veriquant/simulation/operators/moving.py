"""Operators that move values without changing them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from onnx import NodeProto, TensorProto
from torch import Tensor, fx

from veriquant.onnxgraph.graph import Graph, attribute
from veriquant.simulation.operators.operator_table import Kind, importing
from veriquant.simulation.operators.site import Site, as_tensor

Whole = Sequence[int] | Tensor
"""Whole numbers, known beforehand or computed from a shape."""


def numbers(given: Whole) -> list[int]:
    """Return whole numbers as a list."""
    return [int(each) for each in given.reshape(-1).tolist()] if isinstance(given, Tensor) else list(given)


def same(x: Tensor) -> Tensor:
    """Return `x`."""
    return x


@importing("Identity", "passing")
def _identity(site: Site) -> fx.Node:
    return site.call(same, site.value())


@importing("Dropout", "passing")
def _dropout(site: Site) -> fx.Node:
    training = site.constant(2)
    if site.has(2) and (training is None or bool(training.reshape(()))):
        raise site.error("it is exported as in training, and would draw lots")
    return site.call(same, site.value())


@importing("Reshape", "passing")
def _reshape(site: Site) -> fx.Node:
    shape = site.whole(1)
    copies = not site.attribute("allowzero", 0)
    if isinstance(shape, list):
        shape = _any_batch(site, shape) if copies else shape
        if not copies or 0 not in shape:
            return site.call(torch.reshape, site.value(), tuple(shape))
    return site.call(reshape, site.value(), shape, copies)


def _any_batch(site: Site, shape: list[int]) -> list[int]:
    """Let a shape that repeats the file's fixed number of images copy whatever number there is."""
    before, batch = site.shape(), site.batch()
    if batch is not None and before is not None and shape and before[:1] == (batch,) and shape[0] == batch:
        return [0, *shape[1:]]
    return shape


def reshape(x: Tensor, shape: Whole, copies: bool) -> Tensor:
    """Return `x` in another shape; where `copies`, 0 stands for the length that the axis had (ONNX, Reshape)."""
    lengths = numbers(shape)
    if copies:
        lengths = [x.shape[axis] if length == 0 else length for axis, length in enumerate(lengths)]
    return x.reshape(lengths)


@importing("Flatten", "passing")
def _flatten(site: Site) -> fx.Node:
    axis = int(site.attribute("axis", 1))
    return site.call(torch.flatten, site.value(), 1) if axis == 1 else site.call(flatten, site.value(), axis)


def flatten(x: Tensor, axis: int) -> Tensor:
    """Return `x` as a matrix: the axes before `axis` are its rows."""
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@importing("Transpose", "passing")
def _transpose(site: Site) -> fx.Node:
    order = site.attribute("perm")
    return site.call(reverse, site.value()) if order is None else site.call(torch.permute, site.value(), tuple(order))


def reverse(x: Tensor) -> Tensor:
    """Return `x` with its axes in reverse order."""
    return x.permute(*reversed(range(x.ndim)))


@importing("Squeeze", "passing")
def _squeeze(site: Site) -> fx.Node:
    axes = site.axes()
    return (
        site.call(torch.squeeze, site.value()) if axes is None else site.call(torch.squeeze, site.value(), tuple(axes))
    )


@importing("Unsqueeze", "passing")
def _unsqueeze(site: Site) -> fx.Node:
    axes = site.axes()
    if axes is None:
        raise site.error("it names no axes")
    return site.call(unsqueeze, site.value(), axes)


def unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return `x` with axes of length 1 where the result has the numbers `axes`."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@importing("Expand", "passing")
def _expand(site: Site) -> fx.Node:
    return site.call(expand, site.value(), site.whole(1))


def expand(x: Tensor, shape: Whole) -> Tensor:
    """Return `x` stretched to what it and `shape` have in common (ONNX, Expand)."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(numbers(shape))))  # type: ignore[no-untyped-call]


@importing("Tile", "passing")
def _tile(site: Site) -> fx.Node:
    return site.call(tile, site.value(), site.whole(1))


def tile(x: Tensor, repeats: Whole) -> Tensor:
    """Return `x` repeated along each axis."""
    return x.repeat(numbers(repeats))


@importing("Slice", "passing")
def _slice(site: Site) -> fx.Node:
    return site.call(take, site.value(), *(site.whole(position) for position in range(1, 5)))


def take(x: Tensor, starts: Whole, ends: Whole, axes: Whole | None, steps: Whole | None) -> Tensor:
    """Return a part of `x`: start, end and step for every one of `axes` (ONNX, Slice)."""
    begin, stop = numbers(starts), numbers(ends)
    along = list(range(len(begin))) if axes is None else numbers(axes)
    stride = [1] * len(begin) if steps is None else numbers(steps)
    for axis, first, last, step in zip(along, begin, stop, stride, strict=True):
        places = range(*slice(first, last, step).indices(x.shape[axis]))
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(places.start, places.stop, step),)]
        else:
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


@importing("Gather", "passing")
def _gather(site: Site) -> fx.Node:
    axis = int(site.attribute("axis", 0))
    index = site.constant(1)
    if index is None:
        return site.call(gather, site.value(0), site.value(1), axis)
    if index.ndim == 0:
        return site.call(torch.select, site.value(), axis, int(index))
    if (
        index.size <= 8
        and index.ndim == 1
        and np.array_equal(index, np.arange(len(index)) + index[0])
        and index[0] >= 0
    ):
        return site.call(torch.narrow, site.value(), axis, int(index[0]), len(index))
    return site.call(gather, site.value(0), site.value(1), axis)


def gather(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Return the slices of `x` along `axis` that `index`, of any shape, names; -1 is the last (ONNX, Gather)."""
    axis = axis % x.ndim
    index = index.to(x.device)
    flat = torch.where(index < 0, index + x.shape[axis], index).reshape(-1)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@importing("Split", "passing")
def _split(site: Site) -> Sequence[fx.Node]:
    axis = int(site.attribute("axis", 0))
    sizes = site.attribute("split") or site.whole(1)
    if sizes is None:
        parts = int(site.attribute("num_outputs", len(site.node.output)))
        return site.outputs(site.call(split_evenly, site.value(), parts, axis))
    if isinstance(sizes, fx.Node):
        raise site.error("the sizes of its parts are computed by the network, and only constants can be simulated")
    return site.outputs(site.call(torch.split, site.value(), list(sizes), axis))


def split_evenly(x: Tensor, parts: int, axis: int) -> tuple[Tensor, ...]:
    """Return `x` in `parts` alike; the last is shorter where the length does not divide (ONNX, Split)."""
    return torch.split(x, -(-x.shape[axis] // parts), axis)


def _pad_exception(node: NodeProto, graph: Graph) -> Kind | None:
    """Return "computing" where another number than 0 is put around the values: it may lie outside their range."""
    value = graph.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    constant = attribute(node, "mode", b"constant") == b"constant"
    return "computing" if constant and value is not None and value.any() else None


@importing("Pad", "passing", _pad_exception)
def _pad(site: Site) -> fx.Node:
    mode = site.choice("mode", "constant", "constant", "reflect", "edge", "wrap")
    pads = site.whole(1)
    axes = site.whole(3)
    value = as_tensor(site.needed(2, "number to pad with")).item() if site.has(2) else 0.0
    return site.call(pad, site.value(), pads, axes, mode, value)


def pad(x: Tensor, pads: Whole, axes: Whole | None, mode: str, value: float) -> Tensor:
    """Return `x` with `pads` (all begins, then all ends) around `axes` (ONNX, Pad)."""
    given = numbers(pads)
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in numbers(axes)]
    both = dict(zip(along, zip(given[: len(along)], given[len(along) :], strict=True), strict=True))
    if mode == "constant":
        flat = [n for axis in reversed(range(x.ndim)) for n in both.get(axis, (0, 0))]
        return F.pad(x, flat, value=value)
    for axis, (begin, end) in both.items():
        if begin or end:
            x = x.index_select(axis, _mirrored(x.shape[axis], begin, end, mode).to(x.device))
    return x


def _mirrored(length: int, begin: int, end: int, mode: str) -> Tensor:
    """Return the place that each value of a padded axis comes from."""
    place = torch.arange(-begin, length + end)
    if mode == "edge":
        return place.clamp(0, length - 1)
    if mode == "wrap":
        return place % length
    period = max(2 * (length - 1), 1)
    place = place % period
    return torch.minimum(place, period - place) if length > 1 else place * 0


@importing("DepthToSpace", "passing")
def _depth_to_space(site: Site) -> fx.Node:
    size = int(site.attribute("blocksize"))
    if site.choice("mode", "DCR", "DCR", "CRD") == "CRD":
        return site.call(F.pixel_shuffle, site.value(), size)
    return site.call(depth_to_space, site.value(), size)


def depth_to_space(x: Tensor, size: int) -> Tensor:
    """Return blocks of size × size from the channels, the block's place being the slowest (ONNX, mode DCR)."""
    n, c, h, w = x.shape
    parts = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // size**2, h * size, w * size)


@importing("SpaceToDepth", "passing")
def _space_to_depth(site: Site) -> fx.Node:
    return site.call(space_to_depth, site.value(), int(site.attribute("blocksize")))


def space_to_depth(x: Tensor, size: int) -> Tensor:
    """Return blocks of size × size as channels: the inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * size**2, h // size, w // size)


#: ONNX's element types. Every floating type is float32 here: the simulation has one full precision.
TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float32,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


def _cast_exception(node: NodeProto, graph: Graph) -> Kind | None:
    kind = TYPES.get(attribute(node, "to"))
    return "silent" if kind is None or not kind.is_floating_point else None


@importing("Cast", "passing", _cast_exception)
def _cast(site: Site) -> fx.Node:
    kind = TYPES.get(site.attribute("to"))
    if kind is None:
        raise site.error(f"it casts to {TensorProto.DataType.Name(site.attribute('to'))}, which cannot be simulated")
    return site.call(cast, site.value(), kind)


def cast(x: Tensor, kind: torch.dtype) -> Tensor:
    """Return `x` as another type."""
    return x.to(kind)
