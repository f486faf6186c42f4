"""Bias correction: a rounded weight moves the mean of every output; the bias moves it back.

E[Ŵ·x] − E[W·x] = (Ŵ−W)·E[x], taken from the bias (Nagel et al. 2019, 'Data-Free Quantization Through Weight
Equalization and Bias Correction', section 4.2). E[x] is measured on calibration images; in a patch of a convolution it
counts the padding, so that the correction is right over the whole of the output and not only in its middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from veriquant.recovery.moments import InputMoments
from veriquant.simulation.simulation import Simulation


@dataclass(frozen=True)
class BiasCorrection:
    """Corrects the biases of a simulated network. `moments`: by operation, from `collect_moments`."""

    moments: Mapping[str, InputMoments]
    simulation: Simulation

    @property
    def operations(self) -> frozenset[str]:
        """The operations that have a bias to correct."""
        return frozenset(name for name in self.moments if self.simulation.weighted(name).bias is not None)

    def __call__(self, operation: str, bias: Tensor, rounded: Tensor) -> Tensor:
        """Return the bias, (outputs,), with which the mean output under the weight `rounded` is what it was."""
        error = rounded - self.simulation.weighted(operation).weight.detach()
        return bias - self.moments[operation].mean_output(error).to(bias.dtype)
