"""Figures of the whole batch where several processes hold a slice of it each; in one process, its own."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def present_anywhere(labels: Tensor, classes: int) -> Tensor:
    """Return which classes occur in any process's labels: int64 (n,) -> bool (classes,), the same everywhere."""
    present = torch.zeros(classes, dtype=torch.uint8, device=labels.device)
    present[labels] = 1
    if processes() > 1:
        dist.all_reduce(present, dist.ReduceOp.MAX)
    return present.bool()


def mean_and_deviation(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (n−1) of the values, (n,), of all processes; the deviation of one is NaN."""
    count = _sum(torch.full_like(values[:1], len(values)).sum())
    mean = _sum(values.sum()) / count
    squares = _sum((values - mean).square().sum())
    return mean, (squares / (count - 1)).sqrt()


def _sum(value: Tensor) -> Tensor:
    if processes() > 1:
        dist.all_reduce(value, dist.ReduceOp.SUM)
    return value
