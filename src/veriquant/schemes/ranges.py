"""Range rules: what part of a tensor's values the levels should span. A narrow range rounds finer and clips more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.registry import Registry
from veriquant.schemes.histogram import Histogram
from veriquant.schemes.range_entropy import entropy_of_activation, entropy_of_weight
from veriquant.schemes.range_error import least_error_of_activation, least_error_of_weight
from veriquant.schemes.uniform_grid import check_width

#: The percentile rule leaves out this share of the values at each end (a percentile of 99.99).
TAIL = 1e-4
#: Values searched at a time: what a search holds beside the weights stays at a few times this.
_CHUNK = 2**18


@dataclass(frozen=True)
class RangeRule:
    """One way to choose a range.

    `activation(histogram, bits, symmetric)` takes a histogram that has counts; `weight(rows, bits, symmetric)` takes
    float32 (channels, n) and returns two (channels,). Both may return a range that leaves zero out: it is widened.
    `pooled`: the rule looks at all channels together, so they cannot be worked through a few at a time.
    """

    name: str
    summary: str
    source: str
    activation: Callable[[Histogram, int, bool], tuple[float, float]]
    weight: Callable[[Tensor, int, bool], tuple[Tensor, Tensor]]
    pooled: bool = False


RULES: Registry[RangeRule] = Registry("range rule")


def activation_range(histogram: Histogram, bits: int, rule: str, symmetric: bool = False) -> tuple[float, float]:
    """Return (low, high), with low ≤ 0 ≤ high, that 2**bits levels should span by `rule`.

    `symmetric`: low = −high. A histogram without counts (a constant tensor) has the range from it to zero. Raises
    `VeriQuantError` for an unknown rule, a width outside 2 to 16, or values that are not finite.
    """
    check_width(bits)
    chosen = RULES.get(rule)
    if not (math.isfinite(histogram.low) and math.isfinite(histogram.high)):
        raise VeriQuantError(
            f"an activation reaches from {histogram.low} to {histogram.high}: expected finite values; check the "
            "network and the calibration images for overflow or NaN"
        )
    low, high = histogram.low, histogram.high
    if histogram.counts.any() and low < high:
        low, high = chosen.activation(histogram, bits, symmetric)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    return low, high


def weight_range(rows: Tensor, bits: int, rule: str, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return (low, high), float32 (channels,) each, that 2**bits levels should span by `rule`, channel by channel.

    `rows`: float32 (channels, n), n ≥ 1. low ≤ 0 ≤ high; `symmetric`: low = −high. A channel of zeros has the range
    (0, 0). Raises `VeriQuantError` for an unknown rule, a width outside 2 to 16, or weights that are not finite.
    """
    check_width(bits)
    chosen = RULES.get(rule)
    if not bool(torch.isfinite(rows).all()):
        raise VeriQuantError("a weight holds NaN or infinity: expected finite values; check the checkpoint")
    at_once = len(rows) if chosen.pooled else max(1, _CHUNK // rows.shape[1])
    found = [chosen.weight(chunk, bits, symmetric) for chunk in torch.split(rows, at_once)]
    low = torch.cat([each for each, _ in found]).clamp(max=0)
    high = torch.cat([each for _, each in found]).clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    return low, high


def _extremes(histogram: Histogram, bits: int, symmetric: bool) -> tuple[float, float]:
    return histogram.low, histogram.high


def _extremes_of_rows(rows: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    low, high = torch.aminmax(rows, dim=1)
    return low, high


def _central(histogram: Histogram, bits: int, symmetric: bool) -> tuple[float, float]:
    bins = len(histogram.counts)
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(histogram.low, histogram.high, bins + 1)
    low = edges[int(np.searchsorted(share, TAIL, side="right"))]
    high = edges[min(bins, int(np.searchsorted(share, 1 - TAIL, side="left")) + 1)]
    return float(low), float(high)


def _central_rows(rows: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Leave out at most `TAIL` of a channel's values at each end: nothing where it has fewer than 1/`TAIL`."""
    count = rows.shape[1]
    left_out = int(TAIL * count)
    return rows.kthvalue(1 + left_out, dim=1).values, rows.kthvalue(count - left_out, dim=1).values


RULES.add(
    "minmax",
    RangeRule("minmax", "the least and the greatest value", "Kolf et al., section 3.2", _extremes, _extremes_of_rows),
)
RULES.add(
    "percentile",
    RangeRule(
        "percentile",
        "all but one value in ten thousand at each end, whatever the width",
        "Wu et al. 2020, 'Integer quantization for deep learning inference', section 3.3",
        _central,
        _central_rows,
    ),
)
RULES.add(
    "mse",
    RangeRule(
        "mse",
        "least squared error of rounding and clipping",
        "Pandey et al., section 4",
        least_error_of_activation,
        least_error_of_weight,
    ),
)
RULES.add(
    "entropy",
    RangeRule(
        "entropy",
        "least Kullback-Leibler divergence between the values before and after",
        "Migacz 2017, '8-bit inference with TensorRT'",
        entropy_of_activation,
        entropy_of_weight,
        pooled=True,
    ),
)
