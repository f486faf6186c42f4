"""The scale of a table of levels: the one of least squared error for each output channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from veriquant.errors import VeriQuantError

#: Scales tried for a channel, as shares of the one at which its largest weight is the outermost level.
_SHARES = torch.linspace(0.02, 1.1, 109).tolist()
#: The scale of a channel of zeros: its values become 0 within 1e-29, whatever the levels.
_NOTHING = 2.0**-100


def fit_scale(weight: Tensor, levels: Tensor) -> Tensor:
    """Return the scale of least squared error of each output channel, float32 (channels,), above zero.

    `weight`: float32 (channels, …); `levels`: float32, ascending, the table that is multiplied by the scale. Of the
    scales tried the best is moved to the least-squares fit of the levels that the weights have under it. Raises
    `VeriQuantError` for weights that are not finite.
    """
    rows = weight.detach().float().reshape(len(weight), -1)
    if not bool(torch.isfinite(rows).all()):
        raise VeriQuantError("a weight holds NaN or infinity: expected finite values; check the checkpoint")
    middles = (levels[1:] + levels[:-1]) / 2
    widest = (rows.abs().amax(1) / levels.abs().max()).clamp(min=_NOTHING)
    best, least = widest, torch.full_like(widest, math.inf)
    for share in _SHARES:
        scale = widest * share
        given = levels[torch.bucketize(rows / scale[:, None], middles)]
        error = (rows - given * scale[:, None]).square().sum(1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    given = levels[torch.bucketize(rows / best[:, None], middles)]
    fitted = (rows * given).sum(1) / given.square().sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(fitted > _NOTHING, fitted, best)
