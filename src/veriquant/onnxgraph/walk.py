"""What hangs below the nodes of an ONNX graph: subgraphs, the outer tensors that they read, every stored tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

#: The two names of ONNX's own operator set.
OWN_DOMAINS = ("", "ai.onnx")


def is_standard(node: NodeProto) -> bool:
    """Return whether a node is of ONNX's own operator set."""
    return node.domain in OWN_DOMAINS


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs in a node's attributes: the branches of an If, the body of a Loop or a Scan."""
    for entry in node.attribute:
        if entry.type == AttributeProto.GRAPH:
            yield entry.g
        elif entry.type == AttributeProto.GRAPHS:
            yield from entry.graphs


def captured(node: NodeProto) -> list[str]:
    """Return the outer tensors that a node's subgraphs read, in order, without repetition."""
    return list(dict.fromkeys(name for graph in subgraphs(node) for name in _outer(graph)))


def _outer(graph: GraphProto) -> Iterator[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in graph.output if value.name not in own)


def reads(node: NodeProto) -> list[str]:
    """Return every tensor that a node reads: its inputs, and what its subgraphs take from outside."""
    return [*(name for name in node.input if name), *captured(node)]


def rename_reads(node: NodeProto, names: Mapping[str, str]) -> None:
    """Let a node, and its subgraphs, read other tensors: old name -> new name."""
    for position, name in enumerate(node.input):
        if name in names:
            node.input[position] = names[name]
    for graph in subgraphs(node):
        _rename_outer(graph, names)


def _rename_outer(graph: GraphProto, names: Mapping[str, str]) -> None:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    outer = {old: new for old, new in names.items() if old not in own}
    if not outer:
        return
    for node in graph.node:
        rename_reads(node, outer)
    for value in graph.output:
        value.name = outer.get(value.name, value.name)


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes and those of their subgraphs, however deep."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every subgraph of its nodes, however deep."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every stored tensor: initializers and attributes, of subgraphs and functions too."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in (*all_nodes(model.graph.node), *(n for f in model.functions for n in all_nodes(f.node))):
        for entry in node.attribute:
            if entry.HasField("t"):
                yield entry.t
            yield from entry.tensors
            if entry.HasField("sparse_tensor"):
                yield from (entry.sparse_tensor.values, entry.sparse_tensor.indices)
    for function in model.functions:
        for node in function.node:
            for inner in subgraphs(node):
                for graph in all_graphs(inner):
                    yield from graph.initializer
