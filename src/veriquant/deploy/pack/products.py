"""Operations on codes in float: sums of integers, which come out alike in every runtime, with the scales behind them.

A kernel in float that reads decoded values sums them in an order of its own. The last bits differ, here and there a
code differs for it, and dozens of layers of rounding make other embeddings of that. Of codes the sums are integers,
exact in float32 below 2**24; what follows, a factor and a bias for each channel, is one rounding each, the same
everywhere.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from veriquant.deploy.pack.arrays import to_array
from veriquant.deploy.pack.levels import ActivationLevels, PackedWeight
from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.deploy.pack.weights import write_codes
from veriquant.onnxgraph.graph import PART, Array, Graph, attribute

#: Codes of more bits make sums that float32 does not hold.
_MOST_BITS = 8


def computes_codes(graph: Graph, node: NodeProto, packed: PackedWeight, reads: ActivationLevels | None) -> bool:
    """Return whether `node` can be written as a product of codes: uniform levels of at most 8 bits on both sides."""
    if not packed.exact or reads is None or max(reads.bits, packed.codes.bits) > _MOST_BITS:
        return False
    if packed.codes.zero_point is None:
        return False
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1 and not attribute(node, "transA", 0)
    has_bias = len(node.input) > 2 and bool(node.input[2])
    return plain and (not has_bias or graph.weight(node, 2) is not None)


def write_product(
    graph: Graph, node: NodeProto, packed: PackedWeight, reads: ActivationLevels, transposed: bool, pool: Pool
) -> None:
    """Write `node` as a product of integers, its scale and its bias, in place."""
    codes = packed.codes
    before, after = Parts(node.name, pool), Parts(node.name, pool)
    values = node.input[0]
    bias = graph.weight(node, 2)
    step = before.constant(np.array(reads.scale, np.float32), "step")
    inputs = _codes_read(graph, node.input[0], before, step)
    weight = write_codes(before, codes, transposed)
    output, inner = node.output[0], f"{node.name}{PART}sums"
    node.input[:] = [inputs, weight]
    node.output[0] = inner
    # A Mul or Add right behind a kernel is folded into its weights, which are then no integers any more.
    held = after.add("LeakyRelu", [inner], "hold", alpha=1.0)
    row = after.constant(_along_channels(to_array(codes.scale), node), "scale")
    scale = after.add("Mul", [row, step], "scale_of_sums")
    if bias is None:
        after.add("Mul", [held, scale], "scaled", output)
    else:
        scaled = after.add("Mul", [held, scale], "scaled")
        after.add("Add", [scaled, after.constant(_along_channels(bias, node), "bias")], "biased", output)
    graph.replace(node, [*before.nodes, node, *after.nodes])
    _drop_unread(graph, values)


def _codes_read(graph: Graph, tensor: str, parts: Parts, step: str) -> str:
    """Return the name of the integers that a tensor on its levels stands for: code − zero point, as float."""
    decoder = graph.producers().get(tensor)
    if decoder is None or decoder.op_type != "DequantizeLinear":
        # rearranged since: back from the values, which are whole multiples of the step
        return parts.add("Round", [parts.add("Div", [tensor, step], "ratio")], "codes")
    one = parts.constant(np.array(1.0, np.float32), "one")
    return parts.add("DequantizeLinear", [decoder.input[0], one, decoder.input[2]], "codes")


def _drop_unread(graph: Graph, tensor: str) -> None:
    """Remove the decoder of a tensor whose values nobody reads any more."""
    decoder = graph.producers().get(tensor)
    if decoder is not None and decoder.op_type == "DequantizeLinear" and not graph.consumers().get(tensor):
        graph.replace(decoder, [])


def _along_channels(value: Array, node: NodeProto) -> Array:
    """Return one number for each output channel, or for all, so that it broadcasts over what `node` writes."""
    if node.op_type != "Conv" or value.ndim == 0:
        return value
    axes = len(attribute(node, "kernel_shape", (0, 0)))
    return value.reshape(-1, *[1] * axes)
