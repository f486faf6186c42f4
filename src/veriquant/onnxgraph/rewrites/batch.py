"""Freeing the batch axis of a network that was exported for a fixed number of images."""

from __future__ import annotations

from veriquant.onnxgraph.graph import Graph


def free_batch(graph: Graph) -> int:
    """Let every Reshape to a constant shape keep its input's first axis where it named the fixed batch; return how many.

    A Reshape's 0 copies the input's axis, so that nothing changes for the batch that the network was exported for.
    """
    shapes = graph.shapes()
    fixed = shapes.get(graph.input, (None,))[0]
    if fixed is None:
        return 0
    freed = 0
    for node in graph.nodes:
        target = graph.weight(node) if node.op_type == "Reshape" else None
        source = shapes.get(node.input[0], ())
        if target is not None and len(target) and source and source[0] == target[0] == fixed:
            name = f"{node.output[0]}::shape"
            graph.constants[name] = target.copy()
            graph.constants[name][0] = 0
            node.input[1] = name
            freed += 1
    return freed
