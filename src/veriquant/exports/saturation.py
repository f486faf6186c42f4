"""Weights that cannot saturate x86's 8-bit multiply-add, in as many of their 8 bits as that allows.

Without VNNI, a U8S8 product is computed with an instruction (vpmaddubsw) that adds two neighbouring products of an
unsigned and a signed byte and *saturates* the sum at 16 bits. 255·(|q₁|+|q₂|) stays inside for |q₁|+|q₂| ≤ 128. The
usual cure halves every weight (7 bits) although few pairs are that large. Here each output channel gets the least scale
for which its own greatest weight and its own greatest pair keep within 127, which rounding may raise by one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from veriquant.onnxgraph.graph import Array, Graph, attribute, groups

_GREATEST = 127
_PAIR = 127


def paired_scales(graph: Graph, weight_type: Any, keep_float: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the tool's override of the scale of every output channel of every convolution and linear layer.

    Depth-wise convolutions are left alone: their kernels add in 32 bits.
    """
    overrides: dict[str, list[dict[str, Any]]] = {}
    users = graph.consumers()
    for node in graph.nodes:
        weight = graph.weight(node)
        if node.op_type not in ("Conv", "Gemm") or weight is None or node.name in keep_float:
            continue
        if len(users[node.input[1]]) > 1 or (node.op_type == "Conv" and groups(node) > 1):
            continue
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
        scales = channel_scales(np.moveaxis(weight, axis, 0))
        overrides[node.input[1]] = [
            {"quant_type": weight_type, "axis": axis, "scale": np.float32(s), "zero_point": np.int8(0)} for s in scales
        ]
    return overrides


def channel_scales(weight: Array) -> Array:
    """Return the scale of each output channel of `weight`, (outputs, inputs, ...), as float64 (outputs,).

    A kernel lays the inputs of one output in a row, channels last or (unfolded without a change of layout) channels
    first; pairs begin at even places. Both orders are kept within bounds.
    """
    outputs = len(weight)
    channels_first = np.abs(weight.reshape(outputs, -1))
    channels_last = np.abs(np.moveaxis(weight, 1, -1).reshape(outputs, -1))
    greatest = channels_first.max(axis=1)
    pair = np.maximum(_greatest_pair(channels_first), _greatest_pair(channels_last))
    scales = np.maximum(greatest / _GREATEST, pair / _PAIR).astype(np.float64)
    return np.where(scales > 0, scales, 1.0)


def _greatest_pair(magnitudes: Array) -> Array:
    if magnitudes.shape[1] % 2:
        magnitudes = np.pad(magnitudes, ((0, 0), (0, 1)))
    pairs: Array = (magnitudes[:, 0::2] + magnitudes[:, 1::2]).max(axis=1)
    return pairs
