"""`bias_correction` as a recovery: biases make up for the mean that rounded weights move."""

from __future__ import annotations

from collections.abc import Collection

from veriquant.calibration.model import CalibratedModel
from veriquant.config import NoSettings
from veriquant.recovery.bias_correction import BiasCorrection
from veriquant.recovery.moments_of_model import moments_of
from veriquant.recovery.step import RECOVERIES, RoundingRecovery


def _attach(model: CalibratedModel, config: NoSettings, others: Collection[str]) -> None:
    model.quantizers.correct = BiasCorrection(moments_of(model), model.simulation)
    model.bias_correction = True


RECOVERIES.add(
    "bias_correction",
    RoundingRecovery(
        "bias_correction",
        "biases that make up for the mean which rounded weights move",
        "Nagel et al. 2019, section 4.2",
        NoSettings,
        _attach,
    ),
)
