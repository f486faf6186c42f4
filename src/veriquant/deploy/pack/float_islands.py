"""Making what computes in floating point between quantizers stay there.

ONNX Runtime takes a float convolution or Gemm between a DequantizeLinear and a QuantizeLinear for one that somebody
forgot to quantize: its optimizer (WeightBiasQuantization) quantizes the weight itself, with a single scale for the
whole tensor, ruinous for a depth-wise layer, and runs the layer in integers. It looks through ReLU and Clip. An
activation that changes nothing, LeakyRelu with slope 1, in front of the QuantizeLinear stops it, and is fused into the
layer's kernel.
"""

from __future__ import annotations

from collections.abc import Collection

from onnx import NodeProto

from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.onnxgraph.graph import PART, Graph

_SEIZED = ("Conv", "ConvTranspose", "Gemm")
_LOOKED_THROUGH = ("Relu", "Clip")


def hold_in_float(graph: Graph, names: Collection[str], *, every: bool = False) -> None:
    """Keep ONNX Runtime from computing the nodes called `names` in integers; the quantizers stand in `graph` already.

    `every`: the same for operations without weights, such as an addition, whose integer kernels round otherwise than
    the sum of decoded values.
    """
    decoded = {node.output[0] for node in graph.nodes if node.op_type == "DequantizeLinear"}
    for node in [n for n in graph.nodes if n.name in names]:
        seized = node.op_type in _SEIZED or (every and any(name in decoded for name in node.input))
        if seized and _is_quantized(graph, node.output[0]):
            _hold(graph, node)


def _hold(graph: Graph, node: NodeProto) -> None:
    output, inner = node.output[0], f"{node.name}{PART}float"
    hold = Parts(node.name, Pool(graph))
    node.output[0] = inner
    hold.add("LeakyRelu", [inner], "hold", output, alpha=1.0)
    graph.replace(node, [node, *hold.nodes])


def _is_quantized(graph: Graph, tensor: str) -> bool:
    for user in graph.consumers().get(tensor, []):
        if user.op_type == "QuantizeLinear":
            return True
        if user.op_type in _LOOKED_THROUGH and _is_quantized(graph, user.output[0]):
            return True
    return False
