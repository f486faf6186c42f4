"""Making up for rounding without training: AdaRound and bias correction."""

from veriquant.recovery.adaround import AdaRound
from veriquant.recovery.bias_correction import BiasCorrection
from veriquant.recovery.moments import InputMoments, collect_moments

__all__ = ["AdaRound", "BiasCorrection", "InputMoments", "collect_moments"]
