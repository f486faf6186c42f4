"""`midrise`: uniform levels about zero with none at zero, a step per channel: ±1/2, ±3/2, … of it.

With few bits it matters that the levels are as many on either side: two bits with a level at zero are −2, −1, 0 and 1
times the step, of which weights about zero use three. The step is that of least squared error, and learned in training
as in Esser et al., 'Learned step size quantization' (ICLR 2020).
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from veriquant.errors import VeriQuantError
from veriquant.schemes.clipped import inner, passed
from veriquant.schemes.codebook import CodebookQuantizer
from veriquant.schemes.learned import LEAST, LearnedLevels
from veriquant.schemes.quantizer import SCHEMES, LearnableWeight, Quantizer, Scheme
from veriquant.schemes.straight_through import along

WIDTHS = range(1, 9)
#: Steps tried for a channel, as shares of the one at which the largest weight is the outermost level.
_SHARES = torch.linspace(0.02, 1.02, 101).tolist()
#: The step of a channel of zeros.
_NOTHING = 2.0**-100


class MidriseQuantizer(CodebookQuantizer):
    """value = step · (code − (2^b − 1)/2): a codebook of the odd numbers, its scale half a step."""

    def __init__(self, step: Tensor, bits: int, axis: int | None = None) -> None:
        super().__init__(torch.arange(2**bits) * 2.0 - (2**bits - 1), step.detach() / 2, bits, axis)

    @property
    def step(self) -> Tensor:
        """The distance of two levels, float32, () or (channels,)."""
        return self.scale * 2


class LearnedMidriseQuantizer(LearnedLevels[MidriseQuantizer]):
    """`MidriseQuantizer` with a gradient to the step of each channel.

    With v̂ the result, ∂v̂/∂step = (v̂ − v)/step for weights that round to a code and v̂/step for those that are clamped
    (Esser et al., eq. 3), times 1/√(N·Q) with N weights a step and Q = (2^b − 1)/2 (section 2.2). The step never counts
    as less than 1/256 of its first value. The gradient of the weights is the straight-through estimator's.
    """

    step: Tensor
    """Parameter: float32, () or (channels,)."""
    least: Tensor
    """float32, shaped as `step`: the smallest step."""

    def __init__(self, fitted: MidriseQuantizer) -> None:
        super().__init__()
        self.bits, self.axis = fitted.bits, fitted.axis
        self.step = nn.Parameter(fitted.step.detach().clone())
        self.register_buffer("least", self.step.detach() * LEAST)

    def with_gradient(self, values: Tensor, rounded: Tensor, frozen: MidriseQuantizer) -> Tensor:
        """See `LearnedLevels.with_gradient`: to the step."""
        return cast(Tensor, _Midrise.apply(values, rounded, self.step, frozen))  # type: ignore[no-untyped-call]

    def parameter_scales(self) -> dict[str, Tensor]:
        """See `Quantizer.parameter_scales`: the step that it started from."""
        return {"step": self.least / LEAST}

    @torch.no_grad()
    def freeze(self) -> MidriseQuantizer:
        """See `Quantizer.freeze`."""
        return MidriseQuantizer(torch.maximum(self.step, self.least), self.bits, self.axis)


class _Midrise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor, step: Tensor, frozen: MidriseQuantizer) -> Tensor:
        ctx.save_for_backward(values, rounded)
        ctx.frozen = frozen
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, rounded = ctx.saved_tensors
        frozen: MidriseQuantizer = ctx.frozen
        axis, bits, given = frozen.axis, frozen.bits, gradient.float()
        middle = torch.tensor((2**bits - 1) / 2, device=values.device)
        step = along(frozen.step, axis, values.ndim)
        through = passed(given, values.float(), step, middle, -0.5, 2**bits - 0.5)
        # The gradients of the step are (Σ gradient · v̂ − Σ gradient of the values · v)/step.
        moved = inner(given, rounded.float(), axis) - inner(through, values.float(), axis)
        count = values.numel() / frozen.step.numel()
        damping = 1 / math.sqrt(count * (2**bits - 1) / 2)
        return through.to(values.dtype), None, moved / frozen.step * damping, None


def fit_midrise(weight: Tensor, bits: int) -> MidriseQuantizer:
    """Return the quantizer of least squared error for `weight` (channels, …), float32: a step per output channel.

    Raises `VeriQuantError` for a width outside 1 to 8 or weights that are not finite.
    """
    if bits not in WIDTHS:
        raise VeriQuantError(f"midrise cannot have {bits} bits: choose {WIDTHS[0]} to {WIDTHS[-1]}")
    rows = weight.detach().float().reshape(len(weight), -1)
    if not bool(torch.isfinite(rows).all()):
        raise VeriQuantError("a weight holds NaN or infinity: expected finite values; check the checkpoint")
    middle = (2**bits - 1) / 2
    widest = (rows.abs().amax(1) / max(middle, 0.5)).clamp(min=_NOTHING)
    best, least = widest, torch.full_like(widest, math.inf)
    for share in _SHARES:
        step = widest * share
        scaled = rows / step[:, None]
        missed = (scaled + middle).round_().clamp_(0, 2**bits - 1).sub_(middle).sub_(scaled)
        error = missed.square_().sum(1) * step.square()
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return MidriseQuantizer(best, bits, axis=0)


def _learn_weight(fitted: Quantizer, weight: Tensor) -> LearnableWeight:
    assert isinstance(fitted, MidriseQuantizer)
    return LearnableWeight(LearnedMidriseQuantizer(fitted))


SCHEMES.add(
    "midrise",
    Scheme(
        "midrise",
        "uniform levels with as many on either side of zero, none at it; for weights of 1 to 8 bits, best with few",
        "Esser et al. 2020 (the learned step)",
        WIDTHS,
        lambda weight, bits, _ranges: fit_midrise(weight, bits),
        learn_weight=_learn_weight,
        uses_ranges=False,
    ),
)
