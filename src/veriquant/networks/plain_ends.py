"""Plain ends for any ONNX network: float32 images (n, …) in, float32 embeddings (n, d) out, and the file's own again.

Inside VeriQuant every network has plain ends. What a recipe writes gets the ends of the file that it was made from, so
that it can take that file's place: pixels as uint8 or float16, an embedding (n, d, 1, 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from veriquant.networks.onnx_ends import FLOATS, ImageInput
from veriquant.onnxgraph.walk import is_standard, rename_reads

#: Operators that move numbers about, whatever their type.
_MOVING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice")
#: What the axis of the images is called where a file does not say.
_IMAGES = "n"


@dataclass(frozen=True)
class Ends:
    """The ends of a file that are not plain; element types as in `TensorProto`.

    `pixels`: the shape of its input where it has no axis for the images. `row`: the axes of an embedding behind that of
    the images, where there are more than one.
    """

    input_kind: int = TensorProto.FLOAT
    output_kind: int = TensorProto.FLOAT
    pixels: tuple[int, ...] | None = None
    row: tuple[int, ...] | None = None

    def restored(self, content: bytes) -> bytes:
        """Return a serialised model with plain ends as one with these."""
        if self == PLAIN:
            return content
        model = onnx.load_model_from_string(content)
        graph = model.graph
        weights = {tensor.name for tensor in graph.initializer}
        entry = next(value for value in graph.input if value.name not in weights)
        kind, shape = entry.type.tensor_type, [1, *self.pixels] if self.pixels else None
        if self.input_kind != TensorProto.FLOAT or shape:
            kind.elem_type = self.input_kind
            if self.pixels:
                _set_shape(entry, self.pixels)
            _put_first(graph, entry.name, shape, TensorProto.FLOAT if self.input_kind != TensorProto.FLOAT else None)
        if self.output_kind != TensorProto.FLOAT or self.row:
            cast = self.output_kind if self.output_kind != TensorProto.FLOAT else None
            _put_last(graph, graph.output[0].name, [0, *self.row] if self.row else None, cast)
            graph.output[0].type.tensor_type.elem_type = self.output_kind
            if self.row:
                _set_shape(graph.output[0], [_first_axis(graph.output[0]), *self.row])
        restored: bytes = model.SerializeToString()
        return restored


PLAIN = Ends()
"""The ends that every network has inside VeriQuant."""


def is_plain(model: onnx.ModelProto) -> bool:
    """Return whether a model takes float32 batches and gives one output of float32 rows, by what it states."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        return False
    first, last = inputs[0].type.tensor_type, model.graph.output[0].type.tensor_type
    known = first.HasField("shape") and len(first.shape.dim) == 4, len(last.shape.dim) in (0, 2)
    return all(known) and first.elem_type == last.elem_type == TensorProto.FLOAT


def plain_input(model: onnx.ModelProto, image: ImageInput) -> onnx.ModelProto:
    """Return a model that takes float32 batches; the model itself where it does."""
    if image.batched and image.kind == TensorProto.FLOAT:
        return model
    plain = _copy(model)
    graph = plain.graph
    entry = next(value for value in graph.input if value.name == image.name)
    entry.type.tensor_type.elem_type = TensorProto.FLOAT
    shape = None
    if not image.batched:
        shape = [int(length or 0) for length in image.axes]
        _set_shape(entry, [1, *shape])
    cast = image.kind if image.kind != TensorProto.FLOAT and not _only_cast(graph, image.name) else None
    _put_first(graph, image.name, shape, cast)
    return plain


def plain_output(model: onnx.ModelProto, name: str, shape: Iterable[int], dim: int, kind: int) -> onnx.ModelProto:
    """Return a model of which the output `name` is the only one, float32 (n, dim); the model itself where it is.

    `shape`: what the output has for a batch; `kind`: its element type.
    """
    shape = tuple(shape)
    flat = len(shape) == 2 and shape[1] == dim
    if flat and kind == TensorProto.FLOAT and len(model.graph.output) == 1:
        return model
    plain = _copy(model)
    graph = plain.graph
    kept = [value for value in graph.output if value.name == name]
    del graph.output[:]
    graph.output.extend(kept)
    _put_last(graph, name, None if flat else [-1, dim], TensorProto.FLOAT if kind != TensorProto.FLOAT else None)
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    if not flat:
        _set_shape(graph.output[0], [_IMAGES if shape[:1] == (1,) else _first_axis(graph.output[0]), dim])
    return plain


def rows_of_output(model: onnx.ModelProto, dim: int) -> onnx.ModelProto:
    """Return a model whose one output, however many images lie in a row of it, is laid out as (n, dim)."""
    plain = _copy(model)
    _put_last(plain.graph, plain.graph.output[0].name, [-1, dim], None)
    _set_shape(plain.graph.output[0], [_IMAGES, dim])
    return plain


def one_at_a_time(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a model that states that its input takes one image."""
    fixed = _copy(model)
    ends = [value for value in fixed.graph.input if value.name == name]
    for value in (*ends, *fixed.graph.output):
        if dims := value.type.tensor_type.shape.dim:
            dims[0].Clear()
            dims[0].dim_value = 1
    return fixed


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    copied.ir_version = max(copied.ir_version, 4)  # constants may be put in that are no inputs
    del copied.graph.value_info[:]  # it tells of the types and lengths that there were
    return copied


def _only_cast(graph: onnx.GraphProto, name: str) -> bool:
    """Tell whether a tensor is only moved about until it is cast to floating point: its type does not matter."""
    if any(value.name == name for value in graph.output):
        return False
    for node in graph.node:
        if name not in node.input:
            continue
        if not is_standard(node) or node.input[0] != name:
            return False
        to = next((entry.i for entry in node.attribute if entry.name == "to"), None)
        if node.op_type == "Cast" and to in FLOATS:
            continue
        if node.op_type not in _MOVING or not _only_cast(graph, node.output[0]):
            return False
    return True


def _put_first(graph: onnx.GraphProto, name: str, shape: list[int] | None, cast: int | None) -> None:
    """Let all that read the input `name` read it in another shape and type."""
    if shape is None and cast is None:
        return
    inner = _free(graph, f"{name}/own")
    for node in graph.node:
        rename_reads(node, {name: inner})
    parts = _steps(graph, name, inner, shape, cast, inner)
    nodes = [*parts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _put_last(graph: onnx.GraphProto, name: str, shape: list[int] | None, cast: int | None) -> None:
    """Give the output `name` in another shape and type."""
    if shape is None and cast is None:
        return
    inner = _free(graph, f"{name}/own")
    for node in graph.node:
        rename_reads(node, {name: inner})
        node.output[:] = [inner if made == name else made for made in node.output]
    for tensor in graph.initializer:
        tensor.name = inner if tensor.name == name else tensor.name
    graph.node.extend(_steps(graph, inner, name, shape, cast, inner))


def _steps(
    graph: onnx.GraphProto, source: str, result: str, shape: list[int] | None, cast: int | None, name: str
) -> list[NodeProto]:
    """Return nodes from one tensor to another; what they are called, and make on the way, begins with `name`."""
    nodes = []
    if shape is not None:
        target = result if cast is None else _free(graph, f"{name}/shaped")
        constant = _free(graph, f"{name}/shape")
        graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), constant))
        nodes.append(helper.make_node("Reshape", [source, constant], [target], f"{name}/Reshape"))
        source = target
    if cast is not None:
        nodes.append(helper.make_node("Cast", [source], [result], f"{name}/Cast", to=cast))
    return nodes


def _free(graph: onnx.GraphProto, name: str) -> str:
    taken = {made for node in graph.node for made in (*node.output, *node.input)}
    taken.update(tensor.name for tensor in graph.initializer)
    while name in taken:
        name = f"{name}_"
    return name


def _set_shape(value: onnx.ValueInfoProto, axes: Iterable[int | str]) -> None:
    """Write the shape of an end: lengths, and names of open axes."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis in axes:
        shape.dim.add(**({"dim_param": axis} if isinstance(axis, str) else {"dim_value": axis}))


def _first_axis(value: onnx.ValueInfoProto) -> int | str:
    """Return the length or the name of the axis of the images."""
    dims = value.type.tensor_type.shape.dim
    return (dims[0].dim_value or dims[0].dim_param or _IMAGES) if dims else _IMAGES
