"""`staged_qat`: quantization-aware training in stages.

- Under an allocation by magnitude (`allocation.magnitude`), weights of 8, 4 and 2 bits side by side, fewer in every
  iteration (Kolf et al., sections 3.3 and 4.5).
- Under any other, multi-stage fine-tuning (Liu et al., Algorithm 1): for each width, the narrowest first, the layers of
  at most that width are quantized and the network is trained, until all are.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from veriquant.allocation.magnitude import START, MaskState
from veriquant.allocation.magnitude_schedule import MagnitudeSchedule
from veriquant.calibration.model import CalibratedModel
from veriquant.deploy.pack.masked import entropy_coder
from veriquant.recovery.qat_config import QatConfig
from veriquant.recovery.step import RECOVERIES, TrainingRecovery
from veriquant.recovery.training_run import (
    Trained,
    TrainingRequest,
    activation_levels,
    float_operations,
    freeze_student,
    learning_weight,
    weight_bits,
    weight_schemes,
)
from veriquant.recovery.training_session import TrainingSession, train_qat
from veriquant.results import StageRecord
from veriquant.schemes import SCHEMES, PactQuantizer, Quantizer, WidthPerWeightQuantizer
from veriquant.simulation.precision import Precision
from veriquant.simulation.quantizer_cache import in_halves
from veriquant.simulation.trainable import Trainable

_BEGIN = {
    "first": "each from the 8-bit weights of the first",
    "previous": "each from the weights of the one before",
}


class StagedQatConfig(QatConfig):
    """Training in stages; the settings of `qat`, and the length of each stage."""

    begin: Literal["first", "previous"] = "previous"
    """A stage goes on from the weights of the one before, or as the source's iterations from those of the first."""
    epochs: int = Field(default=3, ge=1)
    """Of every stage but the first and the last."""
    first_epochs: int = Field(default=3, ge=1)
    """Of the first stage."""
    last_epochs: int = Field(default=3, ge=1)
    """Of the last: of an allocation by magnitude the one in which the largest weights go from 8 bits to 2 at once."""

    free: ClassVar[frozenset[str]] = QatConfig.free | {"first_epochs", "epochs", "last_epochs"}

    def length(self, stage: int, last: int) -> int:
        """Return the epochs of a stage, counted from 1."""
        if stage == 1:
            return self.first_epochs
        return self.last_epochs if stage == last else self.epochs


@dataclass(frozen=True)
class _Stage:
    """What an iteration came to."""

    state: MaskState
    sqnr: float
    history: str


def _train(request: TrainingRequest, config: StagedQatConfig) -> Trained:
    schedule = request.allocated.schedule
    return _widths_in_turn(request, config) if schedule is None else _iterations(request, config, schedule)


# ------------------------------------------------------------------------------------- multi-stage fine-tuning


def _widths_in_turn(request: TrainingRequest, config: StagedQatConfig) -> Trained:
    model, precisions = request.model, request.allocated.precisions
    session = request.session(config)
    bits, schemes = weight_bits(model, precisions), weight_schemes(model, request.allocated)
    before = model.noise_under(model.quantizers.change(precisions, codes=True))[1]
    widths = sorted(set(bits.values()))
    key = {**request.key_of(session, "staged_qat"), "widths": bits}
    held = float_operations(model, bits)
    student = Trainable(model.simulation, {}, activation_levels(model, precisions, config), held=held)
    records: list[StageRecord] = []
    lengths: list[int] = []
    with closing(session.batches):
        for number, width in enumerate(widths, 1):
            added = {name: each for name, each in bits.items() if each == width}
            student = _with_weights(model, student, added, schemes, config, held)
            lengths.append(config.length(number, len(widths)))
            part = f"stage {number} of {len(widths)}, layers of at most {width} bits"
            done = {**key, "lengths": list(lengths)}
            history = train_qat(session, student, done, epochs=lengths[-1], bits=float(width), part=part)
            records.append(
                StageRecord(
                    stage="recover",
                    name=f"stage {number}",
                    template="stage {stage}: {layers} layers of {bits} bits join; {history}",
                    figures={"stage": number, "layers": len(added), "bits": width, "history": history},
                )
            )
    freeze_student(model, student, bits, schemes)
    noise, after = model.noise_under(model.quantizers.change(precisions, codes=True))
    summary = StageRecord(
        stage="recover",
        name="staged_qat",
        template="trained by {by} in {stages} stages, the narrowest layers first: {before_db:.1f} dB signal to "
        "quantization noise at the output before training, {after_db:.1f} dB after, over {checked} (noise {noise:.2e})",
        figures={
            "by": session.summary,
            "stages": len(widths),
            "before_db": before,
            "after_db": after,
            "checked": session.checked,
            "noise": noise,
        },
    )
    return Trained(student, dict(precisions), {"trained": f"{len(widths)} stages"}, [*records, summary])


def _with_weights(
    model: CalibratedModel,
    student: Trainable,
    bits: dict[str, int],
    schemes: dict[str, str],
    config: StagedQatConfig,
    held: set[str],
) -> Trainable:
    """Return a student in which more weights are on levels, fitted to what the weights have become by now."""
    latent, biases = student.latent_weights(), student.latent_biases()
    levels = {name: quantizer for name, (_, quantizer) in student.quantized().items()}
    quantizers = model.quantizers
    for name, width in bits.items():
        scheme = SCHEMES.get(schemes[name])
        weight = latent[name]
        ranges = quantizers.weight_ranges or quantizers.ranges
        fitted = in_halves(scheme.for_weights()(weight, width, ranges))
        made = learning_weight(scheme, fitted, weight, config)
        levels[name] = made.quantizer
        if made.latent is not None:
            latent[name] = made.latent
    return Trainable(model.simulation, levels, student.activation_levels(), latent, biases, held=held)


# --------------------------------------------------------------------------- iterations of a mask by magnitude


def _iterations(request: TrainingRequest, config: StagedQatConfig, schedule: MagnitudeSchedule) -> Trained:
    entropy_coder()  # needed at the end, after hours of training
    model = request.model
    session = request.session(config)
    student = _mixed_student(request, config)
    kinds = _kinds(student)
    key = {**request.key_of(session, "iterative"), "share": schedule.share, "iterations": schedule.iterations}
    activations = next(iter(request.allocated.precisions.values())).activation_bits
    with closing(session.batches):
        stages = _iterate(session, student, config, schedule, key, activations)
    last = stages[-1].state
    parameters = sum(each.numel() for each in last.widths.values())
    scheme = SCHEMES.get(model.quantizers.weight_scheme)
    summary = StageRecord(
        stage="recover",
        name="staged_qat",
        template="{levels}; activations of {activation_bits} bits{kinds}; trained by {by}; {iterations} iterations, "
        "{begin}; signal to quantization noise at the output over {checked}",
        figures={
            "levels": scheme.summary,
            "activation_bits": activations,
            "kinds": f", {kinds}" if kinds else "",
            "by": session.summary,
            "iterations": len(stages),
            "begin": _BEGIN[config.begin],
            "checked": session.checked,
            "known": session.known,
        },
    )
    return Trained(
        student,
        _stored_precisions(student, activations),
        {"trained": "iterative magnitude mask", "average_bits": round(last.average, 4)},
        [summary, *(_record(stage, parameters) for stage in stages)],
        average_bits=last.average,
        by_layer=last.by_layer(),
        iteration=last.iteration,
    )


def _iterate(
    session: TrainingSession,
    student: Trainable,
    config: StagedQatConfig,
    schedule: MagnitudeSchedule,
    key: dict[str, Any],
    activations: int,
) -> list[_Stage]:
    """Train all iterations, each kept in a folder of its own, so that a run that was cut off goes on in the last."""
    state = MaskState.first({name: weight for name, (weight, _) in student.quantized().items()})
    stages: list[_Stage] = []
    lengths: list[int] = []
    first: dict[str, Tensor] = {}
    while True:
        for name, (latent, quantizer) in _mixtures(student).items():
            quantizer.assign_widths(latent, state.widths[name])
        lengths.append(config.length(state.iteration, schedule.iterations))
        done = {**key, "lengths": list(lengths)}
        part = f"iteration {state.iteration} of {schedule.last}, {state.average:.2f} bits"
        history = train_qat(session, student, done, epochs=lengths[-1], bits=state.average, part=part)
        stages.append(_Stage(state, _measured(session.model, student, activations), history))
        if not first:
            first = {name: value.clone() for name, value in student.state_dict().items()}
        if state.average <= schedule.until or state.iteration == schedule.last:
            return stages
        magnitudes = {
            name: quantizer.magnitudes(latent.detach()) for name, (latent, quantizer) in _mixtures(student).items()
        }
        state = state.next(magnitudes, share=schedule.share, iterations=schedule.iterations)
        if config.begin == "first":
            student.load_state_dict(first)


def _mixed_student(request: TrainingRequest, config: StagedQatConfig) -> Trainable:
    model = request.model
    mix = SCHEMES.get(model.quantizers.weight_scheme).mix_widths
    assert mix is not None
    weights: dict[str, Quantizer] = {}
    latent: dict[str, Tensor] = {}
    for name in weight_bits(model, request.allocated.precisions):
        weight = model.simulation.weighted(name).weight.detach()
        made = mix(weight, torch.full_like(weight, START, dtype=torch.uint8))
        weights[name] = made.quantizer
        if made.latent is not None:
            latent[name] = made.latent
    return Trainable(model.simulation, weights, activation_levels(model, request.allocated.precisions, config), latent)


def _mixtures(student: Trainable) -> dict[str, tuple[Tensor, WidthPerWeightQuantizer]]:
    found: dict[str, tuple[Tensor, WidthPerWeightQuantizer]] = {}
    for name, (latent, quantizer) in student.quantized().items():
        assert isinstance(quantizer, WidthPerWeightQuantizer)
        found[name] = latent, quantizer
    return found


def _stored_precisions(student: Trainable, activations: int) -> dict[str, Precision]:
    """Return the precision that each group is stored in: codes that tell all levels of its mixtures apart.

    The weights of a group get codes of as many bits, because a plan has one precision for them.
    """
    quantizers = {name: quantizer for name, (_, quantizer) in student.quantized().items()}
    found = {}
    for name, group in student.simulation.groups.items():
        members = [quantizers[each] for each in group.weights if each in quantizers]
        bits = max((each.bits for each in members), default=START)
        for each in members:
            each.bits = bits
        found[name] = Precision(bits, activations)
    return found


def _measured(model: CalibratedModel, student: Trainable, activations: int) -> float:
    precisions = _stored_precisions(student, activations)
    scheme = model.quantizers.weight_scheme
    bits = weight_bits(model, precisions)
    freeze_student(model, student, bits, dict.fromkeys(bits, scheme))
    return model.noise_under(model.quantizers.change(precisions, codes=True))[1]


def _kinds(student: Trainable) -> str:
    kinds = [q.kind for q in student.activation_quantizers if isinstance(q, PactQuantizer)]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _record(stage: _Stage, parameters: int) -> StageRecord:
    average = stage.state.average
    return StageRecord(
        stage="recover",
        name=f"iteration {stage.state.iteration}",
        template="iteration {iteration}: {average_bits:.2f} bits a weight, nominal {nominal_mb:.3f} MB of weights, "
        "{sqnr_db:.1f} dB; {history}",
        figures={
            "iteration": stage.state.iteration,
            "average_bits": average,
            "nominal_mb": parameters * average / 8e6,
            "sqnr_db": stage.sqnr,
            "history": stage.history,
        },
    )


RECOVERIES.add(
    "staged_qat",
    TrainingRecovery(
        "staged_qat",
        "quantization-aware training in stages: fewer bits weight by weight, or the narrowest layers first",
        "Kolf et al., sections 3.3 and 4.5; Liu et al., Algorithm 1",
        StagedQatConfig,
        _train,
        staged=True,
    ),
)
