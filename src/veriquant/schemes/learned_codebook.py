"""Codebooks whose scales are trained with the network: the table stays, a scale for each channel learns.

Liu et al., eq. 1 to 4, learn one α a layer by which the levels of a table are multiplied; here each output channel may
have its own. The gradient is that of a learned step (Esser et al., 'Learned step size quantization', ICLR 2020, eq. 3).
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from veriquant.schemes.clipped import inner
from veriquant.schemes.codebook import CodebookQuantizer
from veriquant.schemes.learned import LEAST, LearnedLevels
from veriquant.schemes.quantizer import LearnableWeight, Quantizer


class LearnedCodebookQuantizer(LearnedLevels[CodebookQuantizer]):
    """`CodebookQuantizer` with a gradient to the scale of each channel.

    With v̂ the result, ∂v̂/∂scale = (v̂ − v)/scale for weights between the outermost levels (and half a gap beyond) and
    v̂/scale for those that are clipped, times 1/√(N·Q) with N weights a scale and Q the largest level in units of the
    mean gap between two. The scale never counts as less than 1/256 of its first value. The gradient of the weights is
    the straight-through estimator's.
    """

    scale: Tensor
    """Parameter: float32, () or (channels,)."""
    levels: Tensor
    """float32, (2**bits,), ascending: they do not learn."""
    least: Tensor
    """float32, shaped as `scale`: the smallest scale."""

    def __init__(self, fitted: CodebookQuantizer) -> None:
        super().__init__()
        self.bits, self.axis = fitted.bits, fitted.axis
        self.register_buffer("levels", fitted.levels.detach().clone())
        self.scale = nn.Parameter(fitted.scale.detach().clone())
        self.register_buffer("least", self.scale.detach() * LEAST)
        span = float(self.levels[-1] - self.levels[0])
        gaps = max(len(torch.unique(self.levels)) - 1, 1)
        self._reach = float(self.levels.abs().max()) * gaps / span if span > 0 else 1.0

    def with_gradient(self, values: Tensor, rounded: Tensor, frozen: CodebookQuantizer) -> Tensor:
        """See `LearnedLevels.with_gradient`: to the scale."""
        arguments = values, rounded, self.scale, frozen, self._reach
        return cast(Tensor, _LearnedScale.apply(*arguments))  # type: ignore[no-untyped-call]

    def parameter_scales(self) -> dict[str, Tensor]:
        """See `Quantizer.parameter_scales`: a level's distance to the next, as a step would be."""
        return {"scale": self.least / LEAST}

    @torch.no_grad()
    def freeze(self) -> CodebookQuantizer:
        """See `Quantizer.freeze`."""
        return CodebookQuantizer(self.levels, torch.maximum(self.scale, self.least), self.bits, self.axis)


class _LearnedScale(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, rounded: Tensor, scale: Tensor, frozen: CodebookQuantizer, reach: float
    ) -> Tensor:
        ctx.save_for_backward(values, rounded, frozen.inside(values))
        ctx.frozen, ctx.reach = frozen, reach
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, rounded, inside = ctx.saved_tensors
        frozen: CodebookQuantizer = ctx.frozen
        given = gradient.float()
        through = given * inside
        # The gradients of the scale are (Σ gradient · v̂ − Σ gradient of the values · v)/scale.
        moved = inner(given, rounded.float(), frozen.axis) - inner(through, values.float(), frozen.axis)
        damping = 1 / math.sqrt(values.numel() / frozen.scale.numel() * ctx.reach)
        return through.to(values.dtype), None, moved / frozen.scale * damping, None, None


def learn_codebook_scale(fitted: Quantizer, weight: Tensor) -> LearnableWeight:
    """Return the codebook with scales that learn: what schemes with a table register as `learn_weight`."""
    assert isinstance(fitted, CodebookQuantizer)
    return LearnableWeight(LearnedCodebookQuantizer(fitted))
