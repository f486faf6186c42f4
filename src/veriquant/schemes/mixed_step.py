"""Learned steps for weights of 8, 4 and 2 bits side by side, made for networks that come trained.

DoReFa's levels for few bits span the range of all weights, so that the smallest, which lose their bits first, move far
out. Here the weights of each width have a grid as fine as they need. One step a channel is learned, as in Esser et
al., 'Learned step size quantization' (ICLR 2020); the grids are its multiples by powers of two.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from veriquant.schemes.affine import AffineQuantizer
from veriquant.schemes.clipped import inner
from veriquant.schemes.learned import LEAST
from veriquant.schemes.learned_step import LearnedStepQuantizer
from veriquant.schemes.midrise import LearnedMidriseQuantizer, MidriseQuantizer, fit_midrise
from veriquant.schemes.mixed_levels import MixedLevels, check_widths
from veriquant.schemes.power_of_two_grids import COLUMNS, EXPONENTS, LOWEST
from veriquant.schemes.quantizer import SCHEMES, LearnableWeight, Quantizer, Scheme, WidthPerWeightQuantizer
from veriquant.schemes.ranges import weight_range
from veriquant.schemes.relative import relative_to_largest
from veriquant.schemes.straight_through import along
from veriquant.schemes.uniform_grid import uniform_grid

#: Steps tried, relative to that of least squared error at 8 bits: an octave, as coarser grids are doublings.
_SHARES = tuple(2 ** (each / 8) for each in range(-4, 5))


class MixedStepQuantizer(MixedLevels, WidthPerWeightQuantizer):
    """`MixedLevels` with a gradient to the step of each channel; `fit` starts it, anew after a change of widths.

    What is learned, `scale`, is the widest spacing in use in the channel, step · 2^k: with one width that is the
    learned step of that width, and the step of an optimizer moves the levels as little. With v̂ the result, ∂v̂/∂scale =
    (v̂ − v)/scale for weights that round to a code and v̂/scale for those that are clamped (Esser et al., eq. 3), times
    1/√(N·Q) with N weights a channel and Q the largest multiple of `scale` (section 2.2). It never counts as less than
    1/256 of what it was fitted to. The gradient of the weights is the straight-through estimator's.
    """

    scale: Tensor
    """Parameter: float32, (channels,)."""
    least: Tensor
    """float32, (channels,): the smallest scale."""
    _widest: Tensor
    _reach: Tensor

    def __init__(self, weight: Tensor, widths: Tensor) -> None:
        start = torch.ones(len(weight), device=weight.device)
        super().__init__(start, widths, start.new_ones(len(weight), len(COLUMNS)))
        self.fit(weight)

    def set_widths(self, widths: Tensor) -> None:
        """Give every weight its width, uint8 of the weight's shape; to be followed by `fit`."""
        if widths.shape != self.widths.shape:
            raise ValueError(f"widths of shape {tuple(widths.shape)} where {tuple(self.widths.shape)} is expected")
        check_widths(widths)
        self.widths.copy_(widths)
        self._measure()

    def assign_widths(self, latent: Tensor, widths: Tensor) -> None:
        """See `WidthPerWeightQuantizer.assign_widths`."""
        self.set_widths(widths)
        self.fit(latent)

    def magnitudes(self, latent: Tensor) -> Tensor:
        """See `WidthPerWeightQuantizer.magnitudes`."""
        return relative_to_largest(latent)[1]

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Choose step and exponents of every channel by least squared error of `weight` at the widths of now."""
        step, exponents = _fitted(weight.detach().float(), self.widths)
        self.exponents.copy_(exponents)
        self._measure()
        self.scale.copy_(step * self._widest)
        self.least.copy_(self.scale * LEAST)

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`; differentiable in the scale as well."""
        return cast(Tensor, _MixedStep.apply(values, self.scale, self))  # type: ignore[no-untyped-call]

    def step(self) -> Tensor:
        """See `MixedLevels.step`."""
        return torch.maximum(self.scale.detach(), self.least) / self._widest

    def parameter_scales(self) -> dict[str, Tensor]:
        """See `Quantizer.parameter_scales`: what was fitted."""
        return {"scale": self.least / LEAST}

    @torch.no_grad()
    def freeze(self) -> MixedLevels:
        """See `Quantizer.freeze`."""
        return MixedLevels(self.step(), self.widths, self.exponents)

    def _hold(self, scale: Tensor) -> None:
        self.scale = nn.Parameter(scale.detach().to(torch.float32).clone())
        self.register_buffer("least", self.scale.detach() * LEAST)

    def _measure(self) -> None:
        super()._measure()
        widest = self._spacing.flatten(1).amax(1)
        self.register_buffer("_widest", widest, persistent=False)
        reach = (self._lowest.abs() * self._spacing).flatten(1).amax(1) / widest
        self.register_buffer("_reach", reach, persistent=False)


class _MixedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, quantizer: MixedStepQuantizer) -> Tensor:
        step = quantizer.step()
        codes, inside = quantizer._placed(values, step)
        rounded = quantizer._whole(codes).mul_(along(step, 0, values.ndim)).to(values.dtype)
        count = values[0].numel()
        damping = 1 / torch.sqrt(count * quantizer._reach)
        ctx.save_for_backward(values, rounded, inside, damping / (step * quantizer._widest))
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        values, rounded, inside, factor = ctx.saved_tensors
        through = gradient * inside
        # The gradients of the scale are (Σ gradient · v̂ − Σ gradient of the values · v)/scale.
        moved = inner(gradient.float(), rounded.float(), 0) - inner(through.float(), values.float(), 0)
        return through, moved * factor, None


def _fitted(weight: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
    """Return step (channels,) and exponents (channels, 2) of least squared error.

    Each width has the best of its exponents at every step that is tried; the step is that of the least sum.
    """
    rows, kinds = weight.flatten(1), widths.flatten(1)
    start, _ = uniform_grid(*weight_range(rows, 8, "mse", True), 8, True)
    here = {width: mask for width in LOWEST if bool((mask := kinds == width).any())}
    least = torch.full_like(start, math.inf)
    step = start.clone()
    exponents = torch.tensor([EXPONENTS[width][0] for width in COLUMNS], device=rows.device).repeat(len(rows), 1)
    for share in _SHARES:
        found = {width: _best_exponent(rows, mask, start * share, width) for width, mask in here.items()}
        error = torch.stack([each for each, _ in found.values()]).sum(0)
        better = error < least
        least = torch.where(better, error, least)
        step = torch.where(better, start * share, step)
        for column, width in enumerate(COLUMNS):
            if width in found:
                exponents[:, column] = torch.where(better, found[width][1], exponents[:, column])
    return step, exponents.to(torch.uint8)


def _best_exponent(rows: Tensor, mask: Tensor, step: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the least squared error of the weights in `mask` at this width, and its exponent, (channels,) each."""
    errors = []
    for exponent in EXPONENTS[width]:
        scaled = rows / (step * 2**exponent)[:, None] - LOWEST[width]
        missed = scaled.round().clamp_(0, 2**width - 1).sub_(scaled).mul_(mask)
        errors.append(missed.square_().sum(1) * (step * 2**exponent) ** 2)
    least, place = torch.stack(errors).min(0)
    return least, place + EXPONENTS[width][0]


def _mix_widths(weight: Tensor, widths: Tensor) -> LearnableWeight:
    return LearnableWeight(MixedStepQuantizer(weight, widths))


def _fit_weight(weight: Tensor, bits: int, ranges: str) -> Quantizer:
    """Return the levels of weights that all have one width."""
    if bits == min(LOWEST):
        return fit_midrise(weight, bits)
    return SCHEMES.get("symmetric").for_weights()(weight, bits, ranges)


def _learn_weight(fitted: Quantizer, weight: Tensor) -> LearnableWeight:
    if isinstance(fitted, MidriseQuantizer):
        return LearnableWeight(LearnedMidriseQuantizer(fitted))
    assert isinstance(fitted, AffineQuantizer)
    return LearnableWeight(LearnedStepQuantizer.of(fitted))


SCHEMES.add(
    "mixed-step",
    Scheme(
        "mixed-step",
        "weights of 8, 4 and 2 bits side by side, on learned steps with a grid for each width",
        "Esser et al. 2020 (the learned step); Kolf et al., section 3.3 (a width for every weight)",
        tuple(sorted(LOWEST)),
        _fit_weight,
        learn_weight=_learn_weight,
        mix_widths=_mix_widths,
    ),
)
