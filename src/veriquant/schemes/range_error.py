"""The range of least squared error, rounding and clipping both counted with the levels that a quantizer will have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from veriquant.schemes.histogram import Histogram
from veriquant.schemes.uniform_grid import uniform_grid

Floats = npt.NDArray[np.float64]

#: Shares of the full range: an outlier may make it a hundred times too wide.
_LEAST_SHARE = 0.01
_COARSE = 72
_FINE = 17
#: Zero points tried where the range has two sides; fewer where there are fewer codes.
_ZERO_POINTS = 256


def least_error_of_activation(histogram: Histogram, bits: int, symmetric: bool) -> tuple[float, float]:
    """Return the range of least squared error over the histogram; its ends are levels.

    Every candidate is a step and a zero point. As zero is always a level, a bin's rounding error depends on the step
    alone: its running sum over the bins gives the error between any two ends, and running sums of 1, x and x² give
    what lies beyond them, so that each zero point costs four look-ups. The values of a bin count as its centre, and
    those of the bin that holds zero as zero: after a ReLU that is what most of them are.
    """
    top = 2**bits - 1
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        full = max(-low, high) / (2 ** (bits - 1) - 1)
        zero_points = np.array([2 ** (bits - 1)])
    else:
        full = (high - low) / top
        exact = round(-low / full)
        spread = np.linspace(0, top, min(top + 1, _ZERO_POINTS)).round().astype(np.int64)
        # The first is the whole range's: where nothing is better, nothing is clipped.
        zero_points = np.concatenate([[exact], spread if low < 0 < high else spread[:0]])
    search = _Search(histogram, low - full / 2, high + full / 2, top, zero_points)
    shares = np.geomspace(1.0, _LEAST_SHARE, _COARSE)
    best, _ = search.best(full * shares)
    near = shares[max(best - 1, 0)], shares[min(best + 1, _COARSE - 1)]
    steps = full * np.concatenate([shares[[best]], np.linspace(*near, _FINE)])
    chosen, zero = search.best(steps)
    step = float(steps[chosen])
    # The extra level below −α belongs to a symmetric quantizer, not to its range.
    return -(top - zero if symmetric else zero) * step, (top - zero) * step


class _Search:
    """The squared error of a step and a zero point, for many of both at once."""

    def __init__(
        self, histogram: Histogram, low: float, high: float, top: int, zero_points: npt.NDArray[np.int64]
    ) -> None:
        centres = histogram.centres
        half = (histogram.high - histogram.low) / len(centres) / 2
        centres[np.abs(centres) <= half * (1 + 1e-9)] = 0.0
        held = histogram.counts > 0
        self.values = centres[held]
        self.counts = histogram.counts[held].astype(np.float64)
        self.low, self.high, self.top, self.zero_points = low, high, top, zero_points
        moments = self.counts * self.values ** np.arange(3)[:, None]
        self.sums = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)

    def best(self, steps: Floats) -> tuple[int, int]:
        """Return the index of the best step and its best zero point; of equals, the first."""
        lows = -self.zero_points * steps[:, None]
        highs = (self.top - self.zero_points) * steps[:, None]
        first = np.searchsorted(self.values, lows, side="left")
        last = np.searchsorted(self.values, highs, side="right")
        rounding = self._rounding(steps)
        rows = np.arange(len(steps))[:, None]
        error = rounding[rows, last] - rounding[rows, first]
        error += self._distance(self.sums[:, first], lows)
        error += self._distance(self.sums[:, -1, None, None] - self.sums[:, last], highs)
        # Levels where there are no values help nobody; a symmetric range has no choice.
        if len(self.zero_points) > 1:
            error[(lows < self.low) | (highs > self.high)] = np.inf
        # Running sums leave a residue where the true error is zero.
        error = np.maximum(error, 1e-12 * self.sums[2, -1])
        row, column = divmod(int(np.argmin(error)), len(self.zero_points))
        return row, int(self.zero_points[column])

    def _rounding(self, steps: Floats) -> Floats:
        """Return (steps, values + 1): the running sum of the squared error of rounding to multiples of each step."""
        scaled = self.values / steps[:, None]
        scaled -= np.round(scaled)
        scaled *= scaled
        scaled *= self.counts
        summed = np.zeros((len(steps), len(self.values) + 1))
        np.cumsum(scaled, axis=1, out=summed[:, 1:])
        summed *= (steps**2)[:, None]
        return summed

    @staticmethod
    def _distance(sums: Floats, end: Floats) -> Floats:
        """Return Σ(x − end)² from the sums of 1, x and x²."""
        return np.asarray(sums[2] - 2 * end * sums[1] + end**2 * sums[0])


#: For weights: an outlier among a few thousand is rarely twenty times too large.
_LEAST_WEIGHT_SHARE = 0.05
_COARSE_WEIGHT = 56
_FINE_WEIGHT = 24
_ONE_END = 24


def least_error_of_weight(rows: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return (low, high), (channels,) each, of least squared error over `rows` (channels, n), float32.

    Each channel's range is shrunk by 80 factors, first coarsely, then finely about the best; where it may be
    asymmetric, each end is then shrunk alone. The error is that of the very values that the quantizer would give.
    """
    low, high = torch.aminmax(rows, dim=1)
    low, high = low.clamp(max=0), high.clamp(min=0)
    found = _Best(rows, bits, symmetric, low, high)
    coarse = torch.logspace(0, float(np.log10(_LEAST_WEIGHT_SHARE)), _COARSE_WEIGHT).tolist()
    kept = torch.ones_like(low)
    for share in coarse[1:]:
        better = found.try_range(low * share, high * share)
        kept = torch.where(better, share, kept)
    ratio = coarse[1]
    for share in torch.linspace(ratio, 1 / ratio, _FINE_WEIGHT).tolist():
        factor = (kept * share).clamp(max=1.0)
        found.try_range(low * factor, high * factor)
    if not symmetric:
        one_end = torch.linspace(1.0, 0.3, _ONE_END).tolist()
        for share in one_end:
            found.try_range(low * share, found.high)
        for share in one_end:
            found.try_range(found.low, high * share)
    return found.low, found.high


class _Best:
    """The best range of each channel so far."""

    def __init__(self, rows: Tensor, bits: int, symmetric: bool, low: Tensor, high: Tensor) -> None:
        self._rows, self._bits, self._symmetric = rows, bits, symmetric
        self._scaled, self._rounded = torch.empty_like(rows), torch.empty_like(rows)
        self.low, self.high = low, high
        self._error = self._squared_error(low, high)

    def try_range(self, low: Tensor, high: Tensor) -> Tensor:
        """Keep the range in those channels where it is better; return which they are."""
        error = self._squared_error(low, high)
        better = error < self._error
        self._error = torch.where(better, error, self._error)
        self.low = torch.where(better, low, self.low)
        self.high = torch.where(better, high, self.high)
        return better

    def _squared_error(self, low: Tensor, high: Tensor) -> Tensor:
        scale, zero = uniform_grid(low, high, self._bits, self._symmetric)
        lowest = -zero[:, None].to(torch.float32)
        torch.div(self._rows, scale[:, None], out=self._scaled)
        torch.round(self._scaled, out=self._rounded)
        self._rounded.clamp_(lowest, lowest + (2**self._bits - 1)).sub_(self._scaled)
        # A norm, not a sum of squares: all that is asked of it is which is less.
        norm: Tensor = torch.linalg.vector_norm(self._rounded, dim=1)
        return norm * scale
