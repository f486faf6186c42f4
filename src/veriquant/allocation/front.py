"""The Pareto front of a cost and the noise: which assignments no other one beats in both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veriquant.allocation.integer_programme import least_noise
from veriquant.allocation.limits import require_costs
from veriquant.allocation.problem import Option, Problem
from veriquant.simulation.precision import Precision


@dataclass(frozen=True)
class FrontPoint:
    """An assignment with its `cost`, in the figure that a budget names, and its `noise`, the sum over groups.

    `proved`: no assignment of this cost or less has less noise; False where the solver's time ran out.
    """

    cost: float
    noise: float
    assignment: dict[str, Precision]
    proved: bool = True


def hull(problem: Problem, cost: str) -> list[FrontPoint]:
    """Return the corners of the front's lower convex hull, by rising cost: what some price λ of `cost` makes best.

    They minimise noise + λ·cost for one λ ≥ 0 each (Lagrangian relaxation; Shoham and Gersho, 1988). Since both are
    sums over groups, the hull is that of the groups' own hulls: their edges, the steepest first. Exact, and takes
    n·log n for n options. The first corner is the cheapest assignment, the last the one of least noise.
    """
    require_costs(problem, [cost])
    corners = {group: _corners(options, cost) for group, options in problem.options.items()}
    state = {group: own[0] for group, own in corners.items()}
    edges = [
        ((own[i].noise - own[i + 1].noise) / (own[i + 1].cost[cost] - own[i].cost[cost]), group, i + 1)
        for group, own in corners.items()
        for i in range(len(own) - 1)
    ]
    points = [_point(problem, cost, state)]
    for _, group, place in sorted(edges, key=lambda edge: (-edge[0], edge[1], edge[2])):
        state[group] = corners[group][place]
        points.append(_point(problem, cost, state))
    return points


def front(problem: Problem, cost: str, points: int = 20, seconds: float = 10.0) -> list[FrontPoint]:
    """Return points of the front by rising cost and falling noise, none of which another one dominates.

    They are the corners of the hull and, between those, the exact optima at `points` budgets in equal steps from the
    least cost to that of the least noise, each solved in `seconds` at most. Both ends are among them.
    """
    found = hull(problem, cost)
    for limit in np.linspace(found[0].cost, found[-1].cost, points):
        best = least_noise(problem, {cost: float(limit)}, seconds)
        found.append(FrontPoint(best.costs[cost], best.noise, best.assignment, best.proved))
    return _undominated(found)


def _corners(options: tuple[Option, ...], cost: str) -> list[Option]:
    """Return the corners of one group's lower hull: rising cost, falling noise, falling steepness."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda each: (each.cost[cost], each.noise)):
        if not np.isfinite(option.noise) or (kept and option.noise >= kept[-1].noise):
            continue
        while len(kept) > 1 and _not_convex(kept[-2], kept[-1], option, cost):
            kept.pop()
        kept.append(option)
    return kept


def _not_convex(one: Option, middle: Option, other: Option, cost: str) -> bool:
    first = (one.noise - middle.noise) * (other.cost[cost] - middle.cost[cost])
    second = (middle.noise - other.noise) * (middle.cost[cost] - one.cost[cost])
    return first <= second


def _point(problem: Problem, cost: str, state: dict[str, Option]) -> FrontPoint:
    assignment = {group: option.precision for group, option in state.items()}
    return FrontPoint(problem.cost(assignment, cost), problem.noise(assignment), assignment)


def _undominated(points: list[FrontPoint]) -> list[FrontPoint]:
    kept: list[FrontPoint] = []
    for point in sorted(points, key=lambda each: (each.cost, each.noise)):
        if not kept or point.noise < kept[-1].noise:
            kept.append(point)
    return kept
