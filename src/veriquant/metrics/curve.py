"""Operating points of one set of comparisons, exact and safe with ties: EER, AUC, FNMR at an FMR, minDCF, the curve.

Only the genuine scores need be kept: between two neighbouring genuine scores FNMR does not change, so the ROC polyline
is given exactly by the numbers of impostors at and above each of them. The list of comparisons and the
all-against-all count both end in the same `Trials` and hence in the same figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from veriquant.metrics.protocol import Floats, Ints, Options, Singles
from veriquant.results import Curve


@dataclass(frozen=True)
class Trials:
    """Counts at the corners of the error trade-off curve.

    `genuine`: float32 (g,) ascending. `impostors`: their number. `top`: float32 (k,), the k highest impostor scores,
    descending. `thresholds`: float64 (v,) not falling; `accepted`: int64 (v,), impostors at or above each; `missed`:
    int64 (v,), genuine scores below each. The first corner accepts everything, the last nothing.
    """

    genuine: Singles
    impostors: int
    top: Singles
    thresholds: Floats
    accepted: Ints
    missed: Ints

    @property
    def fmr(self) -> Floats:
        """FMR at each corner, float64 (v,)."""
        return self.accepted / self.impostors

    @property
    def fnmr(self) -> Floats:
        """FNMR at each corner, float64 (v,)."""
        return self.missed / len(self.genuine)


def above(score: float | np.float32) -> float:
    """Return the lowest float32 threshold that rejects `score`."""
    return float(np.nextafter(np.float32(score), np.float32(np.inf)))


def trials_from_counts(genuine: Singles, at: Ints, over: Ints, impostors: int, top: Singles) -> Trials:
    """Assemble Trials from sorted genuine scores (g,), impostors >= (`at`) and > (`over`) each *distinct* one (d,)."""
    values, counts = np.unique(genuine, return_counts=True)
    missed_over = np.cumsum(counts)
    missed_at = missed_over - counts
    size = 2 * len(values)
    thresholds = np.empty(size + 2)
    accepted = np.empty(size + 2, dtype=np.int64)
    missed = np.empty(size + 2, dtype=np.int64)
    thresholds[1:-1:2], thresholds[2:-1:2] = values, np.nextafter(values, np.float32(np.inf))
    accepted[1:-1:2], accepted[2:-1:2] = at, over
    missed[1:-1:2], missed[2:-1:2] = missed_at, missed_over
    ends = [float(v) for v in (*values[-1:], *top[:1])]
    thresholds[0] = min([-1.0, *(float(v) for v in values[:1])])
    thresholds[-1] = above(max(ends)) if ends else 1.0
    accepted[0], accepted[-1] = impostors, 0
    missed[0], missed[-1] = 0, len(genuine)
    return Trials(genuine, impostors, top, thresholds, accepted, missed)


def trials_from_scores(genuine: Singles, impostor: Singles) -> Trials:
    """Return the Trials of genuine (g,) and impostor (i,) scores, float32, in any order."""
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    values = np.unique(genuine)
    at = len(impostor) - np.searchsorted(impostor, values, side="left")
    over = len(impostor) - np.searchsorted(impostor, values, side="right")
    return trials_from_counts(genuine, at.astype(np.int64), over.astype(np.int64), len(impostor), impostor[::-1])


def crossing(fmr: Floats, fnmr: Floats) -> Floats:
    """Return the EER of curves (..., v) in order of growing threshold: where the polyline meets FMR = FNMR."""
    gap = fmr - fnmr
    last = np.clip((gap >= 0).sum(axis=-1, keepdims=True) - 1, 0, gap.shape[-1] - 2)
    before, after = np.take_along_axis(gap, last, -1), np.take_along_axis(gap, last + 1, -1)
    start, stop = np.take_along_axis(fmr, last, -1), np.take_along_axis(fmr, last + 1, -1)
    result: Floats = (start + before / (before - after) * (stop - start))[..., 0]
    return result


def area(fmr: Floats, fnmr: Floats) -> Floats:
    """Return the area under the ROC polyline of curves (..., v) in order of growing threshold."""
    width = fmr[..., :-1] - fmr[..., 1:]
    height = 2.0 - fnmr[..., :-1] - fnmr[..., 1:]
    result: Floats = np.einsum("...v,...v->...", width, height) / 2
    return result


def lowest_cost(fmr: Floats, fnmr: Floats, options: Options) -> tuple[Floats, Ints]:
    """Return minDCF of curves (..., v) and the index where it is first reached."""
    miss, alarm = options.c_miss * options.p_target, options.c_fa * (1 - options.p_target)
    cost = (miss * fnmr + alarm * fmr) / min(miss, alarm)
    where = cost.argmin(axis=-1)
    return np.take_along_axis(cost, where[..., None], -1)[..., 0], where


def equal_error(trials: Trials) -> tuple[float, float]:
    """Return (EER, threshold)."""
    fmr, fnmr = trials.fmr, trials.fnmr
    reached = int(np.argmax(fnmr >= fmr))
    return float(crossing(fmr, fnmr)), _genuine_threshold(trials, reached)


def auc(trials: Trials) -> float:
    """Return the area under the ROC: P(genuine > impostor) + P(equal)/2, counted in whole numbers."""
    width = trials.accepted[:-1] - trials.accepted[1:]
    genuine = len(trials.genuine)
    height = 2 * genuine - trials.missed[:-1] - trials.missed[1:]
    if 2 * genuine * trials.impostors < 1 << 62:
        return int(np.dot(width, height)) / (2 * genuine * trials.impostors)
    return float(np.dot(width / trials.impostors, height / (2 * genuine)))


def allowed(far: float, impostors: int) -> int:
    """Return the largest number of accepted impostors whose share is at most `far`."""
    count = min(int(far * impostors), impostors)
    while count and count / impostors > far:
        count -= 1
    while count < impostors and (count + 1) / impostors <= far:
        count += 1
    return count


def operating_point(trials: Trials, far: float) -> tuple[float, float]:
    """Return (FNMR, threshold) at the lowest threshold whose FMR is at most `far`."""
    count = allowed(far, trials.impostors)
    corner = int(np.argmax(trials.accepted <= count))
    threshold = trials.thresholds[0] if count >= trials.impostors else above(trials.top[count])
    return float(trials.fnmr[corner]), float(threshold)


def fnmr_at(trials: Trials, threshold: float) -> float:
    """Return the FNMR at a given threshold."""
    return float(np.searchsorted(trials.genuine, threshold, side="left") / len(trials.genuine))


def min_dcf(trials: Trials, options: Options) -> tuple[float, float]:
    """Return (normalised minDCF, threshold)."""
    cost, where = lowest_cost(trials.fmr, trials.fnmr, options)
    return float(cost), _genuine_threshold(trials, int(where))


def _genuine_threshold(trials: Trials, corner: int) -> float:
    """Return the lowest genuine score at or above a corner, or the threshold above all scores where there is none."""
    place = int(np.searchsorted(trials.genuine, trials.thresholds[corner], side="left"))
    return float(trials.genuine[place]) if place < len(trials.genuine) else float(trials.thresholds[-1])


def thinned(trials: Trials, points: int = 400) -> Curve:
    """Return at most `points` corners for drawing: three quarters even in log FMR, one quarter even in FNMR."""
    if not (trials.impostors and len(trials.genuine)):
        return Curve(threshold=[], fmr=[], fnmr=[])
    fmr, fnmr = trials.fmr, trials.fnmr
    keep = np.arange(len(fmr))
    if len(fmr) > points:
        by_log, by_miss = (points - 2) * 3 // 4, (points - 2) // 4
        wanted = np.logspace(0, -math.log10(trials.impostors), by_log)
        first = np.searchsorted(-fmr, -wanted, side="left")
        second = np.searchsorted(fnmr, np.linspace(0, 1, by_miss), side="left")
        keep = np.unique(np.clip(np.concatenate([[0, len(fmr) - 1], first, second]), 0, len(fmr) - 1))
    return Curve(threshold=trials.thresholds[keep].tolist(), fmr=fmr[keep].tolist(), fnmr=fnmr[keep].tolist())
