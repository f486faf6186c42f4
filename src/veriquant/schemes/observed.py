"""Ranges by observation: uniform levels that follow the extremes of what passes, until they are frozen.

How fixed-precision training goes in Kolf et al., section 3.4, and in Boutros et al. 2022, 'QuantFace'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from veriquant.schemes.affine import AffineQuantizer
from veriquant.schemes.uniform_grid import uniform_grid


class ObservedQuantizer(AffineQuantizer):
    """An `AffineQuantizer` whose range is watched while it trains, up to `stop_observing`.

    `running`: the range is the least and greatest value of all batches seen so far, for activations; otherwise that of
    the values at hand, for weights, which change. With `axis` each channel has a range of its own. In evaluation mode
    nothing is observed.
    """

    low: Tensor
    """float32, shaped as `scale`: the least value seen; +inf before the first."""
    high: Tensor
    """float32, shaped as `scale`."""
    frozen: Tensor
    """bool, (): a buffer, so that a checkpoint holds it."""

    def __init__(self, bits: int, axis: int | None, channels: int, *, running: bool, symmetric: bool = False) -> None:
        shape = () if axis is None else (channels,)
        super().__init__(torch.ones(shape), torch.zeros(shape, dtype=torch.int32), bits, axis)
        self.running = running
        self.symmetric = symmetric
        self.register_buffer("low", torch.full(shape, torch.inf))
        self.register_buffer("high", torch.full(shape, -torch.inf))
        self.register_buffer("frozen", torch.tensor(False))

    @classmethod
    def like(cls, fitted: AffineQuantizer, *, running: bool, symmetric: bool = False) -> ObservedQuantizer:
        """Return one of the width, axis and channels of `fitted`, with its levels until something is observed."""
        made = cls(fitted.bits, fitted.axis, fitted.scale.numel(), running=running, symmetric=symmetric)
        made.scale.copy_(fitted.scale)
        made.zero_point.copy_(fitted.zero_point)
        return made

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`; while it trains and is not frozen, the range follows the values first."""
        if self.training and not self.frozen:
            self._observe(values.detach())
        return super().forward(values)

    def stop_observing(self) -> None:
        """Keep the levels as they are from now on."""
        self.frozen.fill_(True)

    def freeze(self) -> AffineQuantizer:
        """See `Quantizer.freeze`."""
        return AffineQuantizer(self.scale.clone(), self.zero_point.clone(), self.bits, self.axis)

    @torch.no_grad()
    def _observe(self, values: Tensor) -> None:
        if self.axis is None:
            low, high = values.aminmax()
        else:
            low, high = values.movedim(self.axis, 0).flatten(1).aminmax(dim=1)
        if self.running:
            low, high = torch.minimum(self.low, low.float()), torch.maximum(self.high, high.float())
        self.low.copy_(low)
        self.high.copy_(high)
        scale, zero_point = uniform_grid(self.low, self.high, self.bits, self.symmetric)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
