"""What a network's tensors come to for one picture, before it is run.

Shapes are inferred by ONNX itself from the shape of the input, with weights left out. Where every tensor's is known and
all of them, and the products of matrices, stay within bounds that no network for pictures reaches, it can be run here.
Where not every shape follows (loops, sizes that depend on values, operators that ONNX does not know), nobody knows what
it takes until it is run: it is tried in a process of its own first, with little time and memory (`onnx_trial`).
"""

from __future__ import annotations

import math

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from veriquant.checks import quoted
from veriquant.errors import VeriQuantError

_GIB = 1 << 30
#: Bytes of the largest tensor, and of all that are needed at one moment, for one picture; each further one of a fixed
#: batch may add so many.
_LARGEST_TENSOR, _MOST_AT_ONCE, _FOR_EACH_MORE = 1 * _GIB, 4 * _GIB, 1 << 26
#: Bytes of constants that the runtime computes from others.
_MOST_UNFOLDED = 1 << 28
#: Multiply-accumulates for one picture: a hundred times those of the largest face networks.
_MOST_PRODUCTS = 2e12
#: Smaller constants are kept for the inference of shapes: they may be shapes themselves.
_SHAPES_ARE_SMALLER = 4096
_BYTES = {
    TensorProto.DOUBLE: 8, TensorProto.INT64: 8, TensorProto.UINT64: 8, TensorProto.COMPLEX64: 8,
    TensorProto.COMPLEX128: 16, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.INT16: 2,
    TensorProto.UINT16: 2, TensorProto.INT8: 1, TensorProto.UINT8: 1, TensorProto.BOOL: 1,
}  # fmt: skip

Shapes = dict[str, tuple[int, ...]]


def sizes_are_known(model: ModelProto, name: str, shape: tuple[int, ...], source: str) -> bool:
    """Return whether every tensor of a model has a known size when its input `name` has `shape`.

    Raises `VeriQuantError` where one of those known, or all together, are larger than any network's.
    """
    images = shape[0]
    more = (images - 1) * _FOR_EACH_MORE
    inferred = _inferred(model, name, shape)
    if inferred is None:
        return False
    shapes, kinds = inferred
    sizes = {each: math.prod(found) * _BYTES.get(kinds.get(each, 0), 4) for each, found in shapes.items()}
    largest = max(sizes, key=sizes.__getitem__, default="")
    if sizes.get(largest, 0) > _LARGEST_TENSOR + more:
        raise VeriQuantError(
            f"{source}: tensor {quoted(largest)} would have the shape {quoted(shapes[largest])}, "
            f"{sizes[largest] / _GIB:.3g} GiB, for {images} image(s) of {quoted(shape[1:])}; no network for pictures "
            "needs as much: it is damaged or made to do harm"
        )
    most, unfolded = _most_at_once(model.graph, sizes)
    if most > _MOST_AT_ONCE + more or unfolded > _MOST_UNFOLDED:
        raise VeriQuantError(
            f"{source}: its tensors would take {most / _GIB:.3g} GiB at once for {images} image(s), "
            f"{unfolded / _GIB:.3g} of them constants that are not in the file; no network for pictures needs as much"
        )
    products = sum(_products(node, shapes) for node in model.graph.node) / images
    if products > _MOST_PRODUCTS:
        raise VeriQuantError(
            f"{source}: would take {products:.1e} multiply-accumulates for an image; no network for pictures needs "
            f"more than {_MOST_PRODUCTS:.0e}"
        )
    made = [each for node in model.graph.node for each in node.output if each]
    return not model.functions and all(each in shapes for each in made) and not _has_subgraphs(model.graph)


def _inferred(model: ModelProto, name: str, shape: tuple[int, ...]) -> tuple[Shapes, dict[str, int]] | None:
    """Return shapes and element types of all tensors whose shape follows; None where nothing can be inferred."""
    draft = _skeleton(model, name, shape)
    try:
        graph = shape_inference.infer_shapes(draft, data_prop=True).graph
    except Exception:  # the C++ side raises whatever it met; the runtime will say what is wrong
        return None
    shapes: Shapes = {}
    kinds: dict[str, int] = {}
    for entry in (*graph.value_info, *graph.input, *graph.output):
        kind = entry.type.tensor_type
        kinds[entry.name] = kind.elem_type
        if kind.HasField("shape") and all(
            axis.HasField("dim_value") and axis.dim_value >= 0 for axis in kind.shape.dim
        ):
            shapes[entry.name] = tuple(axis.dim_value for axis in kind.shape.dim)
    for tensor in model.graph.initializer:
        kinds[tensor.name], shapes[tensor.name] = tensor.data_type, tuple(tensor.dims)
    return shapes, kinds


def _skeleton(model: ModelProto, name: str, shape: tuple[int, ...]) -> ModelProto:
    """Return a model without its large weights, which become inputs, and with an input of `shape`.

    What the file itself says of shapes in between and at the end is left out: it need not be true.
    """
    graph = GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _SHAPES_ARE_SMALLER:
            graph.initializer.append(tensor)
        elif tensor.name != name:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph.output.extend(onnx.ValueInfoProto(name=output.name) for output in model.graph.output)
    draft = ModelProto(ir_version=model.ir_version, graph=graph)
    draft.opset_import.extend(model.opset_import)
    draft.functions.extend(model.functions)
    return draft


def _has_subgraphs(graph: GraphProto) -> bool:
    return any(entry.HasField("g") or entry.graphs for node in graph.node for entry in node.attribute)


def _most_at_once(graph: GraphProto, sizes: dict[str, int]) -> tuple[int, int]:
    """Return the bytes of all tensors that are needed at one moment, at most, and of the constants among them.

    Constants are those that follow from others alone, such as ConstantOfShape's: they are needed all the time.
    """
    weights = {tensor.name for tensor in graph.initializer}
    constant, last_use = set(weights), {}
    for place, node in enumerate(graph.node):
        last_use.update(dict.fromkeys(node.input, place))
        if all(name in constant or not name for name in node.input):
            constant.update(node.output)
    last_use.update(dict.fromkeys((output.name for output in graph.output), len(graph.node)))
    unfolded = sum(size for name, size in sizes.items() if name in constant and name not in weights)
    held = most = unfolded
    leaving: dict[int, int] = {}
    for place, node in enumerate(graph.node):
        for name in node.output:
            if name not in constant:
                held += sizes.get(name, 0)
                end = last_use.get(name, place)
                leaving[end] = leaving.get(end, 0) + sizes.get(name, 0)
        most = max(most, held)
        held -= leaving.pop(place, 0)
    return most, unfolded


def _products(node: NodeProto, shapes: Shapes) -> float:
    """Return the multiply-accumulates of one node, as far as shapes tell; other operators touch each number once."""
    output = shapes.get(node.output[0] if node.output else "")
    if output is None:
        return 0.0
    positions = float(math.prod(output))
    operands = [shapes.get(name, ()) for name in node.input]
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv", "DeformConv") and len(operands) > 1:
        weight = next((each for each in operands[1:] if len(each) == len(output)), ())
        return positions * math.prod(weight[1:])
    if node.op_type == "ConvTranspose" and len(operands) > 1:
        return float(math.prod(operands[0])) * math.prod(operands[1][1:])
    if "MatMul" in node.op_type or node.op_type in ("Gemm", "Einsum"):
        return positions * max((max(each, default=1) for each in operands), default=1)
    return positions
