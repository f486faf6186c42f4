"""Folding the factors of a Gemm: alpha·x·W + beta·b is x·(alpha·W) + (beta·b), whose weight is what codes stand for."""

from __future__ import annotations

from veriquant.onnxgraph.graph import Graph, attribute


def fold_factors(graph: Graph) -> int:
    """Fold alpha and beta of every Gemm with constant weight and bias into these; return how many had any."""
    folded = 0
    for node in [n for n in graph.nodes if n.op_type == "Gemm"]:
        alpha, beta = (float(attribute(node, name, 1.0)) for name in ("alpha", "beta"))
        weight, bias = graph.weight(node), graph.weight(node, 2)
        has_bias = len(node.input) > 2 and bool(node.input[2])
        if alpha == beta == 1 or weight is None or (has_bias and bias is None):
            continue
        graph.set_weight(node, 1, alpha * weight)
        if bias is not None:
            graph.set_weight(node, 2, beta * bias)
        kept = [entry for entry in node.attribute if entry.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
        folded += 1
    return folded
