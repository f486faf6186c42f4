"""What is inside an ONNX network: operations, parameters, multiply-accumulates, weight ranges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from veriquant.onnxgraph.graph import WEIGHTED, Graph, attribute
from veriquant.results import Layer

#: Operators that take no part in the arithmetic: they move or view data, or change its type.
_SILENT = ("Identity", "Reshape", "Flatten", "Shape", "Gather", "Unsqueeze", "Squeeze", "Cast", "Constant", "Slice")

Shapes = dict[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class NetworkInfo:
    """A network's layers in order, and its totals for one image."""

    layers: list[Layer]
    parameters: int
    """All floating-point constants of the file."""
    learned: int
    """The same without the running means and variances of batch-normalisations: what papers count."""
    macs: int
    weight_ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """(least, greatest) weight by layer name."""
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Shape of each layer's output, where it is known; the batch axis comes first."""


def inspect_onnx(onnx: bytes) -> NetworkInfo:
    """Return the layers of a float ONNX network, with parameters and multiply-accumulates (MACs) of one image each."""
    return inspect_graph(Graph.from_bytes(onnx))


def inspect_graph(graph: Graph) -> NetworkInfo:
    """Return the same for a graph that is open already; its edits so far count."""
    shapes = graph.shapes()
    layers, spans, outputs = [], {}, {}
    seen: set[str] = set()
    statistics: set[str] = set()
    for node in graph.nodes:
        if node.op_type in _SILENT:
            continue
        own = [name for name in node.input if name in graph.constants and name not in seen]
        seen.update(own)
        if node.op_type == "BatchNormalization":
            statistics.update(node.input[3:5])
        floats = [graph.constants[name] for name in own if np.issubdtype(graph.constants[name].dtype, np.floating)]
        layers.append(
            Layer(
                name=node.name,
                operation=node.op_type,
                parameters=sum(value.size for value in floats),
                macs=_macs(graph, node, shapes),
            )
        )
        weight = graph.weight(node)
        if node.op_type in WEIGHTED and weight is not None:
            spans[node.name] = (float(weight.min()), float(weight.max()))
        outputs[node.name] = shapes.get(node.output[0], ())
    parameters = sum(layer.parameters for layer in layers)
    return NetworkInfo(
        layers=layers,
        parameters=parameters,
        learned=parameters - sum(graph.constants[name].size for name in statistics if name in graph.constants),
        macs=sum(layer.macs for layer in layers),
        weight_ranges=spans,
        shapes=outputs,
    )


def _macs(graph: Graph, node: NodeProto, shapes: Shapes) -> int:
    weight = graph.weight(node)
    output = shapes.get(node.output[0])
    if node.op_type not in WEIGHTED or output is None:
        return 0
    positions = [length or 1 for length in output[1:]]
    if weight is None:
        # Two computed matrices, as in attention; other operators with a computed weight are not counted.
        inner = shapes.get(node.input[0], ())[-1:] if node.op_type == "MatMul" else ()
        return int(np.prod(positions) * (inner[0] or 0)) if inner else 0
    if node.op_type == "Conv":
        return int(np.prod(positions) * np.prod(weight.shape[1:]))
    inputs = weight.shape[1] if attribute(node, "transB", 0) else weight.shape[0]
    return int(np.prod(positions) * inputs)
