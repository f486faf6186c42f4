"""A network under a plan as one ONNX file."""

from __future__ import annotations

from veriquant.deploy.pack.levels import ActivationLevels, PackedWeight
from veriquant.deploy.pack.onnx_file import pack_onnx
from veriquant.errors import VeriQuantError
from veriquant.schemes import AffineQuantizer
from veriquant.simulation import Fitted, Plan, Simulation
from veriquant.simulation.precision import FLOAT_BITS


def pack_planned(simulation: Simulation, fitted: Fitted, plan: Plan) -> bytes:
    """Return the ONNX model of a simulated network under `plan`, its weights stored in their own bits.

    For a target with integer kernels the file is laid out so that ONNX Runtime computes in them wherever a group reads
    and writes at most 8 bits: fast, and as near to the simulation as its kernels' rounding. For the others it computes
    in float on the codes themselves, so that its embeddings are those of the simulation.
    """
    integers = simulation.table.integer_kernels
    weights: dict[str, PackedWeight] = {}
    biases = {}
    activations: dict[str, ActivationLevels] = {}
    for name, settings in plan.groups.items():
        precision, group = settings.precision(), simulation.groups[name]
        if precision.weight_bits < FLOAT_BITS:
            for operation in group.weights:
                rounded = fitted.weight(operation, precision.weight_bits, settings.scheme)
                codes = rounded.quantizer.codes(rounded.weight)
                weights[operation] = PackedWeight(codes, integer=integers, exact=not integers)
                if rounded.bias is not None:
                    biases[operation] = rounded.bias.numpy()
        if precision.activation_bits < FLOAT_BITS:
            for tensor in group.activations:
                activations[tensor] = _levels(fitted, tensor, precision.activation_bits)
    return pack_onnx(simulation.graph, weights, activations, biases=biases)


def _levels(fitted: Fitted, tensor: str, bits: int) -> ActivationLevels:
    quantizer = fitted.activation(tensor, bits)
    if not isinstance(quantizer, AffineQuantizer):
        raise VeriQuantError(
            f"activation scheme {fitted.activation_scheme!r} has no uniform levels, which an ONNX file needs"
        )
    return ActivationLevels(float(quantizer.scale), int(quantizer.zero_point), bits)
