"""Quantizers of activations in a graph: QuantizeLinear and DequantizeLinear, whatever the number of bits.

ONNX quantizes to 8 or 16 bits. For fewer than 8 the codes of an 8-bit QuantizeLinear are clipped as integers, which
leaves its rounding as it is and lets ONNX Runtime fuse the quantizers with the kernels around them; for 9 to 15 bits,
for which there are no such kernels and no Clip of uint16, the values are clipped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from veriquant.deploy.pack.packed_tensors import PackedActivation
from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.onnxgraph.graph import PART, Graph


def write_activations(
    graph: Graph, activations: Mapping[str, PackedActivation], bypass: Collection[str], pool: Pool
) -> None:
    """Let every user of the tensors named in `activations` read them quantized, but for the nodes named in `bypass`."""
    for tensor, levels in activations.items():
        _quantize(graph, tensor, levels, bypass, pool)


def _quantize(graph: Graph, tensor: str, levels: PackedActivation, bypass: Collection[str], pool: Pool) -> None:
    producer = graph.producers().get(tensor)
    readers = [node for node in graph.consumers().get(tensor, []) if node.name not in bypass]
    if not readers and tensor != graph.output:
        return
    owner = tensor if producer is None else producer.name
    parts = Parts(owner, pool)
    source = tensor
    result = None
    if tensor == graph.output:
        assert producer is not None
        source, result = f"{owner}{PART}float", tensor
        _rename(producer.output, tensor, source)
        for node in graph.consumers().get(tensor, []):
            if node.name in bypass:
                _rename(node.input, tensor, source)
    made = _write(parts, source, levels, result)
    if result is None:
        for node in readers:
            _rename(node.input, tensor, made)
    if producer is None:
        graph.nodes[:0] = parts.nodes
    else:
        graph.replace(producer, [producer, *parts.nodes])


def _write(parts: Parts, source: str, levels: PackedActivation, result: str | None) -> str:
    top = (1 << levels.bits) - 1
    dtype = np.uint8 if levels.bits <= 8 else np.uint16
    scale = np.float32(levels.scale)
    if 8 < levels.bits < 16:
        bounds = [np.float32(code - levels.zero_point) * scale for code in (0, top)]
        source = parts.add("Clip", [source, *(parts.constant(np.array(b), "bound") for b in bounds)], "clipped")
    step = [parts.constant(np.array(scale), "step"), parts.constant(np.array(levels.zero_point, dtype), "zero")]
    codes = parts.add("QuantizeLinear", [source, *step], "q")
    if levels.bits < 8:
        codes = parts.add("Clip", [codes, "", parts.constant(np.array(top, dtype), "top")], "top")
    return parts.add("DequantizeLinear", [codes, *step], "dq", result)


def _rename(names: list[str], old: str, new: str) -> None:
    for position, name in enumerate(names):
        if name == old:
            names[position] = new
