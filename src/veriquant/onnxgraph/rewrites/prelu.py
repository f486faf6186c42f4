"""PReLU in operators that have fast float kernels and integer ones.

ONNX Runtime computes PReLU outside its blocked convolution layout and has no integer kernel for it: on MobileFaceNet
it takes more than half of the time, and each one forces a change of layout or a round trip through float. Two equal
forms:

*One convolution.* For slopes a ≤ 1, PReLU(x) = x + ReLU(−(1−a)·x): a depth-wise 1×1 convolution that ends in a ReLU,
and an addition. A slope beyond ±1 is brought inside by scaling its channel, PReLU being positively homogeneous: with
a > 1, x' = −a·x gives PReLU_a(x) = −PReLU_{1/a}(x'); with a < −1, x' = a·x gives PReLU_a(x) = PReLU_{1/a}(x'). The
factor goes into the convolution before, the sign into the convolutions after.

*Two convolutions*, where those neighbours are not there: PReLU(x) = x + s·ReLU(−|1−a|·x) with s the sign of 1−a.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from veriquant.onnxgraph.graph import PART, Array, Graph
from veriquant.onnxgraph.rewrites.scaling import scale_inputs, scale_outputs


def rewrite_prelu(graph: Graph) -> int:
    """Rewrite every PReLU with constant slopes on 4-D tensors; return how many."""
    shapes = graph.shapes()
    changed = 0
    for node in [n for n in graph.nodes if n.op_type == "PRelu"]:
        slope = graph.weight(node)
        shape = shapes.get(node.input[0])
        if slope is None or shape is None or len(shape) != 4 or shape[1] is None:
            continue
        channels = shape[1]
        if slope.ndim > 4 or slope.size not in (1, channels) or not _along_channels(slope):
            continue
        slopes = np.broadcast_to(slope.astype(np.float64).reshape(-1), (channels,)).copy()
        if (np.abs(slopes) > 1).any():
            slopes = _brought_inside(graph, node, slopes)
        graph.replace(node, _parts(graph, node, slopes))
        changed += 1
    return changed


def _along_channels(slope: Array) -> bool:
    """Tell whether slopes differ along axis 1 of four alone; a single axis is the last, the width."""
    return all(length == 1 for axis, length in enumerate(reversed(slope.shape)) if axis != 2)


def _brought_inside(graph: Graph, node: NodeProto, slopes: Array) -> Array:
    """Scale a PReLU's neighbours so that no slope lies beyond ±1, if they allow it; return the slopes then."""
    producer = graph.producers().get(node.input[0])
    users = graph.consumers()
    followers = users.get(node.output[0], [])
    if (
        producer is None
        or producer.op_type != "Conv"
        or graph.weight(producer) is None
        or (len(producer.input) > 2 and graph.weight(producer, 2) is None)
        or len(users[node.input[0]]) != 1
        or node.output[0] == graph.output
        or not followers
        or not all(follower.op_type == "Conv" and graph.weight(follower) is not None for follower in followers)
    ):
        return slopes
    beyond = np.abs(slopes) > 1
    factor = np.where(beyond, np.where(slopes > 1, -slopes, slopes), 1.0)
    sign = np.where(slopes > 1, -1.0, 1.0)
    scale_outputs(graph, producer, factor)
    for follower in followers:
        scale_inputs(graph, follower, sign)
    return np.where(beyond, 1.0 / np.where(beyond, slopes, 1.0), slopes)


def _parts(graph: Graph, node: NodeProto, slopes: Array) -> list[NodeProto]:
    channels = len(slopes)
    x, y = node.input[0], node.output[0]
    name = f"{node.name}{PART}"
    graph.constants[f"{name}weight"] = (-np.abs(1 - slopes)).reshape(channels, 1, 1, 1).astype(np.float32)
    depthwise = {"group": channels, "kernel_shape": [1, 1]}
    parts = [
        helper.make_node("Conv", [x, f"{name}weight"], [f"{name}scaled"], f"{name}scale", **depthwise),
        helper.make_node("Relu", [f"{name}scaled"], [f"{name}negative"], f"{name}relu"),
    ]
    correction = f"{name}negative"
    if (slopes > 1).any():
        graph.constants[f"{name}sign"] = np.sign(1 - slopes).reshape(channels, 1, 1, 1).astype(np.float32)
        correction = f"{name}signed"
        parts.append(
            helper.make_node("Conv", [f"{name}negative", f"{name}sign"], [correction], f"{name}turn", **depthwise)
        )
    parts.append(helper.make_node("Add", [x, correction], [y], f"{name}add"))
    return parts
