"""95 % intervals by resampling people.

Comparisons that share a person are not independent, so people are drawn, not comparisons: as many as there are, with
replacement. A person drawn w_p times brings each of their genuine comparisons w_p times, and a comparison with another
person w_p·w_q times (the vertex bootstrap of Snijders & Borgatti, 'Non-parametric standard errors and tests for network
statistics', Connections 22, 1999; for biometrics the 'subsets bootstrap' of Bolle, Ratha & Pankanti, 'Error analysis of
pattern recognition systems: the subsets bootstrap', CVIU 93, 2004). Every threshold is chosen anew in every resample.
The interval is the 2.5th to the 97.5th percentile. A resample without genuine or without impostor comparisons is left
out, and counted. Below `FEWEST_PEOPLE` people no interval is given.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veriquant.metrics.curve import area, crossing, lowest_cost
from veriquant.metrics.folds import fold_accuracies
from veriquant.metrics.protocol import Floats, Ints, Options
from veriquant.metrics.sorted_scores import SortedScores

FEWEST_PEOPLE = 10
"""With fewer people the percentiles of resampling them are meaningless."""


def draw_people(people: int, resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    """Return how often each person is drawn, uint16 (resamples, people); every row sums to `people`."""
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, people), dtype=np.uint16)
    for row in drawn:
        row[:] = np.bincount(rng.integers(people, size=people), minlength=people)
    return drawn


def shares(part: Floats, total: Floats) -> Floats:
    """Return part / total row by row, NaN where the total is zero."""
    result: Floats = part / np.where(total > 0, total, np.nan)
    return result


def curve_figures(fmr: Floats, fnmr: Floats, options: Options, interpolate: bool = False) -> dict[str, Floats]:
    """Return eer, auc, mindcf and, for each operating point, 'fnmr:<far>' of curves (r, v), float64 (r,) each.

    With `interpolate` the curve is known at some thresholds only, and FNMR at an FMR lies between two of them.
    """
    result = {"eer": crossing(fmr, fnmr), "auc": area(fmr, fnmr), "mindcf": lowest_cost(fmr, fnmr, options)[0]}
    for far in options.far:
        after = np.clip((fmr > far).sum(axis=1), 1, fmr.shape[1] - 1)[:, None]
        high = np.take_along_axis(fnmr, after, 1)
        if interpolate:
            low = np.take_along_axis(fnmr, after - 1, 1)
            begin, end = np.take_along_axis(fmr, after - 1, 1), np.take_along_axis(fmr, after, 1)
            step = np.clip((begin - far) / np.where(begin > end, begin - end, np.inf), 0, 1)
            high = low + step * (high - low)
        result[f"fnmr:{far}"] = high[:, 0]
    lost = np.isnan(fmr[:, 0]) | np.isnan(fnmr[:, 0])
    for values in result.values():
        values[lost] = np.nan
    return result


def list_figures(
    levels: SortedScores, drawn: npt.NDArray[np.integer], options: Options, at: tuple[float, ...], full: bool
) -> dict[str, Floats]:
    """Return the figures of a list of comparisons in every resample, float64 (r,) each.

    As `curve_figures`, with 'fmr@<i>' and 'tar@<i>' for threshold i of `at` and, where `full` is set
    and there are folds, 'accuracy'.
    """
    parts: list[dict[str, Floats]] = []
    corners = [int(np.searchsorted(levels.values, threshold, side="left")) for threshold in at]
    for _, weights in levels.chunks(drawn):
        every = levels.cumulated(weights)
        missed = levels.cumulated(np.where(levels.genuine, weights, 0.0))
        below = every - missed
        genuine, impostors = missed[:, -1:], below[:, -1:]
        fmr, fnmr = shares(impostors - below, impostors), shares(missed, genuine)
        figures = curve_figures(fmr, fnmr, options)
        for place, corner in enumerate(corners):
            figures[f"fmr@{place}"], figures[f"tar@{place}"] = fmr[:, corner], 1 - fnmr[:, corner]
        if full and levels.folds is not None:
            accuracy = fold_accuracies(levels, weights)[0]
            known = np.isfinite(accuracy)
            figures["accuracy"] = shares(np.where(known, accuracy, 0).sum(axis=1), known.sum(axis=1))
        parts.append(figures)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def interval(replicates: Floats | None, people: int, resamples: int) -> tuple[tuple[float, float] | None, str]:
    """Return the 95 % percentile interval of replicates (r,) and what a reader must know of it ('' for nothing)."""
    if not resamples:
        return None, "no interval: no resamples were asked for"
    if people < FEWEST_PEOPLE:
        return None, f"no interval: {people} people are too few to resample, at least {FEWEST_PEOPLE} are needed"
    if replicates is None:
        return None, "no interval"
    kept = replicates[np.isfinite(replicates)]
    lost = len(replicates) - len(kept)
    if lost * 2 > len(replicates):
        return None, f"no interval: {lost} of {len(replicates)} resamples had no genuine or no impostor comparisons"
    low, high = np.quantile(kept, [0.025, 0.975])
    note = ""
    if lost * 20 > len(replicates):
        note = f"{lost} of {len(replicates)} resamples had no genuine or no impostor comparisons and were left out"
    return (float(low), float(high)), note


def number_people(*persons: Ints) -> tuple[list[Ints], int]:
    """Renumber people 0…p−1 over all arrays; return the arrays and p."""
    names, codes = np.unique(np.concatenate(persons), return_inverse=True)
    ends = np.cumsum([len(part) for part in persons])[:-1]
    return [part.astype(np.int64) for part in np.split(codes, ends)], len(names)
