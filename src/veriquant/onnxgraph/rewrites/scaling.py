"""Scaling the channels between two layers: a factor on one layer's outputs, its inverse on the next one's inputs."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from veriquant.onnxgraph.graph import Array, Graph, attribute, groups


def scale_outputs(graph: Graph, convolution: NodeProto, factor: Array) -> None:
    """Multiply the output channels of a convolution by `factor`, (channels,)."""
    weight = graph.weight(convolution)
    assert weight is not None
    graph.set_weight(convolution, 1, weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
    bias = graph.weight(convolution, 2)
    if bias is not None:
        graph.set_weight(convolution, 2, bias * factor)


def scale_inputs(graph: Graph, layer: NodeProto, factor: Array) -> None:
    """Make a Conv or Gemm behave as if its input channels were first multiplied by `factor`, (channels,).

    A Gemm may read a flattened image: then each channel is a run of inputs of equal length.
    """
    weight = graph.weight(layer)
    assert weight is not None
    graph.set_weight(layer, 1, weight * _input_factors(layer, weight, factor))


def input_magnitudes(graph: Graph, layer: NodeProto, channels: int) -> Array:
    """Return the greatest magnitude of the weights that each input channel of a Conv or Gemm meets, (channels,)."""
    weight = graph.weight(layer)
    assert weight is not None
    magnitude = np.abs(weight)
    if layer.op_type == "Gemm":
        by_input = magnitude.max(axis=0 if attribute(layer, "transB", 0) else 1)
        flattened: Array = by_input.reshape(channels, -1).max(axis=1)
        return flattened
    count = groups(layer)
    grouped = magnitude.reshape(count, weight.shape[0] // count, weight.shape[1], -1)
    met: Array = grouped.max(axis=(1, 3)).reshape(-1)
    return met


def _input_factors(layer: NodeProto, weight: Array, factor: Array) -> Array:
    if layer.op_type == "Gemm":
        inputs = weight.shape[1 if attribute(layer, "transB", 0) else 0]
        by_input = np.repeat(factor, inputs // len(factor))
        return by_input.reshape((1, -1) if attribute(layer, "transB", 0) else (-1, 1))
    outputs, inputs = weight.shape[:2]
    count = groups(layer)
    # Weight (output, input within the group, ...): output o of group g reads the inputs g·inputs … (g+1)·inputs.
    by_output = np.repeat(factor.reshape(count, inputs), outputs // count, axis=0)
    return by_output.reshape(outputs, inputs, *[1] * (weight.ndim - 2))
