"""Equalising the channels of a tensor before it is quantized with one scale for all of them.

One scale per tensor serves its widest channel; a channel that is a hundred times narrower is left with two or three
levels. Between two layers that allow it (`chains`) channels may be scaled. Nagel et al. 2019 equalise the weights of
the two (`equalise_weights`); here it is the measured *activations*, because weights may have a scale per channel:

- the next layer is depth-wise: its weights follow for free, so every channel gets the same range;
- the next layer mixes channels: s = r^α / w^(1−α), r the channel's range and w the greatest weight that it meets, as in
  Xiao et al. 2023, 'SmoothQuant', equation 4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veriquant.deploy.sessions import watch
from veriquant.onnxgraph.graph import Array, Graph, groups
from veriquant.onnxgraph.rewrites.scaling import input_magnitudes
from veriquant.recovery.chains import Chain, find_chains

#: A channel narrower than this share of the widest is treated as that wide: dead channels must not blow up.
_FLOOR = 1e-3


def equalise_activations(
    graph: Graph, inputs: npt.NDArray[np.float32], *, alpha: float = 0.8, percentile: float = 99.99
) -> int:
    """Equalise the channels between every two layers that allow it, in place; return how many tensors.

    `inputs`: calibration images, float32, shaped as the network takes them. A channel's range is the given percentile
    of its magnitude, the greatest over chunks of images. The network's function does not change.
    """
    chains = find_chains(graph)
    if not chains:
        return 0
    ranges = _channel_ranges(graph, chains, inputs, percentile)
    for chain, measured in zip(chains, ranges, strict=True):
        if not measured.max() > 0:
            continue
        factor = _factors(graph, chain, np.maximum(measured, _FLOOR * measured.max()), alpha)
        chain.rescale(graph, factor)
    return len(chains)


def _channel_ranges(
    graph: Graph, chains: list[Chain], inputs: npt.NDArray[np.float32], percentile: float
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


def _factors(graph: Graph, chain: Chain, ranges: Array, alpha: float) -> Array:
    channels = len(ranges)
    if all(follower.op_type == "Conv" and groups(follower) == channels for follower in chain.followers):
        return np.asarray(ranges / ranges.max())
    met = np.max([input_magnitudes(graph, follower, channels) for follower in chain.followers], axis=0)
    met = np.maximum(met, _FLOOR * met.max())
    factor = ranges**alpha / met ** (1 - alpha)
    return np.asarray(factor / np.exp(np.log(factor).mean()))
