"""Repairs of files that an older exporter wrote and that no runtime takes any more, in memory and told of.

MXNet wrote the ArcFace of ONNX's model zoo with ``spatial=0`` on batch normalisations, although their parameters are
one for each channel, and slopes of PReLU as (channels,), which ONNX stretches along the width. The makers' own advice
was to set ``spatial=1`` and to give slopes the shape (channels, 1, 1) (onnx/models, issues 91 and 156).
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, numpy_helper, shape_inference

from veriquant.onnxgraph.walk import is_standard


def repaired(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy of a model that does not run with what can be repaired, and a note on each repair.

    No notes: nothing in it is known to be wrong.
    """
    mended = onnx.ModelProto()
    mended.CopyFrom(model)
    notes = []
    if count := _spatial(mended.graph):
        notes.append(
            f"spatial=0 of {count} batch normalisations read as spatial=1: their parameters are one for each channel"
        )
    if count := _flat_slopes(mended):
        notes.append(
            f"flat slopes of {count} PReLUs, (channels,), read as (channels, 1, 1): along the width, where ONNX puts "
            "them, they do not fit"
        )
    return mended, notes


def _spatial(graph: onnx.GraphProto) -> int:
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    count = 0
    for node in graph.node:
        if node.op_type != "BatchNormalization" or not is_standard(node):
            continue
        kept = [entry for entry in node.attribute if entry.name != "spatial"]
        if len(kept) < len(node.attribute) and all(ranks.get(name, 1) == 1 for name in node.input[1:]):
            count += any(entry.name == "spatial" and entry.i == 0 for entry in node.attribute)
            del node.attribute[:]
            node.attribute.extend(kept)
    return count


def _flat_slopes(model: onnx.ModelProto) -> int:
    graph = model.graph
    slopes = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            slopes.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
    shapes = _shapes(model)
    flat = [
        node for node in graph.node if node.op_type == "PRelu" and is_standard(node) and _is_flat(node, slopes, shapes)
    ]
    # One that cannot lie along the width tells how its exporter writes all of them.
    if not any(_width(node, shapes) not in (None, _length(node, slopes)) for node in flat):
        return 0
    done = set()
    for node in flat:
        tensor = slopes[node.input[1]]
        if node.input[1] not in done:
            done.add(node.input[1])
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(-1, 1, 1), tensor.name))
    for value in graph.input:
        if value.name in done:
            value.type.tensor_type.shape.dim.add(dim_value=1)
            value.type.tensor_type.shape.dim.add(dim_value=1)
    return len(flat)


def _is_flat(node: NodeProto, slopes: dict[str, TensorProto], shapes: dict[str, tuple[int, ...]]) -> bool:
    """Tell whether slopes are one row, as many as there are channels, for a tensor of four axes."""
    shape = shapes.get(node.input[0], ())
    tensor = slopes.get(node.input[1])
    return tensor is not None and len(tensor.dims) == 1 and len(shape) == 4 and tensor.dims[0] == shape[1] > 1


def _width(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int | None:
    return shapes[node.input[0]][3] or None


def _length(node: NodeProto, slopes: dict[str, TensorProto]) -> int:
    return int(slopes[node.input[1]].dims[0])


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the inferred shapes of tensors, 0 for an open axis."""
    found = {}
    inferred = shape_inference.infer_shapes(model).graph
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found
