"""Weights of layers that compute in floating point, stored in 8 bits all the same: the file need not pay for them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import torch

from veriquant.deploy.pack import PackedWeight, pack_onnx
from veriquant.onnxgraph.graph import WEIGHTED, Graph, is_transposed
from veriquant.schemes import SCHEMES

#: Smaller weights are not worth the operators that decode them.
_SMALLEST = 1024


def store_in_eight_bits(content: bytes, names: Collection[str]) -> tuple[bytes, set[str]]:
    """Return a model in which weights of the nodes called `names` are 8-bit codes, one scale per output channel.

    The runtime decodes them when it loads the file, so that it computes as fast as before. Second, the names of the
    nodes whose weights these are: small ones are not worth it.
    """
    graph = Graph(onnx.load_model_from_string(content), own_names=True)
    weights = {}
    for node in graph.nodes:
        weight = graph.weight(node) if node.op_type in WEIGHTED and node.name in names else None
        if weight is None or weight.dtype != np.float32 or weight.size < _SMALLEST:
            continue
        rows = torch.from_numpy((weight.T if is_transposed(node) else weight).copy())
        weights[node.name] = PackedWeight(SCHEMES.get("symmetric").for_weights()(rows, 8, "mse").codes(rows))
    return (pack_onnx(graph, weights, {}) if weights else content), set(weights)
