"""`kmeans`: the 2**bits levels of least squared error, wherever they lie; one table for all channels.

In one dimension the optimum can be had exactly, by dynamic programming over the sorted values (Wu 1991, 'Optimal
quantization by matrix searching'; Wang and Song 2011, 'Ckmeans.1d.dp'). It is the natural next step beyond the equal
parts that Liu et al. (section III-B) average.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.schemes.codebook import CodebookQuantizer
from veriquant.schemes.learned_codebook import learn_codebook_scale
from veriquant.schemes.quantizer import SCHEMES, Scheme

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WIDTHS = range(1, 9)
#: Values that the dynamic programme runs over one by one; where there are more, it runs over groups of neighbours.
_POINTS = 4096
_GROUPS = 2048
_FINE_BINS = 2**16
_LLOYD = 100
#: Rounds of fitting each channel's scale to the levels and the levels to the scales.
_ROUNDS = 6
#: The scale of a channel of zeros: its values become 0 within 1e-29, whatever the levels.
_NOTHING = 2.0**-100


def fit_codebook(weight: Tensor, bits: int) -> CodebookQuantizer:
    """Return the table of 2**bits levels and the scale per output channel for `weight` (channels, …), float32.

    A channel's scale starts as its root mean square. The levels minimise the squared error of the weights themselves,
    so that large channels count for more: the exact optimum over up to 4096 values or 2048 groups of them, then Lloyd's
    steps over all weights; then scales and levels are fitted to one another in turn, which can only lower the error.
    Where there are fewer distinct values than levels, levels repeat. Raises `VeriQuantError` for a width outside 1 to 8
    or weights that are not finite.
    """
    if bits not in WIDTHS:
        raise VeriQuantError(f"kmeans cannot have {bits} bits: choose {WIDTHS[0]} to {WIDTHS[-1]}")
    rows = weight.detach().double().reshape(len(weight), -1)
    if not bool(torch.isfinite(rows).all()):
        raise VeriQuantError("a weight holds NaN or infinity: expected finite values; check the checkpoint")
    scale = rows.square().mean(dim=1).sqrt()
    scale = torch.where(scale > _NOTHING, scale, _NOTHING)
    levels = torch.from_numpy(_optimum(rows, scale, 2**bits))
    for _ in range(_ROUNDS):
        codes = torch.bucketize(rows / scale[:, None], (levels[1:] + levels[:-1]) / 2)
        scale = _fit_scale(rows, levels[codes], scale)
        levels = _fit_levels(rows, levels, codes, scale)
    return CodebookQuantizer(levels.float(), scale.float(), bits, axis=0)


def _fit_scale(rows: Tensor, given: Tensor, scale: Tensor) -> Tensor:
    """Return each channel's least-squares scale for the levels `given` to its values."""
    power = given.square().sum(dim=1)
    fitted = (rows * given).sum(dim=1) / torch.where(power > 0, power, 1.0)
    return torch.where(fitted > _NOTHING, fitted, scale)


def _fit_levels(rows: Tensor, levels: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """Return each level's least-squares value for the weights that have its code."""
    codes = codes.flatten()
    weighted = (rows * scale[:, None]).flatten()
    power = scale.square()[:, None].expand_as(rows).flatten()
    sums = torch.bincount(codes, weighted, minlength=len(levels))
    powers = torch.bincount(codes, power, minlength=len(levels))
    return torch.where(powers > 0, sums / torch.where(powers > 0, powers, 1.0), levels).sort().values


def _optimum(rows: Tensor, scale: Tensor, count: int) -> Floats:
    """Return `count` ascending levels of least squared error, (count,), for rows/scale weighted by scale²."""
    order = torch.argsort((rows / scale[:, None]).flatten())
    values = (rows / scale[:, None]).flatten()[order].numpy()
    weights = scale.square()[:, None].expand_as(rows).flatten()[order].numpy()
    sums = _Sums(values, weights)
    starts = _points(values)
    cuts = _partition(sums, starts, count)
    return _lloyd(values, sums, sums.means(cuts))


class _Sums:
    """Running sums over sorted values, from which any interval's mean and squared error are look-ups."""

    def __init__(self, values: Floats, weights: Floats) -> None:
        moments = weights * values ** np.arange(3)[:, None]
        self._sums = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)

    def error(self, first: Ints, last: Ints) -> Floats:
        """Return Σ weight·(value − mean)² over values first … last−1; 0 where there are none."""
        power, first_moment, second = self._sums[:, last] - self._sums[:, first]
        return np.asarray(np.maximum(second - first_moment**2 / np.where(power > 0, power, 1.0), 0.0))

    def means(self, cuts: Ints) -> Floats:
        """Return the mean between neighbouring cuts; where there is nothing, the mean before, or after the start's."""
        power, moment, _ = np.diff(self._sums[:, cuts], axis=1)
        held = power > 0
        found = moment[held] / power[held]
        return np.asarray(found[np.maximum(np.cumsum(held) - 1, 0)])


def _points(values: Floats) -> Ints:
    """Return where each point begins among the sorted values, and the end: (points + 1,).

    Groups are as narrow as an optimal quantizer's levels are dense, that is with the cube root of the values' density
    (Panter and Dite 1951): a few outliers do not widen those of all others.
    """
    changes = np.flatnonzero(np.diff(values)) + 1
    if len(changes) >= _POINTS:
        edges = np.searchsorted(values, np.linspace(values[0], values[-1], _FINE_BINS + 1)[:-1])
        share = np.cumsum(np.cbrt(np.diff(edges, append=len(values))))
        changes = np.unique(edges[1 + np.searchsorted(share[:-1], share[-1] * np.arange(1, _GROUPS) / _GROUPS)[:-1]])
        changes = changes[(changes > 0) & (changes < len(values))]
    return np.concatenate([[0], changes, [len(values)]]).astype(np.int64)


def _partition(sums: _Sums, starts: Ints, count: int) -> Ints:
    """Return the cuts, (count + 1,), of the sorted values into at most `count` intervals of least total error.

    best[k][j] = min over i ≤ j of best[k−1][i] + error(i, j) for the first j points. The best i never falls as j grows,
    so the middle j is solved first and halves the range of i on either side; all the middles of a depth at once.
    """
    points = len(starts) - 1
    count_used = min(count, points)
    ends = np.arange(points + 1)
    best = sums.error(np.zeros_like(starts), starts)
    choices = []
    for _ in range(count_used - 1):
        best, choice = _one_more(sums, starts, best, ends)
        choices.append(choice)
    cuts = [points]
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1]]))
    cuts += [0] * (count + 1 - len(cuts))
    return np.asarray(starts[np.array(cuts[::-1])])


def _one_more(sums: _Sums, starts: Ints, before: Floats, ends: Ints) -> tuple[Floats, Ints]:
    """Return the least error of the first j points with one interval more, and where that interval begins."""
    size = len(ends)
    best, choice = np.empty(size), np.zeros(size, dtype=np.int64)
    stride = 1 << (size.bit_length() - 1)
    while stride:
        # Ends counted from 1: odd multiples of the stride stand midway between even ones, which are solved.
        middles = ends[stride - 1 :: 2 * stride]
        low = np.where(middles >= stride, choice[middles - stride], 0)
        high = np.where(middles + stride < size, choice[np.minimum(middles + stride, size - 1)], middles)
        high = np.minimum(high, middles)
        widths = high - low + 1
        offsets = np.concatenate([[0], np.cumsum(widths)[:-1]])
        begin = np.arange(int(widths.sum())) - np.repeat(offsets - low, widths)
        total = before[begin] + sums.error(starts[begin], starts[np.repeat(middles, widths)])
        least = np.minimum.reduceat(total, offsets)
        hits = np.flatnonzero(total == np.repeat(least, widths))
        first = hits[np.searchsorted(hits, offsets)]
        best[middles], choice[middles] = least, begin[first]
        stride //= 2
    return best, choice


def _lloyd(values: Floats, sums: _Sums, levels: Floats) -> Floats:
    """Return the levels after steps to the means of the values nearest to each, until none moves."""
    previous = None
    for _ in range(_LLOYD):
        cuts = np.searchsorted(values, (levels[1:] + levels[:-1]) / 2, side="right")
        cuts = np.concatenate([[0], cuts, [len(values)]])
        if previous is not None and np.array_equal(cuts, previous):
            break
        levels, previous = sums.means(cuts), cuts
    return levels


SCHEMES.add(
    "kmeans",
    Scheme(
        "kmeans",
        "levels wherever the weights are: exact one-dimensional k-means, one table and a scale per output channel",
        "Wu 1991; Liu et al., section III-B",
        WIDTHS,
        lambda weight, bits, _ranges: fit_codebook(weight, bits),
        learn_weight=learn_codebook_scale,
        uses_ranges=False,
    ),
)
