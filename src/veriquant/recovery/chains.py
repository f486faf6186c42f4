"""`Chain`: where the channels between two layers may be scaled without changing the network.

Between two layers with a positively homogeneous function in between (ReLU, PReLU, none), a channel may be divided by
s > 0 before and multiplied by s after: f(s·x) = s·f(x) (Nagel et al. 2019, 'Data-Free Quantization Through Weight
Equalization and Bias Correction', section 4.1). ReLU6, which clips from above, is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from veriquant.onnxgraph.graph import Array, Graph
from veriquant.onnxgraph.rewrites.scaling import scale_inputs, scale_outputs

_HOMOGENEOUS = ("PRelu", "Relu", "LeakyRelu")


@dataclass(frozen=True)
class Chain:
    """A convolution, the tensors up to the next layers, and those layers: all that read the last tensor."""

    producer: NodeProto
    tensors: tuple[str, ...]
    followers: tuple[NodeProto, ...]

    def rescale(self, graph: Graph, factor: Array) -> None:
        """Divide every channel by its `factor`, (channels,), and let the next layers multiply by it, in place."""
        scale_outputs(graph, self.producer, 1.0 / factor)
        for follower in self.followers:
            scale_inputs(graph, follower, factor)


def find_chains(graph: Graph) -> list[Chain]:
    """Return the chains of a graph in the order of their first layers."""
    users = graph.consumers()
    shapes = graph.shapes()
    found = []
    for node in graph.nodes:
        if node.op_type != "Conv" or graph.weight(node) is None:
            continue
        if len(node.input) > 2 and node.input[2] and graph.weight(node, 2) is None:
            continue
        tensor = node.output[0]
        tensors = [tensor]
        while len(users.get(tensor, [])) == 1 and _carries_channels(graph, users[tensor][0], tensor, shapes):
            tensor = users[tensor][0].output[0]
            if users.get(tensor) and len(shapes.get(tensor, ())) == 4:
                tensors.append(tensor)
        followers = users.get(tensor, [])
        if tensor != graph.output and followers and all(_scalable(graph, f, tensor) for f in followers):
            found.append(Chain(node, tuple(tensors), tuple(followers)))
    return found


def _carries_channels(graph: Graph, node: NodeProto, tensor: str, shapes: dict[str, tuple[int | None, ...]]) -> bool:
    if node.input[0] != tensor:
        return False
    if node.op_type in _HOMOGENEOUS:
        return True
    if node.op_type == "Clip":
        return _is_relu(graph, node)
    # Flattening keeps each channel together; a Reshape is not followed, since its target may do anything.
    return node.op_type == "Flatten" and len(shapes.get(node.input[0], ())) == 4


def _is_relu(graph: Graph, node: NodeProto) -> bool:
    """Tell whether a Clip cuts off what is below zero, and nothing else."""
    low = graph.weight(node, 1)
    bounded = len(node.input) > 2 and node.input[2] != ""
    high = graph.weight(node, 2) if bounded else np.float32(np.inf)
    return low is not None and high is not None and bool(low == 0) and bool(np.isposinf(high))


def _scalable(graph: Graph, node: NodeProto, tensor: str) -> bool:
    if node.op_type not in ("Conv", "Gemm") or node.input[0] != tensor:
        return False
    return graph.weight(node) is not None
