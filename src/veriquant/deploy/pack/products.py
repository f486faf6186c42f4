"""Operations on codes in float: sums of integers, which come out alike in every runtime, with the scales behind them.

A kernel in float that reads decoded values sums them in an order of its own. The last bits differ, here and there a
code differs for it, and dozens of layers of rounding make other embeddings of that. Of codes the sums are integers,
exact in float32 below 2**24; what follows, a factor and a bias for each channel, is one rounding each, the same
everywhere.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from veriquant.deploy.pack.arrays import to_array
from veriquant.deploy.pack.packed_tensors import PackedActivation, PackedWeight
from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.deploy.pack.weights import write_codes
from veriquant.onnxgraph.graph import PART, Array, Graph, attribute

#: Codes of more bits make sums that float32 does not hold: those of the input are then taken apart into two bytes.
_MOST_BITS = 8
_BYTE = 256.0


def computes_codes(graph: Graph, node: NodeProto, packed: PackedWeight, reads: PackedActivation | None) -> bool:
    """Return whether `node` can be written as a product of codes: whole levels on both sides, weights of 8 bits."""
    if not packed.exact or reads is None or packed.codes.bits > _MOST_BITS:
        return False
    if not packed.codes.whole:
        return False
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1 and not attribute(node, "transA", 0)
    has_bias = len(node.input) > 2 and bool(node.input[2])
    return plain and (not has_bias or graph.weight(node, 2) is not None)


def write_product(
    graph: Graph, node: NodeProto, packed: PackedWeight, reads: PackedActivation, transposed: bool, pool: Pool
) -> None:
    """Write `node` as a product of integers, its scale and its bias, in place."""
    codes = packed.codes
    before, after = Parts(node.name, pool), Parts(node.name, pool)
    values = node.input[0]
    bias = graph.weight(node, 2)
    step = before.constant(np.array(reads.scale, np.float32), "step")
    inputs = _codes_read(graph, node.input[0], before, step)
    weight = write_codes(before, codes, transposed)
    output = node.output[0]
    # A Mul or Add right behind a kernel is folded into its weights, which are then no integers: hence the holds.
    if reads.bits > _MOST_BITS:
        held = _two_sums(node, inputs, weight, before, after)
    else:
        node.input[:] = [inputs, weight]
        node.output[0] = f"{node.name}{PART}sums"
        held = after.add("LeakyRelu", [node.output[0]], "hold", alpha=1.0)
    row = after.constant(_along_channels(to_array(codes.scale), node), "scale")
    scale = after.add("Mul", [row, step], "scale_of_sums")
    if bias is None:
        after.add("Mul", [held, scale], "scaled", output)
    else:
        scaled = after.add("Mul", [held, scale], "scaled")
        after.add("Add", [scaled, after.constant(_along_channels(bias, node), "bias")], "biased", output)
    graph.replace(node, [*before.nodes, node, *after.nodes])
    _drop_unread(graph, values)


def _two_sums(node: NodeProto, codes: str, weight: str, before: Parts, after: Parts) -> str:
    """Let `node` sum the low bytes of its input's codes and a twin of it the high ones; return their joint sum."""
    byte = before.constant(np.array(_BYTE, np.float32), "byte")
    high = before.add("Floor", [before.add("Div", [codes, byte], "shifted")], "high")
    low = before.add("Sub", [codes, before.add("Mul", [high, byte], "high_part")], "low")
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    node.input[:] = [low, weight]
    node.output[0] = f"{node.name}{PART}sums"
    held = after.add("LeakyRelu", [node.output[0]], "hold", alpha=1.0)
    twin = after.add(node.op_type, [high, weight], "high_sums", **attributes)
    scaled = after.add("Mul", [after.add("LeakyRelu", [twin], "high_hold", alpha=1.0), byte], "high_scaled")
    return after.add("Add", [scaled, held], "sum")


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
