"""`best`: the least noisy of greedy, ilp and every fixed precision within the budget, each run as a whole."""

from __future__ import annotations

from veriquant.allocation.solver import SOLVERS
from veriquant.allocation.solvers.budgeted import budget_solver

SOLVERS.add(
    "best",
    budget_solver(
        "best",
        "the least noisy of greedy, ilp and every fixed precision within the budget, each run as a whole",
        "Pandey et al., and beyond",
    ),
)
