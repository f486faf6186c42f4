"""Folding batch normalisation into the convolution or linear layer before it, and what is left into a convolution.

Inference-time batch normalisation is y = a·x + b per channel with a = γ/√(σ²+ε) and b = β − a·μ, so that after a
convolution or linear layer it is that layer with other weights. Where no such layer stands before it (iresnet's blocks
begin with one), it is a depth-wise 1×1 convolution, for which runtimes have integer kernels.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from veriquant.onnxgraph.graph import PART, Array, Graph, attribute

Shapes = dict[str, tuple[int | None, ...]]


def fold_batchnorm(graph: Graph) -> int:
    """Fold or rewrite every BatchNormalization with constant parameters; return how many."""
    changed = 0
    shapes = graph.shapes()  # once: folding changes no tensor's shape
    for node in [n for n in graph.nodes if n.op_type == "BatchNormalization"]:
        affine = _affine(graph, node)
        if affine is None:
            continue
        scale, shift = affine
        changed += _into_producer(graph, node, scale, shift, shapes) or _as_convolution(
            graph, node, scale, shift, shapes
        )
    return changed


def _affine(graph: Graph, node: NodeProto) -> tuple[Array, Array] | None:
    found = [graph.weight(node, position) for position in range(1, 5)]
    gamma, beta, mean, variance = found
    if gamma is None or beta is None or mean is None or variance is None or attribute(node, "training_mode", 0):
        return None
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + attribute(node, "epsilon", 1e-5))
    return scale, beta - scale * mean


def _into_producer(graph: Graph, node: NodeProto, scale: Array, shift: Array, shapes: Shapes) -> bool:
    source = node.input[0]
    producer = graph.producers().get(source)
    if producer is None or len(graph.consumers()[source]) != 1 or source == graph.output:
        return False
    weight = graph.weight(producer)
    if weight is None:
        return False
    if producer.op_type == "MatMul":
        # A MatMul has no place for the shift; a Gemm, the same product, has. Only a matrix times a matrix is a Gemm.
        shape = shapes.get(producer.input[0])
        if weight.ndim != 2 or shape is None or len(shape) != 2:
            return False
        producer.op_type = "Gemm"
    if producer.op_type == "Conv":
        axis = 0
    elif producer.op_type == "Gemm" and attribute(producer, "alpha", 1.0) == attribute(producer, "beta", 1.0) == 1.0:
        axis = 0 if attribute(producer, "transB", 0) else 1
    else:
        return False
    bias = graph.weight(producer, 2)
    if bias is None and len(producer.input) > 2 and producer.input[2]:
        return False
    along = [1] * weight.ndim
    along[axis] = -1
    graph.set_weight(producer, 1, weight * scale.reshape(along))
    graph.set_weight(producer, 2, (0.0 if bias is None else bias) * scale + shift)
    producer.output[0] = node.output[0]
    graph.replace(node, [])
    return True


def _as_convolution(graph: Graph, node: NodeProto, scale: Array, shift: Array, shapes: Shapes) -> bool:
    shape = shapes.get(node.input[0])
    if shape is None or len(shape) != 4:
        return False
    channels = len(scale)
    part = f"{node.name}{PART}scale"
    graph.constants[f"{part}.weight"] = scale.reshape(channels, 1, 1, 1).astype(np.float32)
    graph.constants[f"{part}.bias"] = shift.astype(np.float32)
    inputs = [node.input[0], f"{part}.weight", f"{part}.bias"]
    graph.replace(
        node,
        [helper.make_node("Conv", inputs, [node.output[0]], part, group=channels, kernel_shape=[1, 1])],
    )
    return True
