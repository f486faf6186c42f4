"""`Quantizer`: what stands where a simulated network quantizes a tensor; `Scheme`: a registered way to make one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.registry import Registry
from veriquant.schemes.codes import Codes
from veriquant.schemes.histogram import Histogram


class Quantizer(nn.Module, ABC):
    """Rounds a tensor to the levels that it was fitted to.

    `bits`: width of a code. `axis`: the tensor's axis of channels, each with levels of its own, or None for one set.
    Its parameters are buffers (or, where a scheme learns them, parameters) so that a state dict holds them.
    """

    bits: int
    axis: int | None

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """Return `values` on their levels, same shape and dtype; the gradient is the straight-through estimator's."""

    @abstractmethod
    def codes(self, values: Tensor) -> Codes:
        """Return the same as codes: ``codes(values).decode()`` equals ``forward(values)``."""

    def parameter_scales(self) -> dict[str, Tensor]:
        """Return how large the parameters that learn are, by name, each shaped as its parameter.

        An optimizer that moves everything by a share of its size takes this for the size.
        """
        return {}

    def freeze(self) -> Quantizer:
        """Return the levels as they are now, as a quantizer that learns no more; it gives the same bit for bit."""
        return self


class WidthPerWeightQuantizer(Quantizer):
    """A quantizer of a weight tensor in which every weight has a width of its own.

    `latent` is what the quantizer is given: the weights, or what they are a function of.
    """

    @abstractmethod
    def assign_widths(self, latent: Tensor, widths: Tensor) -> None:
        """Give every weight its width, uint8 of the weight's shape, and fit the levels to the weights anew."""

    @abstractmethod
    def magnitudes(self, latent: Tensor) -> Tensor:
        """Return what weights are ranked by over all channels and layers, relative to their channel's largest."""


@dataclass(frozen=True)
class LearnableWeight:
    """A weight's quantizer that learns; `latent`: what it is given instead of the weight where that differs."""

    quantizer: Quantizer
    latent: Tensor | None = None


@dataclass(frozen=True)
class Scheme:
    """One registered way to quantize, and what it can do: recipes are checked against that when they are loaded.

    `fit_weight(weight, bits, ranges)` fits a weight tensor, float32, output channels first; `fit_activation(histogram,
    bits, ranges)` an activation tensor from its histogram; None: it is not for those. `ranges` names a rule of
    `veriquant.schemes.ranges.RULES`.

    `learn_weight(fitted, weight)` and `learn_activation(fitted)` return levels that are trained with the network,
    beginning as the fitted and frozen ones; `observe(fitted, running)` levels whose range follows what passes in
    training until it is frozen (`running`: of all batches, for activations). None: it cannot.
    """

    name: str
    summary: str
    source: str
    widths: Sequence[int]
    """The bit widths that there are, ascending."""
    fit_weight: Callable[[Tensor, int, str], Quantizer] | None = None
    fit_activation: Callable[[Histogram, int, str], Quantizer] | None = None
    learn_weight: Callable[[Quantizer, Tensor], LearnableWeight] | None = None
    learn_activation: Callable[[Quantizer], Quantizer] | None = None
    observe: Callable[[Quantizer, bool], Quantizer] | None = None
    mix_widths: Callable[[Tensor, Tensor], LearnableWeight] | None = None
    """From a weight and a width for every single one (uint8, its shape): levels that learn, of a
    `WidthPerWeightQuantizer`; None: all weights of a tensor have one width."""
    uses_ranges: bool = True
    """Whether a range rule has a say in the levels."""
    uniform: bool = False
    """Whether levels are evenly apart with one at zero, so that a rounding up or down can be learned (AdaRound)."""

    def for_weights(self) -> Callable[[Tensor, int, str], Quantizer]:
        """Return `fit_weight`; raise `VeriQuantError` where it is not for weights."""
        if self.fit_weight is None:
            raise VeriQuantError(f"scheme {self.name!r} is for activations alone; choose another for weights")
        return self.fit_weight

    def for_activations(self) -> Callable[[Histogram, int, str], Quantizer]:
        """Return `fit_activation`; raise `VeriQuantError` where it is not for activations."""
        if self.fit_activation is None:
            raise VeriQuantError(f"scheme {self.name!r} is for weights alone; choose another for activations")
        return self.fit_activation


SCHEMES: Registry[Scheme] = Registry("quantization scheme")
