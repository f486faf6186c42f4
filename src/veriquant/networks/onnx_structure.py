"""What an ONNX file claims, held against what it holds, before any library acts on it.

A file of a few bytes can name a tensor of a terabyte, functions that call one another until a billion nodes stand
there, or text where a number belongs. Each is refused here, by name, in one line; whether the network runs, and what
its tensors come to on the way, is seen afterwards (`onnx_sizes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from veriquant.checks import quoted
from veriquant.errors import VeriQuantError

#: Nodes, functions put in place: the largest networks have a few ten thousand.
_MOST_NODES = 200_000
_DEEPEST = 16
_LONGEST_NAME = 10_000
#: A sparse tensor is written out by the runtime, at most to so many bytes.
_LARGEST_SPARSE = 1 << 26

_ONE_BY_ONE = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.STRING: "string_data",
}
#: Complex numbers are two in a row; what has less than 32 bits stands in `int32_data`.
_IN_PAIRS = {TensorProto.COMPLEX64: "float_data", TensorProto.COMPLEX128: "double_data"}


def check_structure(model: onnx.ModelProto, source: str) -> None:
    """Raise `VeriQuantError` where a model claims what it does not hold; `source` stands in front of the line."""
    try:
        _check(model)
    except UnicodeDecodeError as error:
        raise VeriQuantError(f"{source}: holds text that is none ({error.reason}); get it again") from error
    except ValueError as error:
        raise VeriQuantError(f"{source}: {error}; the file is damaged, get or export it again") from error


def _check(model: onnx.ModelProto) -> None:
    _check_names(*(entry.domain for entry in model.opset_import))
    _check_names(*(name for function in model.functions for name in (function.name, function.domain)))
    _check_names(*(entry.key for entry in model.metadata_props))
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    _count_nodes(model)
    for graph, nodes in _graphs(model):
        if graph is not None:
            for tensor in graph.initializer:
                _check_tensor(tensor)
            for sparse in graph.sparse_initializer:
                _check_sparse(sparse)
            for value in (*graph.input, *graph.output, *graph.value_info):
                _check_shape(value)
        for node in nodes:
            _check_node(node, opsets)


def _graphs(model: onnx.ModelProto) -> Iterator[tuple[GraphProto | None, list[NodeProto]]]:
    """Yield every graph of a model with its nodes, those of functions and below nodes too."""
    waiting: list[tuple[GraphProto | None, list[NodeProto], int]] = [(model.graph, list(model.graph.node), 0)]
    waiting += [(None, list(function.node), 0) for function in model.functions]
    while waiting:
        graph, nodes, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"graphs nested more than {_DEEPEST} deep")
        yield graph, nodes
        for node in nodes:
            for entry in node.attribute:
                for inner in (*entry.graphs, *([entry.g] if entry.HasField("g") else [])):
                    waiting.append((inner, list(inner.node), depth + 1))


def _count_nodes(model: onnx.ModelProto) -> None:
    """Refuse a model with too many nodes once its functions are put in place, or a function that calls itself."""
    functions = {(function.domain, function.name): list(function.node) for function in model.functions}
    counts: dict[tuple[str, str], int] = {}
    open_calls: set[tuple[str, str]] = set()

    def count(nodes: list[NodeProto], depth: int) -> int:
        if depth > len(functions) + _DEEPEST or depth > 500:
            raise ValueError("functions or graphs nested without end")
        total = len(nodes)
        for node in nodes:
            total += called((node.domain, node.op_type), depth)
            for entry in node.attribute:
                for inner in (*entry.graphs, *([entry.g] if entry.HasField("g") else [])):
                    total += count(list(inner.node), depth + 1)
            if total > _MOST_NODES:
                raise ValueError(f"more than {_MOST_NODES} nodes, functions put in place")
        return total

    def called(name: tuple[str, str], depth: int) -> int:
        if name not in functions:
            return 0
        if name in open_calls:
            raise ValueError(f"function {quoted(name[1])} calls itself")
        if name not in counts:
            open_calls.add(name)
            counts[name] = count(functions[name], depth + 1)
            open_calls.discard(name)
        return counts[name]

    count(list(model.graph.node), 0)


def _check_names(*names: str | bytes) -> None:
    """Raise where a name is no text, which protobuf then gives as bytes, or as long as no name is."""
    for name in names:
        if isinstance(name, bytes):
            name.decode()
        elif len(name) > _LONGEST_NAME:
            raise ValueError(f"a name of {len(name)} characters")


def _check_shape(value: onnx.ValueInfoProto) -> None:
    _check_names(value.name)
    kind = value.type.tensor_type
    if kind.HasField("shape") and any(axis.dim_value < -1 for axis in kind.shape.dim):
        raise ValueError(f"tensor {quoted(value.name)} has an axis of negative length")


def _check_tensor(tensor: TensorProto) -> None:
    _check_names(tensor.name)
    name = quoted(tensor.name)
    if any(length < 0 for length in tensor.dims):
        raise ValueError(f"tensor {name} has an axis of negative length")
    if tensor.data_location == TensorProto.EXTERNAL:
        return  # in a file of its own, whose length is compared where it is read
    count = math.prod(tensor.dims)
    expected, found = _lengths(tensor, count, name)
    if expected != found:
        raise ValueError(f"tensor {name} of shape {quoted(tuple(tensor.dims))} takes {expected}, found {found}")


def _lengths(tensor: TensorProto, count: int, name: str) -> tuple[str, str]:
    """Return how much a tensor of `count` numbers holds where it is whole, and how much it does hold."""
    bits = _bits(tensor.data_type)
    if bits is None:
        raise ValueError(f"tensor {name} is of an unknown type ({tensor.data_type})")
    if tensor.HasField("raw_data"):
        return f"{(count * bits + 7) // 8} bytes", f"{len(tensor.raw_data)} bytes"
    if tensor.data_type in _IN_PAIRS:
        return f"{2 * count} numbers", f"{len(getattr(tensor, _IN_PAIRS[tensor.data_type]))} numbers"
    held = len(getattr(tensor, _ONE_BY_ONE.get(tensor.data_type, "int32_data")))
    packed = (count * bits + 7) // 8 if bits < 8 else count
    return f"{packed} numbers", f"{held} numbers"


@cache
def _bits(data_type: int) -> int | None:
    """Return the bits of a number of a type, 0 for text, None for a type that there is not."""
    if data_type == TensorProto.STRING:
        return 0
    try:
        name = TensorProto.DataType.Name(data_type)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
    except (KeyError, ValueError, TypeError):
        return None
    small = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return small.get(name, 8 * int(dtype.itemsize))


def _check_sparse(sparse: onnx.SparseTensorProto) -> None:
    _check_tensor(sparse.values)
    _check_tensor(sparse.indices)
    if any(length < 0 for length in sparse.dims) or math.prod(sparse.dims) * 8 > _LARGEST_SPARSE:
        raise ValueError(f"sparse tensor {quoted(sparse.values.name)} has the shape {quoted(list(sparse.dims))}")


def _check_node(node: NodeProto, opsets: Mapping[str, int]) -> None:
    _check_names(node.name, node.op_type, node.domain, *node.input, *node.output)
    _check_names(*(entry.name for entry in node.attribute))
    what = f"node {quoted(node.name or node.op_type)} ({quoted(node.op_type)})"
    wanted = _attribute_types(node.op_type, node.domain, opsets.get(node.domain, opsets.get("ai.onnx", 0)))
    for entry in node.attribute:
        if entry.ref_attr_name:
            continue  # of a function: its caller gives it
        if entry.type == AttributeProto.UNDEFINED:
            raise ValueError(f"attribute {quoted(entry.name)} of {what} has no type")
        if wanted.get(entry.name, entry.type) != entry.type:
            given, right = (AttributeProto.AttributeType.Name(kind) for kind in (entry.type, wanted[entry.name]))
            raise ValueError(f"attribute {quoted(entry.name)} of {what} is {given}, expected {right}")
        for tensor in (*entry.tensors, *([entry.t] if entry.HasField("t") else [])):
            _check_tensor(tensor)
        for sparse in (*entry.sparse_tensors, *([entry.sparse_tensor] if entry.HasField("sparse_tensor") else [])):
            _check_sparse(sparse)
        if entry.name in wanted:
            for text in (entry.s, *entry.strings):
                text.decode()


@cache
def _attribute_types(op_type: str, domain: str, version: int) -> dict[str, int]:
    """Return the types of an operator's attributes, empty for an operator that ONNX itself does not know."""
    try:
        schema = onnx.defs.get_schema(op_type, version or 1, "" if domain == "ai.onnx" else domain)
    except Exception:  # onnx raises a type of its own for an unknown operator or version
        return {}
    return {name: int(entry.type.value) for name, entry in schema.attributes.items()}
