"""A network under a plan as one ONNX file."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from veriquant.deploy.pack.packed_tensors import PackedActivation, PackedWeight
from veriquant.deploy.pack.write_onnx import pack_onnx
from veriquant.errors import VeriQuantError
from veriquant.schemes import AffineQuantizer, Codes
from veriquant.simulation import Plan, QuantizerCache, Simulation
from veriquant.simulation.precision import FLOAT_BITS


def pack_planned(simulation: Simulation, fitted: QuantizerCache, plan: Plan) -> bytes:
    """Return the ONNX model of a simulated network under `plan`, its weights stored in their own bits.

    For a target with integer kernels the file is laid out so that ONNX Runtime computes in them wherever a group reads
    and writes at most 8 bits: fast, and as near to the simulation as its kernels' rounding. For the others it computes
    in float on the codes themselves, so that its embeddings are those of the simulation.
    """
    integers = simulation.table.integer_kernels
    parts = planned_parts(simulation, fitted, plan)
    weights = {name: PackedWeight(codes, integer=integers, exact=not integers) for name, codes in parts.codes.items()}
    biases = {name: bias.numpy() for name, bias in parts.biases.items()}
    return pack_onnx(simulation.graph, weights, parts.levels, biases=biases)


@dataclass(frozen=True)
class PlannedParts:
    """What a plan makes of a network: codes and biases by operation, levels of activations by tensor."""

    codes: dict[str, Codes]
    biases: dict[str, Tensor]
    levels: dict[str, PackedActivation]


def planned_parts(simulation: Simulation, fitted: QuantizerCache, plan: Plan) -> PlannedParts:
    """Return what every file of a network under `plan` holds; groups in floating point are not in it."""
    parts = PlannedParts({}, {}, {})
    for name, settings in plan.groups.items():
        precision, group = settings.precision(), simulation.groups[name]
        if precision.weight_bits < FLOAT_BITS:
            for operation in group.weights:
                rounded = fitted.weight(operation, precision.weight_bits, settings.scheme)
                parts.codes[operation] = rounded.quantizer.codes(rounded.weight)
                if rounded.bias is not None:
                    parts.biases[operation] = rounded.bias
        if precision.activation_bits < FLOAT_BITS:
            for tensor in group.activations:
                parts.levels[tensor] = _levels(fitted, tensor, precision.activation_bits)
    return parts


def _levels(fitted: QuantizerCache, tensor: str, bits: int) -> PackedActivation:
    quantizer = fitted.activation(tensor, bits)
    if not isinstance(quantizer, AffineQuantizer):
        raise VeriQuantError(
            f"activation scheme {fitted.activation_scheme!r} has no uniform levels, which an ONNX file needs"
        )
    return PackedActivation(float(quantizer.scale), int(quantizer.zero_point), bits)
