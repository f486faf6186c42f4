"""Equalising the channels of a tensor before it is quantized with one scale for all of them.

One scale per tensor serves its widest channel; a channel that is a hundred times narrower is left with two or three
levels. Between two layers with a positively homogeneous function in between (ReLU, PReLU, none), a channel may be
divided by s > 0 before and multiplied by s after without changing the network (Nagel et al. 2019, 'Data-Free
Quantization Through Weight Equalization and Bias Correction', section 4.1). There s equalises two weight tensors; here
it equalises the measured *activations*, because weights have a scale per output channel already:

- the next layer is depth-wise: its weights follow for free, so every channel gets the same range;
- the next layer mixes channels: s = r^α / w^(1−α), r the channel's range and w the greatest weight that it meets, as in
  Xiao et al. 2023, 'SmoothQuant', equation 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from veriquant.onnxgraph.graph import Array, Graph, groups
from veriquant.onnxgraph.rewrites.scaling import input_magnitudes, scale_inputs, scale_outputs
from veriquant.quantization.activations import watch

_HOMOGENEOUS = ("PRelu", "Relu", "LeakyRelu")
#: A channel narrower than this share of the widest is treated as that wide: dead channels must not blow up.
_FLOOR = 1e-3


@dataclass(frozen=True)
class _Chain:
    """A convolution, the tensors up to the next layers, and those layers."""

    producer: NodeProto
    tensors: tuple[str, ...]
    followers: tuple[NodeProto, ...]


def equalise(graph: Graph, inputs: npt.NDArray[np.float32], *, alpha: float = 0.8, percentile: float = 99.99) -> int:
    """Equalise the channels between every two layers that allow it, in place; return how many tensors.

    `inputs`: calibration images, float32, shaped as the network takes them. A channel's range is the given percentile
    of its magnitude, the greatest over chunks of images. The network's function does not change.
    """
    chains = _chains(graph)
    if not chains:
        return 0
    ranges = _channel_ranges(graph, chains, inputs, percentile)
    for chain, measured in zip(chains, ranges, strict=True):
        if not measured.max() > 0:
            continue
        factor = _factors(graph, chain, np.maximum(measured, _FLOOR * measured.max()), alpha)
        scale_outputs(graph, chain.producer, 1.0 / factor)
        for follower in chain.followers:
            scale_inputs(graph, follower, factor)
    return len(chains)


def _chains(graph: Graph) -> list[_Chain]:
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
        while len(users.get(tensor, [])) == 1 and _carries_channels(users[tensor][0], shapes):
            tensor = users[tensor][0].output[0]
            if users.get(tensor) and len(shapes.get(tensor, ())) == 4:
                tensors.append(tensor)
        followers = users.get(tensor, [])
        if tensor != graph.output and followers and all(_scalable(graph, f, tensor) for f in followers):
            found.append(_Chain(node, tuple(tensors), tuple(followers)))
    return found


def _carries_channels(node: NodeProto, shapes: dict[str, tuple[int | None, ...]]) -> bool:
    if node.op_type in _HOMOGENEOUS:
        return True
    # Flattening keeps each channel together; a Reshape is not followed, since its target may do anything.
    return node.op_type == "Flatten" and len(shapes.get(node.input[0], ())) == 4


def _scalable(graph: Graph, node: NodeProto, tensor: str) -> bool:
    if node.op_type not in ("Conv", "Gemm") or node.input[0] != tensor:
        return False
    return graph.weight(node) is not None


def _channel_ranges(
    graph: Graph, chains: list[_Chain], inputs: npt.NDArray[np.float32], percentile: float
) -> list[Array]:
    tensors = sorted({tensor for chain in chains for tensor in chain.tensors})
    greatest: dict[str, Array] = {}
    for values in watch(graph, tensors, inputs):
        for tensor, value in values.items():
            by_channel = np.abs(value).swapaxes(0, 1).reshape(value.shape[1], -1)
            # The k-th greatest of each channel: what np.percentile would interpolate, at a fraction of its time.
            rank = min(by_channel.shape[1] - 1, int(np.ceil(by_channel.shape[1] * percentile / 100)) - 1)
            seen = np.partition(by_channel, rank, axis=1)[:, rank]
            greatest[tensor] = np.maximum(greatest.get(tensor, 0.0), seen)
    return [np.max([greatest[tensor] for tensor in chain.tensors], axis=0).astype(np.float64) for chain in chains]


def _factors(graph: Graph, chain: _Chain, ranges: Array, alpha: float) -> Array:
    channels = len(ranges)
    if all(follower.op_type == "Conv" and groups(follower) == channels for follower in chain.followers):
        return np.asarray(ranges / ranges.max())
    met = np.max([input_magnitudes(graph, follower, channels) for follower in chain.followers], axis=0)
    met = np.maximum(met, _FLOOR * met.max())
    factor = ranges**alpha / met ** (1 - alpha)
    return np.asarray(factor / np.exp(np.log(factor).mean()))
