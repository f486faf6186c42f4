"""`adaround` as a recovery: weights are rounded up or down by what that does to each layer's output."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from veriquant.calibration.model import CalibratedModel
from veriquant.config import Config
from veriquant.recovery.adaround import AdaRound
from veriquant.recovery.bias_correction import BiasCorrection
from veriquant.recovery.moments_of_model import moments_of
from veriquant.recovery.step import RECOVERIES, RoundingRecovery
from veriquant.simulation.quantizer_cache import EXACT_BITS


class AdaRoundConfig(Config):
    """How roundings are learned."""

    iterations: int = Field(default=300, ge=1)
    """Steps of Adam, each on the whole calibration set."""
    strength: float = Field(default=0.3, gt=0)
    """Of the regulariser that drives every weight to one of its two levels."""


def _attach(model: CalibratedModel, config: AdaRoundConfig, others: Collection[str]) -> None:
    moments = moments_of(model)
    corrected = BiasCorrection(moments, model.simulation).operations if "bias_correction" in others else ()
    model.quantizers.recover = AdaRound(
        moments, iterations=config.iterations, strength=config.strength, corrected=corrected
    )
    model.rounding = "adaround"


RECOVERIES.add(
    "adaround",
    RoundingRecovery(
        "adaround",
        "weights rounded up or down by what that does to the layer's output, learned layer by layer",
        "Nagel et al. 2020; Pandey et al., section 3.5",
        AdaRoundConfig,
        _attach,
        most_bits=EXACT_BITS,
        uniform=True,
    ),
)
