"""Merging a Clip that follows a Clip: clip(clip(x, a, b), c, d) is one clip where the ranges nest or overlap."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from veriquant.onnxgraph.graph import PART, Graph


def merge_clips(graph: Graph) -> int:
    """Merge every pair of Clips with constant bounds of which nothing else uses the middle; return how many."""
    merged = 0
    for second in [n for n in graph.nodes if n.op_type == "Clip"]:
        first = graph.producers().get(second.input[0])
        if first is None or first.op_type != "Clip" or len(graph.consumers()[second.input[0]]) != 1:
            continue
        inner, outer = _bounds(graph, first), _bounds(graph, second)
        if inner is None or outer is None:
            continue
        (a, b), (c, d) = inner, outer
        # Clipping is monotone, so the composition is a clip to the second's image of the first's bounds.
        low, high = min(max(a, c), d), min(max(b, c), d)
        names = []
        for label, value in (("min", low), ("max", high)):
            name = f"{second.name}{PART}{label}"
            graph.constants[name] = np.array(value, dtype=np.float32)
            names.append(name if np.isfinite(value) else "")
        del second.input[:]
        second.input.extend([first.input[0], *names])
        graph.replace(first, [])
        merged += 1
    return merged


def _bounds(graph: Graph, node: NodeProto) -> tuple[float, float] | None:
    found = []
    for position, default in ((1, -np.inf), (2, np.inf)):
        named = len(node.input) > position and node.input[position]
        value = graph.weight(node, position)
        if named and value is None:
            return None
        found.append(default if value is None else float(value))
    return found[0], found[1]
