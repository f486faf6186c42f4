"""Writing a model's half- and double-precision arithmetic in single precision, in which networks are quantized."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from veriquant.onnxgraph.walk import all_graphs, all_nodes, all_tensors

_NAMES = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}
#: Attributes that name an element type.
_TYPES = ("to", "dtype")
_LARGEST = np.finfo(np.float32).max


def other_floats(model: onnx.ModelProto) -> list[str]:
    """Return the floating-point types that a model stores or casts to, other than float32, by name."""
    kinds = {tensor.data_type for tensor in all_tensors(model)}
    for node in all_nodes(model.graph.node):
        kinds.update(e.i for e in node.attribute if e.name in _TYPES and e.type == AttributeProto.INT)
    ends = (*model.graph.input, *model.graph.output)
    kinds.update(value.type.tensor_type.elem_type for value in ends)
    return [name for kind, name in _NAMES.items() if kind in kinds]


def in_single_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that computes in float32 wherever the model computes in float16, bfloat16 or float64."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for tensor in all_tensors(single):
        if tensor.data_type in _NAMES:
            _widen(tensor)
    for node in all_nodes(single.graph.node):
        for entry in node.attribute:
            if entry.name in _TYPES and entry.type == AttributeProto.INT and entry.i in _NAMES:
                entry.i = TensorProto.FLOAT
    for graph in all_graphs(single.graph):
        del graph.value_info[:]  # they are inferred again
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in _NAMES:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
    return single


def _widen(tensor: TensorProto) -> None:
    values = np.asarray(numpy_helper.to_array(tensor), dtype=np.float64)
    # A bound such as the least float64 stays a bound: infinity times zero would be no number.
    finite = np.where(np.isinf(values), values, np.clip(values, -_LARGEST, _LARGEST))
    tensor.CopyFrom(numpy_helper.from_array(finite.astype(np.float32).reshape(values.shape), tensor.name))
