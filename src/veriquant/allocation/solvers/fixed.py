"""`fixed`: the widths that the recipe gives, the same for the whole network."""

from __future__ import annotations

from veriquant.allocation.solver import SOLVERS, Allocated, AllocationRequest, Solver
from veriquant.config import NoSettings


def _solve(request: AllocationRequest, config: NoSettings) -> Allocated:
    return Allocated(dict.fromkeys(request.model.simulation.groups, request.widths.precision))


SOLVERS.add(
    "fixed",
    Solver(
        "fixed",
        "weights.bits and activations.bits for the whole network",
        "Pandey et al., section 4.1",
        NoSettings,
        _solve,
        chooses_weights=False,
        chooses_activations=False,
    ),
)
