"""`qat`: quantization-aware training of an allocation: label-free on any images, or on a training set with labels.

It starts from the best that calibration alone gives. The network that trains is the simulated one; what it has become
is packed as every plan is, in its own bits.
"""

from __future__ import annotations

from contextlib import closing

from veriquant.recovery.qat_config import QatConfig
from veriquant.recovery.step import RECOVERIES, TrainingRecovery
from veriquant.recovery.training_run import (
    Trained,
    TrainingRequest,
    activation_levels,
    corrected_biases,
    float_operations,
    freeze_student,
    weight_bits,
    weight_levels,
    weight_schemes,
)
from veriquant.recovery.training_session import train_qat
from veriquant.results import StageRecord
from veriquant.simulation.trainable import Trainable


def _train(request: TrainingRequest, config: QatConfig) -> Trained:
    model, precisions = request.model, request.allocated.precisions
    session = request.session(config)
    bits, schemes = weight_bits(model, precisions), weight_schemes(model, request.allocated)
    before = model.noise_under(model.quantizers.change(precisions, _group_schemes(request), codes=True))[1]
    student = request.student or new_student(request, config)
    average = model.costs.average_bits(precisions)
    with closing(session.batches):
        history = train_qat(session, student, request.key_of(session, "qat"), epochs=config.epochs, bits=average)
    freeze_student(model, student, bits, schemes)
    noise, after = model.noise_under(model.quantizers.change(precisions, _group_schemes(request), codes=True))
    record = StageRecord(
        stage="recover",
        name="qat",
        template="trained by {by}: {history}. {before_db:.1f} dB signal to quantization noise at the output before "
        "training, {after_db:.1f} dB after, over {checked} (noise {noise:.2e})",
        figures={
            "by": session.summary,
            "history": history,
            "before_db": before,
            "after_db": after,
            "checked": session.checked,
            "noise": noise,
            "known": session.known,
        },
    )
    return Trained(student, dict(precisions), {"trained": f"{config.range_learning} levels, {history}"}, [record])


def new_student(request: TrainingRequest, config: QatConfig) -> Trainable:
    """Return the network that trains, its levels beginning where calibration ended."""
    model, precisions = request.model, request.allocated.precisions
    bits, schemes = weight_bits(model, precisions), weight_schemes(model, request.allocated)
    made = weight_levels(model, bits, schemes, config)
    return Trainable(
        model.simulation,
        {name: each.quantizer for name, each in made.items()},
        activation_levels(model, precisions, config),
        {name: each.latent for name, each in made.items() if each.latent is not None},
        corrected_biases(model, bits, schemes),
        held=float_operations(model, bits),
    )


def _group_schemes(request: TrainingRequest) -> dict[str, str]:
    plan = request.allocated.plan
    return {} if plan is None else {name: g.scheme for name, g in plan.groups.items() if g.scheme is not None}


RECOVERIES.add(
    "qat",
    TrainingRecovery(
        "qat",
        "quantization-aware training of weights and levels, label-free on any images or with a margin head",
        "Esser et al. 2020; Boutros et al. 2022, QuantFace; Kolf et al., section 4.4",
        QatConfig,
        _train,
    ),
)
