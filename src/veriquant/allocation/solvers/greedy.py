"""`greedy`: walk down the sensitivity list, the least harmful entry first, until the budget is met."""

from __future__ import annotations

from veriquant.allocation.solver import SOLVERS
from veriquant.allocation.solvers.budgeted import budget_solver

SOLVERS.add(
    "greedy",
    budget_solver(
        "greedy",
        "walk down the sensitivity list, the least harmful entry first, until the budget is met",
        "Pandey et al., Algorithm 1",
    ),
)
