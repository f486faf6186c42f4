"""The range whose quantized values are distributed most like the values themselves (Kullback-Leibler divergence).

The idea is Migacz's (2017, '8-bit inference with TensorRT'): clip the distribution P at a threshold T on |x|, the
outliers piled on its ends; let Q be what 2^b levels can tell of it, each level's share spread evenly over its bins;
take the T of least KL(P‖Q). Here the levels are those of the quantizer, for any width and for asymmetric ranges too,
and zero's own bin is left out of both: zero is always a level, and after a ReLU it would outweigh everything else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from veriquant.schemes.histogram import BINS, Histogram

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_THRESHOLDS = 128
_LEAST_SHARE = 0.01


def entropy_of_activation(histogram: Histogram, bits: int, symmetric: bool) -> tuple[float, float]:
    """Return [max(low, −T), min(high, T)] for the best threshold T; `symmetric`: [−T, T].

    Where there are as many levels as bins (from 11 bits on, for `BINS` of 2048) a histogram cannot tell the
    distributions apart, and the range is all that was seen.
    """
    threshold = _threshold(histogram, bits, symmetric)
    if symmetric:
        return -threshold, threshold
    return max(histogram.low, -threshold), min(histogram.high, threshold)


def entropy_of_weight(rows: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return (low, high), (channels,) each, for `rows` (channels, n): one threshold relative to each channel's largest.

    A channel holds from nine to a few thousand weights, too few for a distribution of its own: all channels, each
    divided by its greatest magnitude, share one histogram and its threshold.
    """
    low, high = torch.aminmax(rows, dim=1)
    largest = torch.maximum(low.abs(), high.abs())
    used = rows[largest > 0] / largest[largest > 0, None]
    if used.numel() == 0:
        return low, high
    ends = float(used.min()), float(used.max())
    if ends[0] == ends[1]:
        return low, high
    counts = torch.histc(used, BINS, *ends).numpy().astype(np.int64)
    cut = largest * _threshold(Histogram(*ends, counts), bits, symmetric)
    return torch.maximum(low, -cut), torch.minimum(high, cut)


def _threshold(histogram: Histogram, bits: int, symmetric: bool) -> float:
    bins, levels = len(histogram.counts), 2**bits
    largest = max(abs(histogram.low), abs(histogram.high))
    width = (histogram.high - histogram.low) / bins
    counts = histogram.counts.astype(np.float64)
    zero = int(np.floor(-histogram.low / width))
    if 0 <= zero < bins:
        counts[zero] = 0.0
    thresholds = largest * np.geomspace(1.0, _LEAST_SHARE, _THRESHOLDS)
    steps, zero_points = _levels(histogram, thresholds, bits, symmetric)
    # A level narrower than a bin sees nothing within it.
    told = steps >= width
    if levels >= bins or not told.any() or not counts.any():
        return largest
    thresholds, steps, zero_points = thresholds[told], steps[told], zero_points[told]
    edges = (np.arange(levels + 1) - zero_points[:, None] - 0.5) * steps[:, None]
    first_bins = np.ceil((edges - histogram.low) / width - 0.5).clip(0, bins).astype(np.int64)
    return float(thresholds[int(np.argmin(_divergence(counts, first_bins)))])


def _levels(histogram: Histogram, thresholds: Floats, bits: int, symmetric: bool) -> tuple[Floats, Floats]:
    """Return the step and the zero point of each threshold's levels; see `uniform_grid`."""
    if symmetric:
        half = 2 ** (bits - 1)
        return thresholds / (half - 1), np.full(len(thresholds), float(half))
    low = np.maximum(min(histogram.low, 0.0), -thresholds)
    high = np.minimum(max(histogram.high, 0.0), thresholds)
    steps = (high - low) / (2**bits - 1)
    return steps, np.round(-low / steps)


def _divergence(counts: Floats, first_bins: Ints) -> Floats:
    """Return KL(P‖Q) for each row of `first_bins` (candidates, levels + 1): the bin where each level begins.

    With M the mass and K the number of non-empty bins of a level, P_j the counts with the outliers added to the two
    outermost bins, and T and S the sums of P and M: KL = (Σ P_j log P_j − Σ P_j log(M/K))/T + log(S/T).
    """
    total = counts.sum()
    mass = _running(counts)
    own = _running(_times_log(counts))
    filled = _running((counts > 0).astype(np.float64))
    first, last = first_bins[:, 0], first_bins[:, -1] - 1
    rows = np.arange(len(first_bins))
    below, above = mass[first], total - mass[last + 1]

    held = np.diff(mass[first_bins], axis=1)
    bins_filled = np.diff(filled[first_bins], axis=1)
    entropy = own[last + 1] - own[first]
    lowest, highest = first_bins[:, 1:] > first[:, None], first_bins[:, :-1] <= last[:, None]
    ends = (first, below, lowest.argmax(axis=1)), (last, above, highest.shape[1] - 1 - highest[:, ::-1].argmax(axis=1))
    for bin_, outside, level in ends:
        there = counts[bin_.clip(0, len(counts) - 1)]
        entropy += _times_log(there + outside) - _times_log(there)
        bins_filled[rows, level] += (there == 0) & (outside > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.log(held / bins_filled)
        cross = np.where(held > 0, held * told, 0.0).sum(axis=1)
        for _, outside, level in ends:
            cross += np.where(outside > 0, outside * told[rows, level], 0.0)
        found = (entropy - cross) / total + np.log(held.sum(axis=1) / total)
    # Outliers piled where Q has nothing, or nothing left inside: infinitely unlike.
    return np.where(np.isfinite(found), found, np.inf)


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _times_log(values: Floats) -> Floats:
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)))
