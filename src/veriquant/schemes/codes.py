"""`Codes`: a tensor as it is stored: an integer code per value, and what a code stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from veriquant.schemes.power_of_two_grids import lowest, spacings


@dataclass(frozen=True)
class Codes:
    """A tensor whose values are drawn from at most 2**bits levels (per channel, where `axis` is given).

    Uniform levels: value = scale · (code − zero_point). A codebook: value = scale · levels[code].
    """

    values: Tensor
    """int32, the tensor's shape, each in [0, 2**bits)."""
    bits: int
    scale: Tensor
    """float32, () for the whole tensor or (channels,) along `axis`."""
    zero_point: Tensor | None = None
    """int32, shaped as `scale`: the code that stands for zero; None where there is a codebook."""
    levels: Tensor | None = None
    """float32, (2**bits,) for all channels or (channels, 2**bits); None where levels are uniform."""
    axis: int | None = None
    """The axis of the channels in `values`, or None for one scale."""
    widths: Tensor | None = None
    """uint8, the tensor's shape, where values have widths of their own: one of w bits is one of 2**w levels from
    −levels.max() to levels.max(), evenly apart, or, where there are `exponents`, of the whole numbers
    2**k · (lowest + own code), see `MixedLevels`. None: all have `bits`."""
    exponents: Tensor | None = None
    """uint8, (channels, 2): k of the values of 2 and of 4 bits, where levels are uniform and there are widths."""

    @property
    def whole(self) -> bool:
        """Whether every value is its scale times an integer: uniform levels, or one table of integers."""
        if self.levels is None:
            return True
        return self.levels.ndim == 1 and bool((self.levels == self.levels.round()).all())

    def integers(self) -> Tensor:
        """Return the values in units of their scale, float32: integers where the codes are `whole`."""
        if self.levels is not None:
            return self.levels[self.values.long()]
        assert self.zero_point is not None
        return (self.values - self._along(self.zero_point)).to(torch.float32)

    def own_codes(self) -> Tensor:
        """Return each value's code in its own width, uint8, where there are `widths`."""
        assert self.widths is not None
        if self.exponents is not None:
            return (self.integers() / spacings(self.widths, self.exponents) - lowest(self.widths)).to(torch.uint8)
        assert self.levels is not None
        top = torch.exp2(self.widths.float()) - 1
        span = self.levels.max()
        return ((self.integers() + span) * top / (2 * span)).round().to(torch.uint8)

    def decode(self) -> Tensor:
        """Return the values that the codes stand for, float32."""
        scale = self._along(self.scale)
        if self.levels is None or self.levels.ndim == 1:
            return scale * self.integers()
        assert self.axis is not None
        rows = self.values.movedim(self.axis, 0)
        picked = torch.gather(self.levels, 1, rows.reshape(len(rows), -1).long()).reshape(rows.shape)
        return scale * picked.movedim(0, self.axis)

    def _along(self, value: Tensor) -> Tensor:
        if value.ndim == 0 or self.axis is None:
            return value
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return value.reshape(shape)
