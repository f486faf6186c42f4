"""From a sensitivity list and what everything costs to the problem that an allocation solves."""

from __future__ import annotations

from collections.abc import Mapping

from veriquant.allocation.problem import Option, Problem
from veriquant.allocation.sensitivity import SensitivityList, order
from veriquant.simulation.cost import Costs
from veriquant.simulation.groups import Group
from veriquant.simulation.precision import FP32, Precision

Milliseconds = Mapping[str, Mapping[Precision, float]]


def build_problem(
    costs: Costs, found: SensitivityList, *, milliseconds: Milliseconds | None = None, fixed_ms: float = 0.0
) -> Problem:
    """Return the problem over every group that has candidates; groups without stay in floating point, as a fixed cost.

    `milliseconds`: measured time of each group at each of its candidates, and `fixed_ms` the time of all the rest; then
    ``latency`` is a cost too, in ms. ``bytes`` counts codes, scales and all other parameters of the file.
    """
    entries = found.by_group()
    groups = costs.simulation.groups
    options: dict[str, tuple[Option, ...]] = {}
    fixed = {"bops": 0.0, "bytes": costs.fixed_bytes()}
    if milliseconds is not None:
        fixed["latency"] = fixed_ms
    for name, group in groups.items():
        if not group.candidates:
            fixed["bops"] += costs.bops(group, FP32)
            fixed["bytes"] += costs.weight_bytes(group, FP32)
            continue
        made = []
        for precision in group.candidates:
            entry = entries.get(name, {}).get(precision)
            if entry is None and precision != FP32:
                continue
            cost = {"bops": costs.bops(group, precision), "bytes": _bytes(costs, group, precision)}
            if milliseconds is not None:
                cost["latency"] = milliseconds[name][precision]
            noise = 0.0 if entry is None else entry.additive
            made.append(Option(precision, noise, float("inf") if entry is None else order(entry), cost))
        options[name] = tuple(made)
    return Problem(options, fixed, {"bops": costs.reference_bops()})


def _bytes(costs: Costs, group: Group, precision: Precision) -> float:
    return costs.weight_bytes(group, precision) + costs.overhead_bytes(group, precision)
