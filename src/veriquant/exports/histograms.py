"""Histograms of a graph's activations over the calibration images; `veriquant.schemes.ranges` picks ranges from them.

Two passes over the images: the extremes of each tensor, then a histogram between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veriquant.deploy.sessions import watch
from veriquant.onnxgraph.graph import Graph
from veriquant.schemes.histogram import BINS, Histogram, extremes

Range = tuple[float, float]


def collect_histograms(graph: Graph, tensors: Sequence[str], inputs: npt.NDArray[np.float32]) -> dict[str, Histogram]:
    """Return the histogram of each tensor over all calibration images."""
    spans: dict[str, Range] = {}
    for values in watch(graph, tensors, inputs):
        for name, value in values.items():
            low, high = extremes(value, name)
            before = spans.get(name, (low, high))
            spans[name] = min(low, before[0]), max(high, before[1])
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in tensors}
    for values in watch(graph, tensors, inputs):
        for name, value in values.items():
            low, high = spans[name]
            if high > low:
                scaled = (value.ravel() - np.float32(low)) * np.float32(BINS / (high - low))
                bins = np.minimum(scaled.astype(np.int32), BINS - 1)
                counts[name] += np.bincount(np.maximum(bins, 0), minlength=BINS)
    return {name: Histogram(*spans[name], counts[name]) for name in tensors}
