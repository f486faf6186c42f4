"""Which operations ONNX Runtime can compute in integers, and with which codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onnx import NodeProto

from veriquant.deploy.pack.integer import IntegerWeight, bias_codes, integer_weight
from veriquant.deploy.pack.packed_tensors import PackedActivation, PackedWeight
from veriquant.onnxgraph.graph import Array, Graph, attribute

#: What may stand between a kernel and the quantizer of what it writes: it is fused into the kernel.
_FUSED = ("Relu", "Clip")
#: What rearranges values without changing them.
_REARRANGING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity")


@dataclass(frozen=True)
class IntegerKernel:
    """An operation in integers: its weight, its bias as int32 codes or None, and the levels that it reads."""

    weight: IntegerWeight
    bias: Array | None
    reads: PackedActivation


def integer_kernels(
    graph: Graph,
    weights: Mapping[str, PackedWeight],
    activations: Mapping[str, PackedActivation],
    bypass: Collection[str],
    exact: bool,
) -> dict[str, IntegerKernel]:
    """Return the kernel of every operation that asks for integers and can have them, by the node's name."""
    found = {}
    for node in graph.nodes:
        if node.name in weights and weights[node.name].integer and node.name not in bypass:
            kernel = _kernel(graph, node, weights[node.name], activations, bypass, exact)
            if kernel is not None:
                found[node.name] = kernel
    return found


def _kernel(
    graph: Graph,
    node: NodeProto,
    packed: PackedWeight,
    activations: Mapping[str, PackedActivation],
    bypass: Collection[str],
    exact: bool,
) -> IntegerKernel | None:
    reads = levels_read(graph, node.input[0], activations, bypass)
    weight = integer_weight(packed.codes, exact)
    if reads is None or reads.bits > 8 or weight is None:
        return None
    # A convolution without a quantizer behind it has no integer kernel; a product with a matrix may write float.
    if node.op_type == "Conv" and not _writes_codes(graph, node.output[0], activations):
        return None
    if node.op_type == "Gemm" and (
        attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1 or attribute(node, "transA", 0)
    ):
        return None
    if len(node.input) < 3 or not node.input[2]:
        return IntegerKernel(weight, None, reads)
    bias = graph.weight(node, 2)
    if bias is None or bias.ndim != 1:
        return None
    codes = bias_codes(bias, weight, reads.scale)
    return None if codes is None else IntegerKernel(weight, codes, reads)


def levels_read(
    graph: Graph, tensor: str, activations: Mapping[str, PackedActivation], bypass: Collection[str]
) -> PackedActivation | None:
    """Return the levels that a tensor's values lie on, also where they were only rearranged since."""
    if tensor in activations:
        return activations[tensor]
    maker = graph.producers().get(tensor)
    if maker is None or maker.op_type not in _REARRANGING or maker.name in bypass:
        return None
    return levels_read(graph, maker.input[0], activations, bypass)


def _writes_codes(graph: Graph, tensor: str, activations: Mapping[str, PackedActivation]) -> bool:
    if tensor in activations:
        return activations[tensor].bits <= 8
    users = graph.consumers().get(tensor, [])
    return len(users) == 1 and users[0].op_type in _FUSED and _writes_codes(graph, users[0].output[0], activations)
