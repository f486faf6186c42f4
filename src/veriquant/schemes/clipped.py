"""What the backward passes of quantizers with learned ranges need, in as few passes over memory as there are."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def passed(gradient: Tensor, values: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float) -> Tensor:
    """Return `gradient` where low < values/scale + zero_point < high, else 0; float32.

    `low` and `high` are codes; `scale` and `zero_point` broadcast against `values`, and the zero point may lie between
    two codes, as that of midrise levels does. Where they are single numbers on the CPU, the two ends are brought to the
    values instead, which leaves one pass over memory.
    """
    if scale.ndim == 0 and scale.is_cpu:
        step, zero = float(scale), float(zero_point)
        low, high = (low - zero) * step, (high - zero) * step
    else:
        values = torch.div(values, scale).add_(zero_point)
    return cast(Tensor, torch.ops.aten.hardtanh_backward(gradient, values, low, high))


def inner(left: Tensor, right: Tensor, axis: int | None) -> Tensor:
    """Return Σ left · right, () or, for each index along `axis`, (channels,); both of one shape, float32."""
    if axis is not None:
        return total(left * right, axis)
    if left.stride() == right.stride() and _dense(left):
        whole = (left.numel(),), (1,)
        return torch.dot(left.as_strided(*whole), right.as_strided(*whole))
    return (left * right).sum()


def total(values: Tensor, axis: int | None) -> Tensor:
    """Return the sum of `values`, () or, for each index along `axis`, (channels,)."""
    if axis is None:
        return values.sum()
    return values.movedim(axis, 0).flatten(1).sum(1)


def _dense(values: Tensor) -> bool:
    """Return whether the values lie in memory without gaps, in rows or with their channels last."""
    last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return last or values.is_contiguous()
