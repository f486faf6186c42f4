"""The operations of a network that are quantized as one."""

from __future__ import annotations

from collections.abc import Collection

from onnx import NodeProto

from veriquant.onnxgraph.graph import Graph, operation

#: Operators that every kernel applies on the way out: a quantizer stands after them, not between.
FUSED = ("Relu", "Clip")


def operations(graph: Graph, fused: Collection[str] = FUSED) -> dict[str, list[NodeProto]]:
    """Return the operations that are quantized as one, in order: name and nodes.

    An operator of `fused`, such as a ReLU or Clip, belongs to the operation before it: a quantizer between the two
    would have to span values that the clipping is there to remove.
    """
    producers, users = graph.producers(), graph.consumers()
    leader: dict[str, str] = {}
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        name = operation(node.name)
        before = producers.get(node.input[0]) if node.op_type in fused and node.input else None
        if before is not None and len(users[node.input[0]]) == 1:
            name = leader[before.name]
        leader[node.name] = name
        found.setdefault(name, []).append(node)
    return found
