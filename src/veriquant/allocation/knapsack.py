"""The integer programme under `optimum`: one entry of each group, the least total, within limits on other totals.

A multiple-choice knapsack, solved by HiGHS through SciPy. What is added here is numerical: noises span ten orders of
magnitude, while HiGHS stops at an absolute gap of 1e-6 and lets a row be violated by as much.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import LinearConstraint
from scipy.sparse import csr_array

from veriquant.allocation.limits import TOLERANCE
from veriquant.milp import solve_binary

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GAP = 1e-6
"""Relative gap between the solution and its bound at which it counts as optimal."""
_SCALE = 1e4
"""What the largest coefficient of a row becomes: HiGHS's tolerances of 1e-6 are then 1e-10 of it."""
_RESCALE = 1e-3
"""A total that is this much smaller than what the objective was scaled by is minimised again, scaled by itself."""
_OPTIMAL, _INFEASIBLE = 0, 2


@dataclass(frozen=True)
class Chosen:
    """`entries`: the index of each group's entry, int64 (groups,); `proved`: none is better by more than `GAP`."""

    entries: Ints
    proved: bool


class NotReachableError(Exception):
    """No choice meets all limits."""


class OutOfTimeError(Exception):
    """No choice that meets all limits was found in time."""


def choose(owner: Ints, value: Floats, limits: Sequence[tuple[Floats, float]], seconds: float) -> Chosen:
    """Return the choice of least total `value` whose totals stay within `limits` (to `limits.TOLERANCE`).

    `owner`: the group (0 … groups − 1) of every entry, int64 (n,), each group with at least one entry; `value` and the
    weights of each limit: float64 (n,), finite. Raises `NotReachableError` and `OutOfTimeError`.

    Everything is counted from the least entry of its group, so that what all choices share hides no difference. Entries
    that by themselves exceed a limit, or the best total known, are left out. The objective is scaled by the best total
    known, again for as long as that falls much.
    """
    end = time.monotonic() + seconds
    excess = _above_least(owner, value)
    rows = np.array([_shares(owner, weights, limit) for weights, limit in limits]).reshape(len(limits), len(owner))
    allowed = np.asarray((rows <= 1).all(axis=0))
    if len(np.unique(owner[allowed])) <= owner.max():
        raise NotReachableError
    best = _least_entries(owner, np.where(allowed, excess, np.inf), rows.sum(axis=0))
    if _within(rows, best):
        return Chosen(best, True)
    best = _some_choice(owner, rows, excess, allowed, end)
    while True:
        known = float(excess[best].sum())
        if known == 0:
            return Chosen(best, True)
        useful = allowed & (excess <= known * (1 + TOLERANCE))
        try:
            found = _solve(owner, excess / known, rows, useful, end)
        except OutOfTimeError:
            return Chosen(best, False)
        reached = float(excess[found.entries].sum())
        if reached < known:
            best = found.entries
        if not found.proved or reached > _RESCALE * known:
            return Chosen(best, found.proved)


def _above_least(owner: Ints, values: Floats) -> Floats:
    least = np.full(int(owner.max()) + 1, np.inf)
    np.minimum.at(least, owner, values)
    return np.asarray(values - least[owner])


def _shares(owner: Ints, weights: Floats, limit: float) -> Floats:
    """Return what each entry takes of the room that a limit leaves above the least: a choice may take 1 altogether."""
    above = _above_least(owner, weights)
    first = np.unique(owner, return_index=True)[1]
    room = limit + TOLERANCE * abs(limit) - float((weights - above)[first].sum())
    if room > 0:
        return np.asarray(above / room)
    return np.where(above > 0, np.inf, 0.0 if room == 0 else np.inf)


def _within(rows: Floats, entries: Ints) -> bool:
    return bool((rows[:, entries].sum(axis=1) <= 1).all())


def _least_entries(owner: Ints, first: Floats, then: Floats) -> Ints:
    """Return for each group the entry of least `first`, and of equal ones that of least `then`."""
    order = np.lexsort((then, first, owner))
    return np.asarray(order[np.searchsorted(owner[order], np.arange(int(owner.max()) + 1))], dtype=np.int64)


def _some_choice(owner: Ints, rows: Floats, excess: Floats, allowed: npt.NDArray[np.bool_], end: float) -> Ints:
    """Return a choice within the limits: the least of all shares together, or one that is solved for.

    With a single limit the least lies within it.
    """
    shares = np.where(allowed, rows.sum(axis=0), np.inf)
    best = _least_entries(owner, shares, excess)
    if _within(rows, best):
        return best
    return _solve(owner, np.where(allowed, shares, 0.0) / len(rows), rows, allowed, end).entries


def _solve(owner: Ints, value: Floats, rows: Floats, useful: npt.NDArray[np.bool_], end: float) -> Chosen:
    """Solve once, among the `useful` entries, with a `value` of 1 at most."""
    kept = np.flatnonzero(useful)
    groups, width = int(owner.max()) + 1, len(kept)
    one_each = csr_array((np.ones(width), (owner[kept], np.arange(width))), shape=(groups, width))
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(_SCALE * rows[:, kept], -np.inf, _SCALE)]
    while True:
        result = solve_binary(_SCALE * value[kept], constraints, gap=GAP, seconds=max(end - time.monotonic(), 0.01))
        if result.status == _INFEASIBLE:
            raise NotReachableError
        if result.x is None:
            raise OutOfTimeError
        places = _least_entries(owner[kept], -result.x, np.zeros(width))
        if _within(rows, kept[places]):
            return Chosen(kept[places], result.status == _OPTIMAL)
        # Within HiGHS's tolerance but not within ours: this one choice is forbidden, and the rest stands.
        forbidden = np.zeros((1, width))
        forbidden[0, places] = 1
        constraints.append(LinearConstraint(forbidden, -np.inf, groups - 1))
