"""Accuracy with the threshold chosen on the other folds, as LFW asks (Huang et al., 2007, 'View 2').

For each fold the threshold is the one that decides most comparisons of the *other* folds rightly, applied to the fold.
Thresholds that decide equally well form plateaus; the rule is the **middle of the lowest best plateau**, the plateau
reaching from just above one score of the other folds to the next (or to ±1 at the ends). The fold itself does not move
it, nor does the order of the trials. The value is the mean over the folds; the standard deviation is over the folds
with divisor k, as InsightFace prints it.
"""

from __future__ import annotations

import numpy as np

from veriquant.metrics.protocol import Floats
from veriquant.metrics.sorted_scores import SortedScores


def fold_accuracies(levels: SortedScores, weights: Floats) -> tuple[Floats, Floats]:
    """Return accuracy and threshold of each fold, two float64 (r, k), for weights (r, m) of the sorted comparisons.

    A fold, or the rest, without weight gives NaN.
    """
    assert levels.folds is not None
    names = np.unique(levels.folds)
    signed = np.where(levels.genuine, -weights, weights)
    genuine = np.where(levels.genuine, weights, 0.0)
    everything = levels.cumulated(signed)
    lower = np.append(min(-1.0, levels.values[0]), levels.values)
    top = float(levels.values[-1])
    upper = np.append(levels.values, 1.0 if top < 1 else top + 2.0**-20)
    rows = np.arange(len(weights))
    accuracy = np.empty((len(weights), len(names)))
    thresholds = np.empty_like(accuracy)
    for column, name in enumerate(names):
        inside = levels.folds == name
        others = levels.cumulated(np.where(inside, 0.0, signed))
        first = others.argmax(axis=1)
        last = _plateau_end(others, first)
        chosen = (lower[first] + upper[last]) / 2
        corner = np.searchsorted(levels.values, chosen, side="left")
        total = weights[:, inside].sum(axis=1)
        rest = weights.sum(axis=1) - total
        right = genuine[:, inside].sum(axis=1) + everything[rows, corner] - others[rows, corner]
        accuracy[:, column] = np.where((total > 0) & (rest > 0), right / np.where(total > 0, total, 1), np.nan)
        thresholds[:, column] = chosen
    return accuracy, thresholds


def _plateau_end(correct: Floats, first: np.typing.NDArray[np.intp]) -> np.typing.NDArray[np.intp]:
    """Return, for each row of (r, v), the last corner of the run of equal values that starts at `first`."""
    best = correct[np.arange(len(correct)), first]
    last = first.copy()
    alive = np.arange(len(correct))
    while alive.size:
        alive = alive[last[alive] + 1 < correct.shape[1]]
        alive = alive[correct[alive, last[alive] + 1] == best[alive]]
        last[alive] += 1
    return last
