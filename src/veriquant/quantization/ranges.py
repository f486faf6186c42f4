"""Ranges for the activations: what part of a tensor's values the 8-bit levels should span.

Two passes over the calibration images: the extremes of each tensor, then a histogram between them. From the histogram a
rule picks the range. A narrower range rounds finer and clips more; `least_error` weighs the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.onnxgraph.graph import Graph
from veriquant.quantization.activations import watch

BINS = 2048

Range = tuple[float, float]


@dataclass(frozen=True)
class Histogram:
    """Counts of a tensor's values in `BINS` equal bins over [low, high]."""

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5))


def collect_histograms(graph: Graph, tensors: Sequence[str], inputs: npt.NDArray[np.float32]) -> dict[str, Histogram]:
    """Return the histogram of each tensor over all calibration images."""
    extremes: dict[str, Range] = {}
    for values in watch(graph, tensors, inputs):
        for name, value in values.items():
            low, high = extremes.get(name, (np.inf, -np.inf))
            extremes[name] = min(low, float(value.min())), max(high, float(value.max()))
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in tensors}
    for values in watch(graph, tensors, inputs):
        for name, value in values.items():
            low, high = extremes[name]
            if high > low:
                scaled = (value.ravel() - np.float32(low)) * np.float32(BINS / (high - low))
                bins = np.minimum(scaled.astype(np.int32), BINS - 1)
                counts[name] += np.bincount(np.maximum(bins, 0), minlength=BINS)
    return {name: Histogram(*extremes[name], counts[name]) for name in tensors}


def extremes(histogram: Histogram) -> Range:
    """Return the least and the greatest value seen."""
    return histogram.low, histogram.high


def central(histogram: Histogram, percentile: float = 99.99) -> Range:
    """Return the range that leaves out (100 − percentile) % of the values at each end."""
    total = histogram.counts.sum()
    if total == 0:
        return extremes(histogram)
    share = np.cumsum(histogram.counts) / total
    tail = 1 - percentile / 100
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    low = edges[int(np.searchsorted(share, tail, side="right"))]
    high = edges[min(BINS, int(np.searchsorted(share, 1 - tail, side="left")) + 1)]
    return float(low), float(high)


def least_error(histogram: Histogram, levels: int = 256, steps: int = 60) -> Range:
    """Return the range with the least mean squared error of rounding and clipping to `levels` levels.

    The two ends are pulled in by turns over a grid of `steps` positions: the error is nearly separable in them.
    """
    if histogram.counts.sum() == 0:
        return extremes(histogram)
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)

    def error(low: float, high: float) -> float:
        step = (high - low) / (levels - 1)
        below, above = np.minimum(centres - low, 0.0), np.maximum(centres - high, 0.0)
        inside = counts[(centres >= low) & (centres <= high)].sum()
        return float(counts @ (below**2 + above**2) + inside * step**2 / 12)

    low, high = histogram.low, histogram.high
    for _ in range(2):
        high = min(_pulled(histogram.high, low, steps), key=lambda end: error(low, end))
        low = min(_pulled(histogram.low, high, steps), key=lambda end: error(end, high))
    return float(low), float(high)


def _pulled(end: float, other: float, steps: int) -> list[float]:
    """Return positions from `end` nine tenths of the way to zero, or to the other end where zero lies outside."""
    anchor = 0.0 if min(end, other) <= 0.0 <= max(end, other) else other
    return [end + (anchor - end) * share for share in np.linspace(0.0, 0.9, steps)]


RULES: dict[str, Callable[[Histogram], Range]] = {"minmax": extremes, "percentile": central, "mse": least_error}
