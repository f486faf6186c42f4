"""Levels from a table: any 2**bits values, times a scale per channel."""

from __future__ import annotations

import torch
from torch import Tensor

from veriquant.schemes.codes import Codes
from veriquant.schemes.quantizer import Quantizer
from veriquant.schemes.straight_through import along, straight_through, wants_gradient

#: Levels stand on a grid of this fraction of the greatest power of two that they need: two of them are equal or further
#: apart than the error of a float32 division, so that quantizing twice is quantizing once.
_GRID = 2.0**-20


class CodebookQuantizer(Quantizer):
    """value = scale · levels[code], with the code of the nearest level to value/scale; halves go to the lower one.

    The gradient is the straight-through estimator's: 1 up to half a gap beyond the outermost levels, 0 further out.
    """

    levels: Tensor
    """float32, (2**bits,), ascending; equal levels are allowed."""
    scale: Tensor
    """float32, () or (channels,) along `axis`, above zero."""

    def __init__(self, levels: Tensor, scale: Tensor, bits: int, axis: int | None = None) -> None:
        super().__init__()
        if levels.shape != (2**bits,):
            raise ValueError(f"{bits} bits need {2**bits} levels, not a tensor of shape {tuple(levels.shape)}")
        self.bits = bits
        self.axis = axis
        levels = levels.double()
        grid = _GRID * 2.0 ** torch.log2(levels.abs().max().clamp(min=torch.finfo(torch.float32).tiny)).ceil()
        self.register_buffer("levels", ((levels / grid).round() * grid).float().sort().values)
        self.register_buffer("scale", scale.to(torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`."""
        learning = wants_gradient(values)
        with torch.no_grad():
            scale = along(self.scale, self.axis, values.ndim)
            scaled = torch.div(values.float(), scale)
            rounded = (self.levels[self._nearest(scaled)] * scale).to(values.dtype)
            inside = self._inside(scaled) if learning else None
        return rounded if inside is None else straight_through(values, rounded, inside)

    def codes(self, values: Tensor) -> Codes:
        """See `Quantizer.codes`."""
        with torch.no_grad():
            scaled = torch.div(values.float(), along(self.scale, self.axis, values.ndim))
            # Of equal levels the first stands for all, so that codes of codes are the same.
            first = torch.searchsorted(self.levels, self.levels, out_int32=True)
            codes = first[self._nearest(scaled)]
        return Codes(codes, self.bits, self.scale, levels=self.levels, axis=self.axis)

    def extra_repr(self) -> str:
        """Return what the module prints of itself."""
        return f"bits={self.bits}, axis={self.axis}"

    def inside(self, values: Tensor) -> Tensor:
        """Return where values are no further out than half a gap beyond the outermost levels, boolean."""
        return self._inside(torch.div(values.float(), along(self.scale, self.axis, values.ndim)))

    def _nearest(self, scaled: Tensor) -> Tensor:
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        return torch.bucketize(scaled.contiguous(), middles, out_int32=True)

    def _inside(self, scaled: Tensor) -> Tensor:
        levels = self.levels
        least = _GRID * levels.abs().max()
        below = torch.maximum(levels[1] - levels[0], least) / 2
        above = torch.maximum(levels[-1] - levels[-2], least) / 2
        return (scaled >= levels[0] - below) & (scaled <= levels[-1] + above)
