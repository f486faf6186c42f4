"""`Graph`: an ONNX model opened for editing: nodes in order, constants as arrays, who makes and uses each tensor."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from veriquant.onnxgraph.floats import in_single_precision, other_floats
from veriquant.onnxgraph.versions import IR_VERSIONS, opset_of, without_functions
from veriquant.onnxgraph.walk import is_standard, reads, rename_reads

Array = npt.NDArray[Any]

#: Opset that the quantized files are written in: per-channel DequantizeLinear (13) and all later float operators.
OPSET = 17
#: Operators that multiply by a weight.
WEIGHTED = ("Conv", "Gemm", "MatMul")
#: Separates the name of an operation of the user's network from the parts it was rewritten into.
PART = "::"


class Graph:
    """A single-input, single-output ONNX graph with its constants taken out of the nodes.

    `nodes` stand in topological order; `constants` maps tensor names to arrays (initializers and Constant nodes alike).
    Edits go through `replace` and plain changes of `constants`; `to_model` writes an ordinary ONNX model again.

    A model is opened in the form that quantization needs: opset 17 or later, its own functions put in place, float32
    wherever it computes in other floating-point types, without what leads to no output. `own_names`: the model was
    written by a `Graph`; it is in that form, and the names of its nodes stay as they are.
    """

    def __init__(self, model: onnx.ModelProto, *, own_names: bool = False) -> None:
        self.widened: tuple[str, ...] = ()
        """The floating-point types, other than float32, that the file computes in and the graph does not."""
        if not own_names:
            model = without_functions(model, OPSET)
            self.widened = tuple(other_floats(model))
            model = in_single_precision(model) if self.widened else model
        self._frame = onnx.ModelProto()
        self._frame.CopyFrom(model)
        self._frame.ir_version = max(model.ir_version, IR_VERSIONS[OPSET])
        graph = self._frame.graph
        self.constants: dict[str, Array] = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.nodes: list[NodeProto] = []
        for node in graph.node:
            value = constant_of(node)
            if value is None:
                self.nodes.append(node)
            else:
                self.constants[node.output[0]] = value
        self.input = next(i.name for i in graph.input if i.name not in self.constants)
        self.output = graph.output[0].name
        if not own_names:
            self.prune()
            _name_nodes(self.nodes)

    @property
    def opset(self) -> int:
        """Return the version of ONNX's own operator set that the graph is written in."""
        return opset_of(self._frame)

    @property
    def ir_version(self) -> int:
        """Return the version of the file format."""
        return int(self._frame.ir_version)

    @property
    def opsets(self) -> list[onnx.OperatorSetIdProto]:
        """Return the versions of all operator sets that the graph is written in."""
        return list(self._frame.opset_import)

    def prune(self) -> None:
        """Leave out nodes that lead to no output."""
        wanted, found = {self.output}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                found.append(node)
                wanted.update(reads(node))
        self.nodes = found[::-1]

    @classmethod
    def from_bytes(cls, content: bytes) -> Graph:
        """Open a serialised ONNX model."""
        return cls(onnx.load_model_from_string(content))

    def copy(self) -> Graph:
        """Return a graph whose nodes can be changed without changing this one's; the arrays are shared."""
        other = copy.copy(self)
        other.constants = dict(self.constants)
        other.nodes = []
        for node in self.nodes:
            twin = NodeProto()
            twin.CopyFrom(node)
            other.nodes.append(twin)
        return other

    def producers(self) -> dict[str, NodeProto]:
        """Return the node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.output if name}

    def consumers(self) -> dict[str, list[NodeProto]]:
        """Return the nodes that use each tensor."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in reads(node):
                found.setdefault(name, []).append(node)
        return found

    def replace(self, node: NodeProto, parts: Sequence[NodeProto]) -> None:
        """Put `parts` where `node` stood; no parts: remove it."""
        index = next(i for i, other in enumerate(self.nodes) if other is node)
        self.nodes[index : index + 1] = parts

    def rename_uses(self, old: str, new: str) -> None:
        """Let every user of the tensor `old` use `new` instead."""
        for node in self.nodes:
            rename_reads(node, {old: new})

    def weight(self, node: NodeProto, position: int = 1) -> Array | None:
        """Return the constant at an input of `node`, or None where it is computed or absent."""
        if len(node.input) <= position:
            return None
        return self.constants.get(node.input[position])

    def set_weight(self, node: NodeProto, position: int, value: Array) -> None:
        """Give `node` a constant of its own at an input, so that another user of the old one keeps it."""
        name = f"{node.name}{PART}{'weight' if position == 1 else 'bias'}"
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name
        self.constants[name] = np.ascontiguousarray(value, dtype=np.float32)

    def to_model(self, extra_outputs: Iterable[str] = ()) -> onnx.ModelProto:
        """Return the edited model without unused constants. `extra_outputs` names tensors to expose."""
        model = onnx.ModelProto()
        model.CopyFrom(self._frame)
        graph = model.graph
        used = {name for node in self.nodes for name in reads(node)}
        for kept in (graph.node, graph.initializer, graph.value_info):
            del kept[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in used
        )
        inputs = [entry for entry in graph.input if entry.name == self.input]
        del graph.input[:]
        graph.input.extend(inputs)
        model = shape_inference.infer_shapes(model)
        model.graph.output.extend(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in extra_outputs
        )
        return model

    def to_bytes(self, extra_outputs: Iterable[str] = ()) -> bytes:
        """Return the edited model, serialised."""
        content: bytes = self.to_model(extra_outputs).SerializeToString()
        return content

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the inferred shape of each tensor that has one; an axis of unknown length is None."""
        graph = self.to_model().graph
        found: dict[str, tuple[int | None, ...]] = {name: value.shape for name, value in self.constants.items()}
        for entry in (*graph.value_info, *graph.input, *graph.output):
            kind = entry.type.tensor_type
            if kind.HasField("shape"):
                found[entry.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
        return found


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def is_transposed(node: NodeProto) -> bool:
    """Return whether the weight of a Conv, Gemm or MatMul is (inputs, outputs)."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))


def groups(node: NodeProto) -> int:
    """Return the number of groups of a convolution."""
    return int(attribute(node, "group", 1))


def operation(name: str) -> str:
    """Return the name of the operation of the user's network that a node belongs to."""
    return name.partition(PART)[0]


def constant_of(node: NodeProto) -> Array | None:
    """Return the value of a Constant node that holds numbers, None for any other node."""
    if node.op_type != "Constant" or not is_standard(node):
        return None
    entry = node.attribute[0]
    match entry.name:
        case "value":
            value: Array = numpy_helper.to_array(entry.t)
            return value
        case "value_int" | "value_ints":
            return np.array(entry.i if entry.name == "value_int" else entry.ints, dtype=np.int64)
        case "value_float" | "value_floats":
            return np.array(entry.f if entry.name == "value_float" else entry.floats, dtype=np.float32)
    return None  # text, and sparse tensors


def _name_nodes(nodes: list[NodeProto]) -> None:
    """Give every node a name that is its own: quantization speaks of nodes by name."""
    taken: set[str] = set()
    for index, node in enumerate(nodes):
        name = node.name.replace(PART, "_") or f"{node.op_type}_{index}"
        if name in taken:
            name = f"{name}_{index}"
        node.name = name
        taken.add(name)
