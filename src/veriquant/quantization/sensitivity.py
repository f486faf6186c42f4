"""Which operation is to blame: the error at the network's output when one operation alone is quantized.

For each operation of the user's network (with the parts it was rewritten into, and with the ReLU or Clip that its
kernel applies on the way out) a copy of the floating-point graph gets quantizers on that operation's weights and on
the activations it reads and writes, and on nothing else. The error is the noise-to-signal ratio of the embeddings, mean
over images of ‖F − Q(F)‖² / ‖F‖²: for small values twice one minus the cosine. No labels are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from veriquant.onnxgraph.graph import WEIGHTED, Array, Graph, attribute, operation
from veriquant.progress import track
from veriquant.quantization.activations import embeddings_of
from veriquant.quantization.ranges import Range

#: Operators that every kernel applies on the way out: a quantizer stands after them, not between.
FUSED = ("Relu", "Clip")
_LEVELS = 255


def operations(graph: Graph, fused: Collection[str] = FUSED) -> dict[str, list[NodeProto]]:
    """Return the operations that are quantized as one, in order: name and nodes.

    An operator of `fused`, such as a ReLU or Clip, belongs to the operation before it: a quantizer between the two
    would have to span values that the clipping is there to remove.
    """
    producers, users = graph.producers(), graph.consumers()
    leader: dict[str, str] = {}
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        name = operation(node.name)
        before = producers.get(node.input[0]) if node.op_type in fused and node.input else None
        if before is not None and len(users[node.input[0]]) == 1:
            name = leader[before.name]
        leader[node.name] = name
        found.setdefault(name, []).append(node)
    return found


def operation_errors(
    graph: Graph,
    ranges: Mapping[str, Range],
    inputs: npt.NDArray[np.float32],
    candidates: Mapping[str, Sequence[NodeProto]],
    fused: Collection[str] = FUSED,
) -> dict[str, float]:
    """Return the noise-to-signal ratio at the output for each operation in `candidates`, quantized alone."""
    model = graph.to_model()
    reference = embeddings_of(model.SerializeToString(), inputs)
    errors = {}
    for name in track(candidates, "error of each operation quantized alone", total=len(candidates)):
        probe = _quantized_alone(model, graph, candidates[name], ranges, fused)
        errors[name] = noise_to_signal(reference, embeddings_of(probe, inputs, integers=False))
    return errors


def noise_to_signal(reference: Array, embeddings: Array) -> float:
    """Return the mean over rows of ‖reference − embeddings‖² / ‖reference‖²."""
    noise = np.square(reference - embeddings).sum(axis=1)
    return float((noise / np.square(reference).sum(axis=1)).mean())


def _quantized_alone(
    model: onnx.ModelProto,
    graph: Graph,
    nodes: Sequence[NodeProto],
    ranges: Mapping[str, Range],
    fused: Collection[str],
) -> bytes:
    tensors = _quantized_tensors(graph, nodes, fused) & ranges.keys()
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    weights = {node.input[1]: node for node in nodes if node.op_type in WEIGHTED and graph.weight(node) is not None}
    for entry in probe.graph.initializer:
        if entry.name in weights:
            rounded = _rounded_weight(numpy_helper.to_array(entry), weights[entry.name])
            entry.CopyFrom(numpy_helper.from_array(rounded, entry.name))
    placed: list[NodeProto] = []
    if graph.input in tensors:
        placed += _quantizer(probe, graph.input, ranges[graph.input])
    for node in probe.graph.node:
        for position, tensor in enumerate(node.input):
            if tensor in tensors:
                node.input[position] = f"{tensor}::rounded"
        placed.append(node)
        for tensor in node.output:
            if tensor in tensors:
                placed += _quantizer(probe, tensor, ranges[tensor])
    copies = [NodeProto.FromString(node.SerializeToString()) for node in placed]
    del probe.graph.node[:]
    probe.graph.node.extend(copies)
    content: bytes = probe.SerializeToString()
    return content


def _quantized_tensors(graph: Graph, nodes: Sequence[NodeProto], fused: Collection[str]) -> set[str]:
    users = graph.consumers()
    found: set[str] = set()
    for node in nodes:
        found.update(tensor for tensor in node.input if tensor not in graph.constants)
        found.update(node.output)
    before_fused = {t for t in found if users.get(t) and all(user.op_type in fused for user in users[t])}
    return found - before_fused - {graph.output, ""}


def _quantizer(probe: onnx.ModelProto, tensor: str, span: Range) -> list[NodeProto]:
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = (high - low) / _LEVELS or 1.0
    names = [f"{tensor}::scale", f"{tensor}::zero"]
    probe.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(scale, dtype=np.float32), names[0]),
            numpy_helper.from_array(np.array(round(-low / scale), dtype=np.uint8), names[1]),
        ]
    )
    return [
        helper.make_node("QuantizeLinear", [tensor, *names], [f"{tensor}::code"]),
        helper.make_node("DequantizeLinear", [f"{tensor}::code", *names], [f"{tensor}::rounded"]),
    ]


def _rounded_weight(weight: Array, node: NodeProto) -> Array:
    """Round to 8 bits, symmetric, one scale per output channel."""
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / (_LEVELS // 2)
    scale = np.where(scale > 0, scale, 1.0)
    rounded: Array = (np.round(weight / scale) * scale).astype(np.float32)
    return rounded
