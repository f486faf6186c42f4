"""What a method did to each operation of the user's network, as records for the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from veriquant.onnxgraph.graph import Graph, operation
from veriquant.onnxgraph.inspection import inspect_onnx
from veriquant.results import Layer
from veriquant.simulation import FP32, Plan, Simulation


def quantized_layers(
    onnx: bytes,
    graph: Graph,
    kept: Mapping[str, str],
    errors: Mapping[str, float] | None = None,
    stored: Collection[str] = (),
    weight_bits: int = 8,
) -> list[Layer]:
    """Return the layers of the user's network `onnx` after quantization.

    `graph` is what was quantized; an operation that is not in it any more was folded into its neighbour. `kept` maps
    the operations that stay in floating point to the reason; of these, `stored` have their weights in the file in
    `weight_bits` all the same. `errors`: see `sensitivity`.
    """
    parts: dict[str, list[str]] = {}
    for node in graph.nodes:
        parts.setdefault(operation(node.name), []).append(node.op_type)
    layers = []
    for layer in inspect_onnx(onnx).layers:
        made_of = parts.get(layer.name)
        in_float, packed = layer.name in kept, layer.name in stored
        reason = kept.get(layer.name, "")
        if made_of is None:
            reason = "folded into its neighbour"
        elif made_of != [layer.operation] and not in_float:
            reason = f"rewritten as {' + '.join(made_of)}"
        layers.append(
            layer.model_copy(
                update={
                    "weight_bits": None if not layer.parameters else 32 if in_float and not packed else weight_bits,
                    "activation_bits": 32 if in_float else 8,
                    "kept_float": in_float,
                    "reason": reason,
                    "error": (errors or {}).get(layer.name),
                }
            )
        )
    return layers


def mean_weight_bits(layers: Collection[Layer]) -> float | None:
    """Return the mean bits a weight is stored in, None where there are no weights; slopes of activations are none."""
    weighted = [(each.parameters, each.weight_bits) for each in layers if each.weight_bits is not None and each.macs]
    total = sum(parameters for parameters, _ in weighted)
    return sum(parameters * bits for parameters, bits in weighted) / total if total else None


def planned_layers(onnx: bytes, simulation: Simulation, plan: Plan, noise: Mapping[str, float]) -> list[Layer]:
    """Return the layers of the user's network `onnx` under a plan; `noise`: of each group quantized alone, by group."""
    precision = {
        operation: (name, plan.groups[name].precision())
        for name, group in simulation.groups.items()
        for operation in group.operations
    }
    simulated = {operation(node.name) for node in simulation.graph.nodes}
    layers = []
    for layer in inspect_onnx(onnx).layers:
        name, bits = precision.get(layer.name, ("", FP32))
        in_float = layer.name in simulated and bits == FP32
        reason = "" if layer.name in simulated else "folded into its neighbour"
        if in_float and layer.name in precision:
            reason = "the plan leaves it in floating point"
        elif in_float:
            reason = "carried along by the kernel before it, or outside the layers with weights"
        layers.append(
            layer.model_copy(
                update={
                    "weight_bits": None if not layer.parameters else bits.weight_bits,
                    "activation_bits": bits.activation_bits,
                    "kept_float": in_float and bool(layer.macs),
                    "reason": reason,
                    "error": noise.get(name),
                }
            )
        )
    return layers
