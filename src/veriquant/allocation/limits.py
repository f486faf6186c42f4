"""Upper limits on costs: when one is met, and the one line that is said where none can meet it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from veriquant.allocation.problem import Problem
from veriquant.errors import VeriQuantError

TOLERANCE = 1e-9
"""Relative: sums of floating-point costs that mean the limit itself (W8A8 at bops=0.5) must not miss it."""


def holds(value: float, limit: float) -> bool:
    """Tell whether a cost, in the figure that its limit names, stays within the limit."""
    return value <= limit + TOLERANCE * abs(limit)


def cost_names(problem: Problem) -> tuple[str, ...]:
    """Return the costs that every option of every group has, in order."""
    shared = [set(option.cost) for options in problem.options.values() for option in options]
    return tuple(sorted(set.intersection(*shared))) if shared else ()


def require_costs(problem: Problem, names: Iterable[str]) -> None:
    """Raise `VeriQuantError` for a cost that some option does not have."""
    known = cost_names(problem)
    for name in names:
        if name not in known:
            raise VeriQuantError(f"cost {name!r} was not computed for every option; there are: {', '.join(known)}")


def least_cost(problem: Problem, name: str) -> float:
    """Return the least total cost that any assignment has, in the figure that a budget names."""
    total = sum(min(option.cost[name] for option in options) for options in problem.options.values())
    return (problem.fixed.get(name, 0.0) + total) / problem.unit.get(name, 1.0)


def require_reachable(problem: Problem, limits: Mapping[str, float]) -> None:
    """Raise `VeriQuantError` naming the nearest reachable cost where one limit by itself cannot be met."""
    require_costs(problem, limits)
    for name, limit in limits.items():
        least = least_cost(problem, name)
        if not holds(least, limit):
            raise VeriQuantError(
                f"no assignment meets {name}={figure(name, limit)}: with every group at its cheapest the least "
                f"possible is {name}={figure(name, least)}; allow at least that, or candidates of fewer bits"
            )


def figure(name: str, value: float) -> str:
    """Write a cost so that a limit set to what is written can be met: six digits, rounded up; whole bytes."""
    if value <= 0:
        return "0"
    # A hair is taken off first, so that 0.5 with an error in its last bit is not rounded up to 0.500001.
    value -= TOLERANCE * value
    step = 1.0 if name == "bytes" else 10.0 ** (math.floor(math.log10(value)) - 5)
    rounded = math.ceil(value / step) * step
    return str(round(rounded)) if name == "bytes" else f"{rounded:.6g}"
