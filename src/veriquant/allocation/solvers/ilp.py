"""`ilp`: the exact optimum by integer programme: the least harm within the budget."""

from __future__ import annotations

from veriquant.allocation.solver import SOLVERS
from veriquant.allocation.solvers.budgeted import budget_solver

SOLVERS.add(
    "ilp",
    budget_solver(
        "ilp",
        "the exact optimum by integer programme: the least harm within the budget",
        "beyond Pandey et al.; a multiple-choice knapsack",
    ),
)
