"""The straight-through estimator: rounding whose gradient is 1 inside the clipping range and 0 outside."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(inside)
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


def straight_through(values: Tensor, rounded: Tensor, inside: Tensor) -> Tensor:
    """Return `rounded`, with a gradient that passes to `values` where `inside` (boolean) holds (Bengio et al. 2013).

    All three have one shape; `rounded` and `inside` carry no gradient.
    """
    return cast(Tensor, _StraightThrough.apply(values, rounded, inside))  # type: ignore[no-untyped-call]


def wants_gradient(values: Tensor) -> bool:
    """Return whether a gradient with respect to `values` is being recorded."""
    return torch.is_grad_enabled() and values.requires_grad


def along(value: Tensor, axis: int | None, ndim: int) -> Tensor:
    """Return `value`, () or (channels,), so that it broadcasts along `axis` of a tensor of `ndim` axes."""
    if axis is None or value.ndim == 0:
        return value
    shape = [1] * ndim
    shape[axis] = -1
    return value.reshape(shape)
