"""Weights relative to the largest of their channel: what they are ranked by over all channels and layers."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_to_largest(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest magnitude of each channel, (channels,), 1 where all are 0, and the weights divided by it."""
    largest = weight.flatten(1).abs().amax(dim=1)
    largest = torch.where(largest > 0, largest, 1.0)
    return largest, weight / largest.reshape(-1, *[1] * (weight.ndim - 1))
