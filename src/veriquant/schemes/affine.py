"""Uniform levels, per tensor or per channel: the integers that processors compute with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from veriquant.schemes.codes import Codes
from veriquant.schemes.histogram import Histogram
from veriquant.schemes.quantizer import SCHEMES, LearnableWeight, Quantizer, Scheme
from veriquant.schemes.ranges import activation_range, weight_range
from veriquant.schemes.straight_through import along, straight_through, wants_gradient
from veriquant.schemes.uniform_grid import WIDTHS, check_width, uniform_grid


class AffineQuantizer(Quantizer):
    """value = scale · (code − zero_point) with code = clamp(round(value/scale) + zero_point, 0, 2^bits − 1).

    As ONNX's QuantizeLinear and DequantizeLinear compute it, bit for bit: it divides by the scale, and halves go to the
    even code. (PyTorch's `fake_quantize` multiplies by the reciprocal and lands elsewhere near a half.) Quantizing what
    has been quantized changes nothing. The gradient is the straight-through estimator's: 1 for values that round to a
    code, 0 for values that are clamped to one.
    """

    scale: Tensor
    """float32, () or (channels,), above zero."""
    zero_point: Tensor
    """int32, shaped as `scale`, in [0, 2**bits)."""

    def __init__(self, scale: Tensor, zero_point: Tensor, bits: int, axis: int | None = None) -> None:
        super().__init__()
        check_width(bits)
        self.bits = bits
        self.axis = axis
        self.register_buffer("scale", scale.to(torch.float32))
        self.register_buffer("zero_point", zero_point.to(torch.int32))

    @classmethod
    def over(
        cls, low: Tensor, high: Tensor, bits: int, *, symmetric: bool = False, axis: int | None = None
    ) -> AffineQuantizer:
        """Return the quantizer whose levels span [low, high], () or (channels,) along `axis`; see `uniform_grid`."""
        return cls(*uniform_grid(low, high, bits, symmetric), bits, axis)

    def forward(self, values: Tensor) -> Tensor:
        """See `Quantizer.forward`."""
        learning = wants_gradient(values)
        with torch.no_grad():
            scale, lowest, highest = self._steps(values.ndim)
            steps = torch.div(values.float(), scale).round_()
            if learning:
                clamped = steps.clamp(lowest, highest)
                inside = clamped == steps
            else:
                clamped, inside = steps.clamp_(lowest, highest), None
            rounded = clamped.mul_(scale).to(values.dtype)
        return rounded if inside is None else straight_through(values, rounded, inside)

    def codes(self, values: Tensor) -> Codes:
        """See `Quantizer.codes`."""
        with torch.no_grad():
            scale, lowest, highest = self._steps(values.ndim)
            steps = torch.div(values.float(), scale).round_().clamp_(lowest, highest)
            codes = steps.to(torch.int32) + along(self.zero_point, self.axis, values.ndim)
        return Codes(codes, self.bits, self.scale, self.zero_point, axis=self.axis)

    def extra_repr(self) -> str:
        """Return what the module prints of itself."""
        return f"bits={self.bits}, axis={self.axis}"

    def _steps(self, ndim: int) -> tuple[Tensor, Any, Any]:
        """Return the scale and the lowest and highest multiple of it, ready to broadcast.

        Where it costs nothing the two ends are numbers: clamping to numbers is three times as fast as to tensors. The
        scale stays a tensor: divided by a number, a GPU multiplies by the reciprocal.
        """
        top = 2**self.bits - 1
        if self.zero_point.ndim == 0 and self.zero_point.is_cpu:
            zero = int(self.zero_point)
            return self.scale, -zero, top - zero
        zeros = along(self.zero_point, self.axis, ndim).to(torch.float32)
        return along(self.scale, self.axis, ndim), -zeros, top - zeros


def _fit_weight(weight: Tensor, bits: int, rule: str, *, symmetric: bool, per_channel: bool) -> AffineQuantizer:
    rows = weight.detach().float().reshape(len(weight) if per_channel else 1, -1)
    low, high = weight_range(rows, bits, rule, symmetric)
    if per_channel:
        return AffineQuantizer.over(low, high, bits, symmetric=symmetric, axis=0)
    return AffineQuantizer.over(low[0], high[0], bits, symmetric=symmetric)


def _fit_activation(histogram: Histogram, bits: int, rule: str, *, symmetric: bool) -> AffineQuantizer:
    low, high = activation_range(histogram, bits, rule, symmetric)
    ends = torch.tensor([low, high], dtype=torch.float64)
    return AffineQuantizer.over(ends[0], ends[1], bits, symmetric=symmetric)


def affine_scheme(name: str, summary: str, source: str, *, symmetric: bool, per_channel: bool) -> Scheme:
    """Return a scheme of uniform levels; trained it learns its steps (`learned_step`), or observes its ranges."""

    def fit_weight(weight: Tensor, bits: int, ranges: str) -> Quantizer:
        return _fit_weight(weight, bits, ranges, symmetric=symmetric, per_channel=per_channel)

    def fit_activation(histogram: Histogram, bits: int, ranges: str) -> Quantizer:
        return _fit_activation(histogram, bits, ranges, symmetric=symmetric)

    def learn_weight(fitted: Quantizer, weight: Tensor) -> LearnableWeight:
        return LearnableWeight(learned_step(fitted))

    def learn_activation(fitted: Quantizer) -> Quantizer:
        return learned_step(fitted, batched=True, learn_offset=not symmetric)

    def observe(fitted: Quantizer, running: bool) -> Quantizer:
        return observed_range(fitted, running=running, symmetric=symmetric)

    return Scheme(
        name,
        summary,
        source,
        WIDTHS,
        fit_weight,
        fit_activation,
        learn_weight,
        learn_activation,
        observe,
        uniform=True,
    )


def learned_step(fitted: Quantizer, *, batched: bool = False, learn_offset: bool = False) -> Quantizer:
    """Return uniform levels whose step learns, beginning as `fitted`."""
    from veriquant.schemes.learned_step import LearnedStepQuantizer  # which is an AffineQuantizer itself

    assert isinstance(fitted, AffineQuantizer)
    return LearnedStepQuantizer.of(fitted, batched=batched, learn_offset=learn_offset)


def observed_range(fitted: Quantizer, *, running: bool, symmetric: bool) -> Quantizer:
    """Return uniform levels whose range is observed in training, beginning as `fitted`."""
    from veriquant.schemes.observed import ObservedQuantizer  # which is an AffineQuantizer itself

    assert isinstance(fitted, AffineQuantizer)
    return ObservedQuantizer.like(fitted, running=running, symmetric=symmetric)


def _register(name: str, summary: str, source: str, *, symmetric: bool, per_channel: bool) -> None:
    SCHEMES.add(name, affine_scheme(name, summary, source, symmetric=symmetric, per_channel=per_channel))


_register(
    "symmetric",
    "uniform levels with zero in the middle; weights: one scale per output channel",
    "Pandey et al., section 3.1",
    symmetric=True,
    per_channel=True,
)
_register(
    "symmetric-per-tensor",
    "uniform levels with zero in the middle; weights: one scale for the tensor",
    "Pandey et al., section 3.1",
    symmetric=True,
    per_channel=False,
)
_register(
    "asymmetric",
    "uniform levels between any two ends; weights: a scale and a zero point per output channel",
    "Kolf et al., section 3.2",
    symmetric=False,
    per_channel=True,
)
_register(
    "asymmetric-per-tensor",
    "uniform levels between any two ends; weights: one scale and one zero point for the tensor",
    "Kolf et al., section 3.2",
    symmetric=False,
    per_channel=False,
)
