"""Uniform levels over a range: the scale and the code of zero that both the quantizer and the range search use."""

from __future__ import annotations

import torch
from torch import Tensor

from veriquant.errors import VeriQuantError

WIDTHS = range(2, 17)


def check_width(bits: int) -> None:
    """Raise `VeriQuantError` where uniform levels cannot be `bits` wide."""
    if bits not in WIDTHS:
        raise VeriQuantError(
            f"uniform levels cannot have {bits} bits: choose {WIDTHS[0]} to {WIDTHS[-1]}, or scheme kmeans for 1"
        )


def uniform_grid(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return scale (float32) and zero point (int32, in [0, 2**bits)) of the levels over [low, high], of any shape.

    Asymmetric: scale = (high − low)/(2^b − 1) and zero point = round(−low/scale) after the range has been widened to
    hold zero, so that `low` falls on code 0 and `high` on code 2^b − 1. That is what eq. 3 of Kolf et al. is meant to
    do; as printed it misses the ends. Zero has to be a level exactly, so rounding the zero point moves both ends by at
    most half a step.

    Symmetric: scale = max(−low, high)/(2^(b−1) − 1) and zero point = 2^(b−1), so that −α, 0 and α are levels. Code 0,
    one step below −α, is the extra level of two's complement.

    A range without width has scale 1: its zeros stay zeros and nothing divides by zero.
    """
    check_width(bits)
    low, high = low.double().clamp(max=0), high.double().clamp(min=0)
    width = torch.maximum(-low, high) / (2 ** (bits - 1) - 1) if symmetric else (high - low) / (2**bits - 1)
    scale = width.float()
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
    if symmetric:
        return scale, torch.full_like(scale, 2 ** (bits - 1), dtype=torch.int32)
    return scale, (-low / scale).round().clamp(0, 2**bits - 1).to(torch.int32)
