"""A list of comparisons in order of score, and its cumulated weights: the ground of resampling and of folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.metrics.protocol import Bools, Floats, Ints, Singles

_CHUNK = 1 << 18
"""Weights handled at a time: 2 MB of float64, so that they stay in the cache."""


@dataclass(frozen=True)
class SortedScores:
    """m comparisons sorted by score; v−1 distinct scores, v corners (the last above all scores).

    `values`: float64 (v−1,) ascending. `bounds`: int64 (v,), comparisons below each corner. `genuine`: bool (m,);
    `one`, `other`: int64 (m,), the two people; `folds`: int64 (m,) or None; all in order of score.
    """

    values: Floats
    bounds: Ints
    genuine: Bools
    one: Ints
    other: Ints
    folds: Ints | None

    @property
    def distinct(self) -> bool:
        """Whether no two scores are equal."""
        return len(self.bounds) == len(self.genuine) + 1

    def weights(self, people: npt.NDArray[np.floating]) -> Floats:
        """Return the weight of each comparison, float64 (r, m), for the weights of people (r, p).

        A comparison of two people counts once for every pair of their drawn copies, w_p·w_q; one within a person w_p.
        """
        return np.asarray(people[:, self.one] * np.where(self.one == self.other, 1.0, people[:, self.other]))

    def cumulated(self, weights: Floats) -> Floats:
        """Return the weight below each corner, float64 (r, v), of weights (r, m)."""
        result = np.empty((len(weights), weights.shape[1] + 1))
        result[:, 0] = 0
        np.cumsum(weights, axis=1, out=result[:, 1:])
        return result if self.distinct else result[:, self.bounds]

    def chunks(self, people: npt.NDArray[np.integer]) -> Iterator[tuple[slice, Floats]]:
        """Yield (rows, weights of comparisons) for some rows of the weights of people at a time."""
        rows = max(1, _CHUNK // len(self.genuine))
        for start in range(0, len(people), rows):
            part = slice(start, min(start + rows, len(people)))
            yield part, self.weights(people[part].astype(np.float64))


def sort_scores(scores: Singles, genuine: Bools, one: Ints, other: Ints, folds: Ints | None) -> SortedScores:
    """Sort m comparisons by score."""
    order = np.argsort(scores, kind="stable")
    values, starts = np.unique(scores[order], return_index=True)
    bounds = np.append(starts, len(scores)).astype(np.int64)
    return SortedScores(
        values.astype(np.float64), bounds, genuine[order], one[order], other[order],
        None if folds is None else folds[order],
    )  # fmt: skip
