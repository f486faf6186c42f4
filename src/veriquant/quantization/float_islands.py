"""Making a layer that is left in floating point stay there.

ONNX Runtime takes a float convolution or Gemm between a DequantizeLinear and a QuantizeLinear for one that somebody
forgot to quantize: its optimizer (WeightBiasQuantization) quantizes the weight itself, with a single scale for the
whole tensor, ruinous for a depth-wise layer, and runs the layer in integers. It looks through ReLU and Clip. An
activation that changes nothing, LeakyRelu with slope 1, in front of the QuantizeLinear stops it, and is fused into the
layer's kernel.
"""

from __future__ import annotations

from collections.abc import Collection

from onnx import helper

from veriquant.onnxgraph.graph import PART, Graph

_SEIZED = ("Conv", "ConvTranspose", "Gemm")
_LOOKED_THROUGH = ("Relu", "Clip")


def hold_in_float(graph: Graph, keep_float: Collection[str]) -> tuple[Graph, list[str]]:
    """Return a copy of `graph` in which the layers named in `keep_float` stay in float, and the names of its new nodes.

    Only a layer of which a quantized node reads the output is in danger.
    """
    if not keep_float:
        return graph, []
    held = graph.copy()
    anchors = []
    for node in [n for n in held.nodes if n.op_type in _SEIZED and n.name in keep_float]:
        if node.output[0] == held.output or not _read_in_integers(held, node.output[0], keep_float):
            continue
        output, inner, name = node.output[0], f"{node.name}{PART}float", f"{node.name}{PART}hold"
        node.output[0] = inner
        held.replace(node, [node, helper.make_node("LeakyRelu", [inner], [output], name, alpha=1.0)])
        anchors.append(name)
    return held, anchors


def _read_in_integers(graph: Graph, tensor: str, keep_float: Collection[str]) -> bool:
    for user in graph.consumers().get(tensor, []):
        if user.name not in keep_float:
            return True
        if user.op_type in _LOOKED_THROUGH and _read_in_integers(graph, user.output[0], keep_float):
            return True
    return False
