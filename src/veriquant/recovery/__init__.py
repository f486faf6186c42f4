"""Making up for rounding: one file a recovery; importing this package registers them."""

from veriquant.recovery import adaround_step, bias_step, equalise, qat, staged_qat
from veriquant.recovery.step import (
    PHASES,
    RECOVERIES,
    GraphRecovery,
    Recovery,
    RoundingRecovery,
    TrainingRecovery,
)

__all__ = [
    "PHASES",
    "RECOVERIES",
    "GraphRecovery",
    "Recovery",
    "RoundingRecovery",
    "TrainingRecovery",
    "adaround_step",
    "bias_step",
    "equalise",
    "qat",
    "staged_qat",
]
