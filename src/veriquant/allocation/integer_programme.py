"""The exact optimum by integer programming: least noise within limits on costs, or least cost within a limit on noise.

It minimises the sum of the groups' noises, which is the network's noise only as far as layers add up
(`veriquant.allocation.agreement.additivity` tells).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.allocation.knapsack import Chosen, NotReachableError, OutOfTimeError, choose
from veriquant.allocation.limits import cost_names, figure, require_costs, require_reachable
from veriquant.allocation.problem import Option, Problem
from veriquant.errors import VeriQuantError
from veriquant.simulation.precision import Precision

Floats = npt.NDArray[np.float64]

SECONDS = 60.0
"""The time that one optimum may take."""


@dataclass(frozen=True)
class Optimum:
    """`noise`: the sum of the groups' noise-to-signal ratios; `costs`: by name, in the figures that budgets name.

    `proved`: no assignment is better by more than a millionth (`choice.GAP`); False where the time ran out, and the
    assignment is then the best one found. `seconds`: what it took.
    """

    assignment: dict[str, Precision]
    noise: float
    costs: dict[str, float]
    proved: bool
    seconds: float


def least_noise(problem: Problem, limits: Mapping[str, float], seconds: float = SECONDS) -> Optimum:
    """Return the assignment of least total noise whose costs all meet their `limits`, in the figures of budgets.

    Raises `VeriQuantError` naming the nearest reachable cost where none meets them, and where the time runs out before
    any that does was found. Options whose noise is not finite are never chosen.
    """
    started = time.monotonic()
    table = _Table(problem)
    require_reachable(problem, limits)
    weights = [(table.costs(name), table.room(name, limit)) for name, limit in limits.items()]
    chosen = _choose(table, table.noises, weights, seconds, limits)
    return _optimum(table, chosen, started)


def cheapest(
    problem: Problem,
    cost: str,
    noise_limit: float,
    limits: Mapping[str, float] | None = None,
    seconds: float = SECONDS,
) -> Optimum:
    """Return the assignment of least `cost` whose total noise is at most `noise_limit`, within `limits` on other costs.

    Of assignments that cost as little it is the one of least noise. Raises `VeriQuantError` naming the least noise or
    cost there is where none meets them.
    """
    started = time.monotonic()
    limits = limits or {}
    table = _Table(problem)
    require_costs(problem, [cost])
    require_reachable(problem, limits)
    weights = [(table.costs(name), table.room(name, limit)) for name, limit in limits.items()]
    prices = table.costs(cost)
    chosen = _choose(table, prices, [(table.noises, noise_limit), *weights], seconds, limits, noise_limit)
    # Groups in which no width costs anything would otherwise be left at any width that the noise allows.
    least = float(prices[chosen.entries].sum())
    try:
        silent = choose(table.owner, table.noises, [(prices, least), *weights], seconds)
    except OutOfTimeError:
        return _optimum(table, Chosen(chosen.entries, False), started)
    return _optimum(table, Chosen(silent.entries, chosen.proved and silent.proved), started)


class _Table:
    """A problem as arrays over its usable options."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.groups = tuple(problem.options)
        self.options: list[Option] = []
        owner = []
        for place, (group, options) in enumerate(problem.options.items()):
            usable = [option for option in options if np.isfinite(option.noise)]
            if not usable:
                raise VeriQuantError(
                    f"group {group!r} has no candidate with a finite noise: add a higher precision, or leave the group "
                    "in floating point"
                )
            self.options += usable
            owner += [place] * len(usable)
        self.owner = np.array(owner, dtype=np.int64)
        self.noises = np.array([option.noise for option in self.options])

    def costs(self, name: str) -> Floats:
        """Return every option's own share of a cost, float64 (options,), as the problem has it."""
        return np.array([option.cost[name] for option in self.options])

    def room(self, name: str, limit: float) -> float:
        """Return what a limit, in the figure of a budget, leaves for the groups, in the problem's own unit."""
        return limit * self.problem.unit.get(name, 1.0) - self.problem.fixed.get(name, 0.0)

    def assignment(self, chosen: Chosen) -> dict[str, Precision]:
        """Return the chosen precisions by group."""
        return {group: self.options[entry].precision for group, entry in zip(self.groups, chosen.entries, strict=True)}


def _choose(
    table: _Table,
    value: Floats,
    weights: list[tuple[Floats, float]],
    seconds: float,
    limits: Mapping[str, float],
    noise_limit: float | None = None,
) -> Chosen:
    try:
        return choose(table.owner, value, weights, seconds)
    except NotReachableError:
        raise VeriQuantError(_unreachable(table, limits, noise_limit, seconds)) from None
    except OutOfTimeError:
        raise VeriQuantError(
            f"no assignment that meets every limit was found in {seconds:g} s: loosen a limit or allow more time"
        ) from None


def _unreachable(table: _Table, limits: Mapping[str, float], noise_limit: float | None, seconds: float) -> str:
    """Name the least there is of one figure while the other limits are kept."""
    weights = {name: (table.costs(name), table.room(name, limit)) for name, limit in limits.items()}
    wanted = [f"{name}={figure(name, limit)}" for name, limit in limits.items()]
    if noise_limit is not None:
        weights = {"noise": (table.noises, noise_limit), **weights}
        wanted = [f"noise={noise_limit:.6g}", *wanted]
    told = f"no assignment meets {' and '.join(wanted)}"
    for name, (value, _) in weights.items():
        try:
            least = choose(table.owner, value, [each for key, each in weights.items() if key != name], seconds)
        except (NotReachableError, OutOfTimeError):
            continue
        total = float(value[least.entries].sum())
        reached = total if name == "noise" else table.problem.cost(table.assignment(least), name)
        kept = " with the other limits kept" if len(weights) > 1 else ""
        return f"{told}: the least possible{kept} is {name}={figure(name, reached)}; allow that much"
    return f"{told}: the limits exclude one another; loosen two of them at least"


def _optimum(table: _Table, chosen: Chosen, started: float) -> Optimum:
    assignment = table.assignment(chosen)
    costs = {name: table.problem.cost(assignment, name) for name in cost_names(table.problem)}
    noise = table.problem.noise(assignment)
    return Optimum(assignment, noise, costs, chosen.proved, time.monotonic() - started)
