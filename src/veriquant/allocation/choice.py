"""The integer programme under `optimum`: choose one entry of each group, the least total, within limits on other totals.

A multiple-choice knapsack, solved by HiGHS through SciPy. What is added here is numerical: noises span ten orders of
magnitude, and HiGHS stops at an absolute gap of 1e-6 and lets a row be violated by as much.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from veriquant.allocation.limits import TOLERANCE, holds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GAP = 1e-6
"""Relative gap between the solution and its bound at which it counts as optimal."""
_SCALE = 1e4
"""What the largest coefficient of a row becomes: HiGHS's tolerances of 1e-6 are then 1e-10 of it."""
_RESCALE = 1e-3
"""A solution that is this much smaller than what the objective was scaled by is solved for again, scaled by itself."""
_INFEASIBLE = 2


@dataclass(frozen=True)
class Chosen:
    """`entries`: for each group the index of its entry, int64 (groups,); `proved`: no other is better by over `GAP`."""

    entries: Ints
    proved: bool


class NotReachableError(Exception):
    """No choice meets all limits."""


class OutOfTimeError(Exception):
    """No choice that meets all limits was found in time."""


def choose(owner: Ints, value: Floats, limits: Sequence[tuple[Floats, float]], seconds: float) -> Chosen:
    """Return the choice of least total `value` whose totals stay within `limits`.

    `owner`: the group (0 … groups − 1) of every entry, int64 (n,), each group with at least one entry; `value` and the
    weights of each limit: float64 (n,), finite. Raises `NotReachableError` and `OutOfTimeError`.

    Entries are counted from their group's least one, so that what all choices share does not hide differences; entries
    that alone exceed a limit, or the best total known, are left out; the objective is scaled by the best total known,
    again and again until that does not fall much more.
    """
    end = time.monotonic() + seconds
    groups = int(owner.max()) + 1
    excess = value - _least(owner, value, groups)[owner]
    rows = [_row(owner, weights, limit, groups) for weights, limit in limits]
    allowed = np.all([weights <= 1.0 for weights in rows], axis=0) if rows else np.ones(len(owner), dtype=bool)
    if len(np.unique(owner[allowed])) < groups:
        raise NotReachableError
    # Without any limit in the way each group takes its least: the common case of a generous budget needs no solver.
    free = _greedy(owner, np.where(allowed, excess, np.inf), rows, groups)
    if all(weights[free].sum() <= 1.0 for weights in rows):
        return Chosen(free, True)
    if len(rows) == 1:
        best = _greedy(owner, np.where(allowed, rows[0], np.inf), [excess], groups)
        if rows[0][best].sum() > 1.0:
            raise NotReachableError
    else:
        best = _solve(owner, np.sum(rows, axis=0), rows, allowed, limits, end, first=True).entries
    while True:
        known = float(excess[best].sum())
        if known <= 0:
            return Chosen(best, True)
        useful = allowed & (excess <= known * (1 + TOLERANCE))
        found = _solve(owner, excess / known, rows, useful, limits, end, fallback=best)
        reached = float(excess[found.entries].sum())
        if reached < known:
            best = found.entries
        if not found.proved or reached > _RESCALE * known:
            return Chosen(best, found.proved)


def _least(owner: Ints, values: Floats, groups: int) -> Floats:
    least = np.full(groups, np.inf)
    np.minimum.at(least, owner, values)
    return least


def _row(owner: Ints, weights: Floats, limit: float, groups: int) -> Floats:
    """Return weights counted from their group's least and divided by what the limit leaves above the sum of those.

    A choice then meets the limit where its entries sum to 1 at most.
    """
    least = _least(owner, weights, groups)
    room = limit + TOLERANCE * abs(limit) - float(least.sum())
    excess = weights - least[owner]
    if room > 0:
        return np.asarray(excess / room)
    # No room at all: the least of each group is the only choice, if even that.
    return np.where(excess > 0, np.inf, 0.0 if holds(float(least.sum()), limit) else np.inf)


def _greedy(owner: Ints, first: Floats, then: Sequence[Floats], groups: int) -> Ints:
    """Return for each group the entry of least `first`, of equal ones that of least sum of `then`."""
    second = np.sum(then, axis=0) if then else np.zeros(len(owner))
    order = np.lexsort((second, first, owner))
    starts = np.searchsorted(owner[order], np.arange(groups))
    return np.asarray(order[starts], dtype=np.int64)


def _solve(
    owner: Ints,
    value: Floats,
    rows: Sequence[Floats],
    useful: npt.NDArray[np.bool_],
    limits: Sequence[tuple[Floats, float]],
    end: float,
    *,
    fallback: Ints | None = None,
    first: bool = False,
) -> Chosen:
    """Solve once, among the `useful` entries; where time runs out without a solution return `fallback`, not proved."""
    entries = np.flatnonzero(useful)
    groups, width = owner[entries], len(entries)
    total = int(owner.max()) + 1
    matrix = [coo_array((np.ones(width), (groups, np.arange(width))), shape=(total, width))]
    upper, lower = [np.ones(total)], [np.ones(total)]
    for row in rows:
        matrix.append(coo_array(_SCALE * row[entries][None, :]))
        upper.append(np.array([_SCALE]))
        lower.append(np.array([-np.inf]))
    from scipy.sparse import vstack

    while True:
        left = end - time.monotonic()
        result = milp(
            _SCALE * value[entries],
            integrality=np.ones(width),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(csr_array(vstack(matrix)), np.concatenate(lower), np.concatenate(upper)),
            options={"mip_rel_gap": GAP, "time_limit": max(left, 0.01)},
        )
        if result.status == _INFEASIBLE:
            raise NotReachableError
        if result.x is None:
            if fallback is None:
                raise OutOfTimeError
            return Chosen(fallback, False)
        ...
