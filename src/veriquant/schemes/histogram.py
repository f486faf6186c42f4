"""`Histogram`: the values that a tensor took over the calibration images, in equal bins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError

BINS = 2048


@dataclass(frozen=True)
class Histogram:
    """Counts of a tensor's values in equal bins over [low, high]."""

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5))


def extremes(values: npt.NDArray[np.float32], tensor: str) -> tuple[float, float]:
    """Return the least and the greatest value of `tensor`; raise `VeriQuantError` where one is NaN or infinite.

    A tensor without values has the extremes 0 and 0.
    """
    if not values.size:
        return 0.0, 0.0
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise VeriQuantError(
            f"tensor {tensor!r} holds NaN or infinity for a calibration image, so that its range would mean nothing; "
            "take out images without any contrast, such as black ones, and check what the network takes (--input)"
        )
    return low, high
