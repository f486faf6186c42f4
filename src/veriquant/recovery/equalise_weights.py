"""Cross-layer equalisation: the weights of two layers in a row get equal ranges, channel by channel.

A layer whose channels differ much in range loses the narrow ones to one scale for all, on the output side where it has
one scale per tensor and on the input side always. With r₁ the range of the weights that make a channel and r₂ that of
the weights that read it, s = √(r₁·r₂)/r₂ makes both √(r₁·r₂) (Nagel et al. 2019, 'Data-Free Quantization Through Weight
Equalization and Bias Correction', section 4.1). It needs no images. Since a layer in the middle of three takes part
twice, all pairs are gone over until nothing moves any more.
"""

from __future__ import annotations

import numpy as np

from veriquant.onnxgraph.graph import Array, Graph
from veriquant.onnxgraph.rewrites.scaling import input_magnitudes
from veriquant.recovery.chains import Chain, find_chains

#: Equalised once no channel of any pair would be scaled by more than this from 1.
_TOLERANCE = 1e-3
#: No channel is scaled by more than this at a time: what is nearly dead must not blow up.
_MOST = 1e3


def equalise_weights(graph: Graph, *, passes: int = 50) -> int:
    """Equalise the weights of every two layers that allow it, in place; return how many tensors lie between such.

    A channel whose weights are all zero on either side stays as it is. Ends after `passes` rounds at the latest. The
    network's function does not change.
    """
    chains = find_chains(graph)
    for _ in range(passes):
        furthest = 0.0
        for chain in chains:
            factor = _factor(graph, chain)
            chain.rescale(graph, factor)
            furthest = max(furthest, float(np.abs(factor - 1).max()))
        if furthest < _TOLERANCE:
            break
    return len(chains)


def _factor(graph: Graph, chain: Chain) -> Array:
    """Return what each channel is divided by, (channels,)."""
    weight = graph.weight(chain.producer)
    assert weight is not None
    made = np.abs(weight).reshape(len(weight), -1).max(axis=1).astype(np.float64)
    read = np.max([input_magnitudes(graph, follower, len(weight)) for follower in chain.followers], axis=0)
    alive = (made > 0) & (read > 0)
    factor = np.sqrt(np.where(alive, made, 1.0) / np.where(alive, read, 1.0))
    return np.asarray(np.clip(factor, 1 / _MOST, _MOST))
