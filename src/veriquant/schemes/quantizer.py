"""`Quantizer`: what stands where a simulated network quantizes a tensor; `Scheme`: a registered way to make one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

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

    def units(self) -> dict[str, Tensor]:
        """Return how large the parameters that learn are, by name, each shaped as its parameter.

        An optimizer that moves everything by a share of its size takes this for the size.
        """
        return {}

    def settled(self) -> Quantizer:
        """Return the levels as they are now, as a quantizer that learns no more; it gives the same bit for bit."""
        return self


@dataclass(frozen=True)
class Scheme:
    """One registered way to quantize.

    `fit_weight(weight, bits, rule)` fits a weight tensor, float32, output channels first. `fit_activation(histogram,
    bits, rule)` fits an activation tensor from its histogram; None: the scheme is for weights alone. `rule` names a
    range rule of `veriquant.schemes.ranges.RULES`; a scheme that has no range ignores it.
    """

    name: str
    summary: str
    source: str
    widths: range
    fit_weight: Callable[[Tensor, int, str], Quantizer]
    fit_activation: Callable[[Histogram, int, str], Quantizer] | None = None


SCHEMES: Registry[Scheme] = Registry("quantization scheme")
