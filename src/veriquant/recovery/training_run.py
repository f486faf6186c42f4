"""What recoveries that train are given and give back, and the student that they train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from veriquant.allocation.solver import Allocated
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.model import CalibratedModel
from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.recovery.qat_config import QatConfig
from veriquant.recovery.training_session import Split, TrainingSession, open_session
from veriquant.results import StageRecord
from veriquant.schemes import SCHEMES, LearnableWeight, Quantizer, Scheme
from veriquant.simulation.precision import FLOAT_BITS, Precision
from veriquant.simulation.trainable import Trainable


@dataclass(frozen=True)
class TrainingRequest:
    """A calibrated model under an allocation, and the images to train it on.

    `key`: all that came before and decides what training comes to, as plain data: it goes into the hash under which a
    training is kept. `student`: what an earlier training left, to be trained on; None: the first.
    """

    model: CalibratedModel
    allocated: Allocated
    calibration: Calibration
    split: Split
    context: QuantizationContext
    key: Mapping[str, Any]
    student: Trainable | None = None

    def session(self, config: QatConfig) -> TrainingSession:
        """Return what the model is trained with."""
        return open_session(self.model, config, self.calibration, self.split, self.context)

    def key_of(self, session: TrainingSession, method: str) -> dict[str, Any]:
        """Return what a training depends on."""
        digests = [self.calibration.digest, session.training_set.digest]
        config = session.config.decisive()
        return {**self.key, "network": self.model.network.digest, "method": method, "digests": digests, **config}


@dataclass
class Trained:
    """What training came to; its levels are in the model's quantizers."""

    student: Trainable
    precisions: dict[str, Precision]
    note: dict[str, Any]
    """What a plan says of it, under 'trained' and beside it."""
    records: list[StageRecord] = field(default_factory=list)
    average_bits: float | None = None
    """Where weights have widths of their own."""
    by_layer: dict[str, float] = field(default_factory=dict)
    """Average bits of each layer, where weights have widths of their own."""
    iteration: int | None = None


def weight_bits(model: CalibratedModel, precisions: Mapping[str, Precision]) -> dict[str, int]:
    """Return the width of each operation's weight that is quantized, by operation."""
    return {
        operation: precisions[name].weight_bits
        for name, group in model.simulation.groups.items()
        if name in precisions and precisions[name].weight_bits < FLOAT_BITS
        for operation in group.weights
    }


def weight_schemes(model: CalibratedModel, allocated: Allocated) -> dict[str, str]:
    """Return the scheme of each operation's weight: the recipe's, or what a plan says of its group."""
    given = {} if allocated.plan is None else allocated.plan.groups
    return {
        operation: (given[name].scheme if name in given else None) or model.quantizers.weight_scheme
        for name, group in model.simulation.groups.items()
        for operation in group.weights
    }


def activation_levels(
    model: CalibratedModel, precisions: Mapping[str, Precision], config: QatConfig
) -> dict[str, Quantizer]:
    """Return the levels of every quantized tensor, as they are trained, beginning with those that calibration found."""
    scheme = SCHEMES.get(model.quantizers.activation_scheme)
    found = {}
    for name, group in model.simulation.groups.items():
        bits = precisions[name].activation_bits if name in precisions else FLOAT_BITS
        if bits < FLOAT_BITS:
            for tensor in group.activations:
                found[tensor] = _learning_activation(scheme, model.quantizers.activation(tensor, bits), config)
    return found


def weight_levels(
    model: CalibratedModel, bits: Mapping[str, int], schemes: Mapping[str, str], config: QatConfig
) -> dict[str, LearnableWeight]:
    """Return the levels of the weights in `bits`, by operation, beginning with those that calibration found."""
    found = {}
    for operation, width in bits.items():
        scheme = SCHEMES.get(schemes[operation])
        rounded = model.quantizers.weight(operation, width, scheme.name)
        weight = model.simulation.weighted(operation).weight.detach()
        made = learning_weight(scheme, rounded.quantizer, weight, config)
        # Weights that AdaRound rounded lie on levels already, from which training moves them on.
        if made.latent is None and model.rounding == "adaround" and scheme.uniform:
            made = LearnableWeight(made.quantizer, rounded.weight)
        found[operation] = made
    return found


def corrected_biases(model: CalibratedModel, bits: Mapping[str, int], schemes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the biases that make up for rounded weights, where they are corrected."""
    if not model.bias_correction:
        return {}
    found = {}
    for operation, width in bits.items():
        bias = model.quantizers.weight(operation, width, schemes[operation]).bias
        if bias is not None:
            found[operation] = bias
    return found


def learning_weight(scheme: Scheme, fitted: Quantizer, weight: Tensor, config: QatConfig) -> LearnableWeight:
    """Return a weight's levels as they are trained; `VeriQuantError` where the scheme cannot."""
    if config.range_learning == "observed":
        if scheme.observe is None:
            raise VeriQuantError(_cannot(scheme, config))
        return LearnableWeight(scheme.observe(fitted, False))
    if scheme.learn_weight is None:
        raise VeriQuantError(_cannot(scheme, config))
    return scheme.learn_weight(fitted, weight)


def _learning_activation(scheme: Scheme, fitted: Quantizer, config: QatConfig) -> Quantizer:
    if config.range_learning == "observed":
        if scheme.observe is None:
            raise VeriQuantError(_cannot(scheme, config))
        return scheme.observe(fitted, True)
    if scheme.learn_activation is None:
        raise VeriQuantError(_cannot(scheme, config))
    return scheme.learn_activation(fitted)


def trains(scheme: Scheme, range_learning: str, *, weights: bool) -> bool:
    """Tell whether a scheme's levels can be trained."""
    if range_learning == "observed":
        return scheme.observe is not None
    return (scheme.learn_weight if weights else scheme.learn_activation) is not None


def _cannot(scheme: Scheme, config: QatConfig) -> str:
    return (
        f"levels of scheme {scheme.name!r} cannot be trained with range_learning {config.range_learning!r}: choose "
        "symmetric or asymmetric"
    )


def float_operations(model: CalibratedModel, bits: Mapping[str, int]) -> set[str]:
    """Return the operations whose weights stay in floating point for good: a plan has them as they were."""
    return {name for group in model.simulation.groups.values() for name in group.weights} - set(bits)


def freeze_student(
    model: CalibratedModel, student: Trainable, bits: Mapping[str, int], schemes: Mapping[str, str]
) -> None:
    """Put what a student has become into the model's quantizers, where its plan finds it."""
    student.freeze_into(model.quantizers, {name: (bits[name], schemes[name]) for name in bits})
