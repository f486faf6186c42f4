"""`lsq`: uniform levels whose step, and for activations whose offset, are trained with the network.

Esser et al., 'Learned step size quantization' (ICLR 2020); the offset is that of Bhalgat et al., 'LSQ+' (2020). After
training the levels are an `AffineQuantizer`'s. Fitted and not trained they are those of scheme `symmetric` (weights) or
`asymmetric` (activations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from veriquant.schemes.affine import AffineQuantizer
from veriquant.schemes.clipped import inner, passed, total
from veriquant.schemes.learned import LEAST, LearnedLevels
from veriquant.schemes.quantizer import SCHEMES, LearnableWeight, Quantizer, Scheme
from veriquant.schemes.straight_through import along
from veriquant.schemes.uniform_grid import WIDTHS


class LearnedStepQuantizer(LearnedLevels[AffineQuantizer], AffineQuantizer):
    """value = step · (code − zero_point), as `AffineQuantizer`, with a gradient to the step and to the offset.

    The step in use is `scale`, but at least 1/256 of its first value, so that it stays positive; the gradient passes
    all the same, so that it can come back. With v̂ the result and s the step, ∂v̂/∂s = (v̂ − v)/s for values that round
    to a code and v̂/s for values that are clamped (Esser et al., eq. 3). Where there is an `offset` β, the zero point is
    round(−β/s), straight through: a clamped value has ∂v̂/∂β = 1 and ∂v̂/∂s = (v̂ − β)/s (as in Bhalgat et al., but zero
    stays a level). Both gradients are multiplied by 1/√(N·Q), N values a step and Q the largest multiple of the step
    (Esser et al., section 2.2). The gradient of the values is the straight-through estimator's.

    `batched`: the first axis of the values is a batch, as with activations, and does not count in N.
    """

    scale: Tensor
    """Parameter: float32, () or (channels,)."""
    zero_point: Tensor
    """int32, shaped as `scale`; where there is an offset, it follows it with every call."""
    offset: Tensor | None
    """Parameter: float32, shaped as `scale`, the value of code 0; None: the zero point stays as it is."""
    least: Tensor
    """float32, shaped as `scale`: the smallest step."""

    def __init__(
        self,
        scale: Tensor,
        zero_point: Tensor,
        bits: int,
        axis: int | None = None,
        *,
        batched: bool = False,
        learn_offset: bool = False,
    ) -> None:
        super().__init__(scale, zero_point.detach().clone(), bits, axis)
        self.batched = batched
        self.scale = nn.Parameter(self.scale.detach().clone())
        self.register_buffer("least", self.scale.detach() * LEAST)
        offset = -self.scale.detach() * self.zero_point if learn_offset else None
        self.register_parameter("offset", None if offset is None else nn.Parameter(offset))
        self._reach = int(torch.maximum(2**bits - 1 - self.zero_point, self.zero_point - 1).max())

    @classmethod
    def of(cls, fitted: AffineQuantizer, *, batched: bool = False, learn_offset: bool = False) -> LearnedStepQuantizer:
        """Return a quantizer that starts from the levels of `fitted`, best with ranges of least squared error.

        `learn_offset`: where the range begins is learned too, which is for asymmetric activations.
        """
        return cls(
            fitted.scale,
            fitted.zero_point,
            fitted.bits,
            fitted.axis,
            batched=batched,
            learn_offset=learn_offset,
        )

    @classmethod
    def by_mean(
        cls, values: Tensor, bits: int, *, signed: bool = True, axis: int | None = None, batched: bool = False
    ) -> LearnedStepQuantizer:
        """Return a quantizer that starts from step 2·mean|v|/√Q (Esser et al., section 2.1).

        `values`: float, the weight or a batch of the activation. `signed`: codes on both sides of zero, otherwise on
        the positive side alone. `axis`: a step for each channel. The rule looks at the size of the values alone; `of`
        starts closer.
        """
        magnitude = values.detach().float().abs()
        count = magnitude.numel() / (1 if axis is None else values.shape[axis])
        reach = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        step = 2 * total(magnitude, axis) / count / math.sqrt(reach)
        step = torch.where(step < torch.finfo(torch.float32).tiny, 1.0, step)
        zero_point = torch.full_like(step, 2 ** (bits - 1) if signed else 0, dtype=torch.int32)
        return cls(step, zero_point, bits, axis, batched=batched)

    def with_gradient(self, values: Tensor, rounded: Tensor, frozen: AffineQuantizer) -> Tensor:
        """See `LearnedLevels.with_gradient`: to the step and the offset."""
        samples = values.shape[0] if self.batched and values.ndim else 1
        count = max(values.numel() / self.scale.numel() / samples, 1)
        damping = 1 / math.sqrt(count * self._reach)
        levels = _Levels(frozen.scale, frozen.zero_point, self.bits, self.axis, damping)
        arguments = values, rounded, self.scale, self.offset, levels
        return cast(Tensor, _LearnedStep.apply(*arguments))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def freeze(self) -> AffineQuantizer:
        """Return the levels as they are now, as a quantizer that learns no more; it gives the same bit for bit."""
        scale = torch.maximum(self.scale, self.least)
        if self.offset is not None:
            self.zero_point.copy_((-self.offset / scale).round_().clamp_(0, 2**self.bits - 1))
        return AffineQuantizer(scale, self.zero_point.clone(), self.bits, self.axis)

    def parameter_scales(self) -> dict[str, Tensor]:
        """See `Quantizer.parameter_scales`: the first step, and for the offset the range of all levels."""
        start = self.least / LEAST
        return {"scale": start} if self.offset is None else {"scale": start, "offset": start * (2**self.bits - 1)}

    def extra_repr(self) -> str:
        """Return what the module prints of itself."""
        return f"{super().extra_repr()}, batched={self.batched}, learns_offset={self.offset is not None}"


@dataclass(frozen=True)
class _Levels:
    """The levels of one forward pass, and the factor of the step's and the offset's gradient."""

    scale: Tensor
    zero_point: Tensor
    bits: int
    axis: int | None
    damping: float

    def passed(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Return `gradient` where a value rounds to a code, 0 where it is clamped to one."""
        scale, zero_point = (along(each, self.axis, values.ndim) for each in (self.scale, self.zero_point))
        return passed(gradient, values, scale, zero_point, -0.5, 2**self.bits - 0.5)


class _LearnedStep(torch.autograd.Function):
    """Saves what lies in memory anyway, the values and the result, and finds again what was clamped.

    The gradients of the step add up to (Σ gradient · v̂ − Σ gradient of the values · v)/s: two inner products.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, rounded: Tensor, scale: Tensor, offset: Tensor | None, levels: _Levels
    ) -> Tensor:
        ctx.save_for_backward(values, rounded, offset)
        ctx.levels = levels
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, rounded, offset = ctx.saved_tensors
        levels: _Levels = ctx.levels
        axis, given = levels.axis, gradient.float()
        through = levels.passed(given, values.float())
        step = inner(given, rounded.float(), axis) - inner(through, values.float(), axis)
        start = None
        if offset is not None:
            start = total(given, axis) - total(through, axis)
            step -= offset * start
            start *= levels.damping
        step = step / levels.scale * levels.damping
        return through.to(values.dtype), None, step, start, None


def _learn_weight(fitted: Quantizer, weight: Tensor) -> LearnableWeight:
    assert isinstance(fitted, AffineQuantizer)
    return LearnableWeight(LearnedStepQuantizer.of(fitted))


def _learn_activation(fitted: Quantizer) -> Quantizer:
    assert isinstance(fitted, AffineQuantizer)
    return LearnedStepQuantizer.of(fitted, batched=True, learn_offset=True)


SCHEMES.add(
    "lsq",
    Scheme(
        "lsq",
        "learned steps: those of symmetric (weights) and asymmetric (activations) until training learns them",
        "Esser et al. 2020; Bhalgat et al. 2020",
        WIDTHS,
        SCHEMES.get("symmetric").fit_weight,
        SCHEMES.get("asymmetric").fit_activation,
        _learn_weight,
        _learn_activation,
        uniform=True,
    ),
)
