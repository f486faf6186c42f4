"""What quantizers have in common whose levels are trained with the network."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

from veriquant.schemes.codes import Codes
from veriquant.schemes.quantizer import Quantizer

#: A learned size never falls below this share of what it started from, however far an optimizer throws it.
LEAST = 2.0**-8

Settled = TypeVar("Settled", bound=Quantizer)


class LearnedLevels(Quantizer, Generic[Settled]):
    """Gives what the levels of now give, bit for bit, and where gradients are wanted passes them to the levels too."""

    @abstractmethod
    def freeze(self) -> Settled:
        """See `Quantizer.freeze`."""

    @abstractmethod
    def with_gradient(self, values: Tensor, rounded: Tensor, frozen: Settled) -> Tensor:
        """Return `rounded`, which is what `freeze` makes of `values`, with gradients to both values and levels."""

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`; differentiable in what is learned as well."""
        frozen = self.freeze()
        with torch.no_grad():
            rounded = cast(Tensor, frozen(values))
        return self.with_gradient(values, rounded, frozen) if torch.is_grad_enabled() else rounded

    def codes(self, values: Tensor) -> Codes:
        """See `Quantizer.codes`."""
        return self.freeze().codes(values)
