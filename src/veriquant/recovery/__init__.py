"""Making up for rounding without training: AdaRound, bias correction, equalised channels."""

from veriquant.recovery.adaround import AdaRound
from veriquant.recovery.bias_correction import BiasCorrection
from veriquant.recovery.equalise_activations import equalise_activations
from veriquant.recovery.equalise_weights import equalise_weights
from veriquant.recovery.moments import InputMoments, collect_moments

__all__ = [
    "AdaRound",
    "BiasCorrection",
    "InputMoments",
    "collect_moments",
    "equalise_activations",
    "equalise_weights",
]
