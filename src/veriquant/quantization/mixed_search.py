"""Phase 2 of mixed precision: from a sensitivity list to the widths that keep a budget.

- Within a budget of BOPs, bytes or latency, the source's walk down the list and the exact optimum by integer programme
  both give an assignment. They are run, all layers at once, on images that set nothing, beside every fixed precision
  that fits the budget, and the one with the least noise is taken: so the result is never worse than a fixed precision
  of the same cost, by that measure.
- For a task target the walk is searched for its farthest point that still meets it, each point evaluated as asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from veriquant.allocation import (
    SEARCHES,
    CostBudget,
    Problem,
    TaskBudget,
    front,
    greedy,
    least_noise,
    uniform,
)
from veriquant.deploy.simulated_embedder import SimulatedEmbedder
from veriquant.errors import VeriQuantError
from veriquant.quantization.group_latency import measured_ratio
from veriquant.quantization.method import QuantizationContext
from veriquant.quantization.mixed_settings import MixedSettings
from veriquant.quantization.simulated import CalibratedModel
from veriquant.results import AllocationPoint
from veriquant.simulation.precision import Precision

#: How often a plan is made cheaper when the file, or the time, turns out over the budget.
_TRIES = 6

Assignment = dict[str, Precision]


@dataclass
class Chosen:
    """An assignment that meets the budget, and where it comes from."""

    label: str
    assignment: Assignment
    score: float | None = None
    tried: list[AllocationPoint] = field(default_factory=list)


def within_cost(
    bench: CalibratedModel,
    problem: Problem,
    budget: CostBudget,
    settings: MixedSettings,
    target: QuantizationContext,
    reference_ms: float,
) -> tuple[Chosen, bytes]:
    """Return the best assignment whose file keeps the budget, and the file."""
    limit = budget.limit
    for _ in range(_TRIES):
        try:
            chosen = best_within(bench, problem, budget, limit, settings)
        except VeriQuantError:
            if budget.cost == "bops":
                raise
            break
        content = bench.file(bench.plan(chosen.assignment))
        if budget.cost == "bops":
            return chosen, content
        is_now = _figure(bench, content, budget, target, reference_ms)
        if is_now <= budget.limit:
            return chosen, content
        # What was predicted is not what came out: aim lower by as much as it came out higher.
        if budget.cost == "bytes":
            limit = min(limit - 1, budget.limit - (is_now - problem.cost(chosen.assignment, "bytes")))
        else:
            limit *= 0.995 * budget.limit / is_now
    return _cheapest(bench, problem, budget, target, reference_ms)


def _cheapest(
    bench: CalibratedModel, problem: Problem, budget: CostBudget, target: QuantizationContext, reference_ms: float
) -> tuple[Chosen, bytes]:
    """Return what costs least, and the file, if that keeps the budget; if not, it is named as the nearest."""
    least = {
        group: min(options, key=lambda option: option.cost[budget.cost]).precision
        for group, options in problem.options.items()
    }
    content = bench.file(bench.plan(least))
    is_now = _figure(bench, content, budget, target, reference_ms)
    if is_now <= budget.limit:
        return Chosen("cheapest", least), content
    told = f"{is_now:.0f} bytes" if budget.cost == "bytes" else f"{is_now:.4g}{'x' if budget.relative else ' ms'}"
    raise VeriQuantError(
        f"nothing meets {budget}: with every group at its cheapest, the nearest there is, the file has {told}; allow "
        "at least that, or candidates of fewer bits"
    )


def _figure(
    bench: CalibratedModel, content: bytes, budget: CostBudget, target: QuantizationContext, reference_ms: float
) -> float:
    """Return what a file really costs: its bytes, or its time in the figure that the budget names."""
    if budget.cost == "bytes":
        return float(len(content))
    ratio = measured_ratio(bench, content, target)
    return ratio if budget.relative else ratio * reference_ms


def best_within(
    bench: CalibratedModel, problem: Problem, budget: CostBudget, limit: float, settings: MixedSettings
) -> Chosen:
    """Return the best assignment whose cost stays within `limit`, in the figure of `budget`: phase 2, above."""
    limits: dict[str, float] = {budget.cost: limit}
    optimum = least_noise(problem, limits)  # first, because it names the nearest where nothing fits
    assignments: dict[str, Assignment] = {}
    if settings.allocation != "optimum":
        path = greedy(problem, budget.cost)
        assignments["walk"] = path.assignment(path.first_within(limits))
    if settings.allocation != "walk":
        assignments["optimum"] = optimum.assignment
    if settings.allocation == "best":
        for precision in bench.simulation.table.candidates:
            same = uniform(problem, precision).assignment
            if problem.cost(same, budget.cost) <= limit:
                assignments[f"fixed {precision}"] = same
    tried = {
        label: point_of(bench, problem, label, assignment, measured=True) for label, assignment in assignments.items()
    }
    label = max(tried, key=lambda each: tried[each].measured_sqnr or -math.inf)
    return Chosen(label, dict(assignments[label]), tried=list(tried.values()))


def within_task(
    bench: CalibratedModel, problem: Problem, budget: TaskBudget, settings: MixedSettings, target: QuantizationContext
) -> Chosen:
    """Return the farthest point of the walk, or of the front, that meets a task target."""
    assert target.judge is not None
    judge = target.judge
    network = bench.network

    def score(assignment: Mapping[str, Precision]) -> float:
        change = bench.fitted.change(assignment, codes=True)
        embedder = SimulatedEmbedder(bench.simulation, change, dim=network.dim, threads=torch.get_num_threads())
        return judge(embedder, budget.metric)

    full = score({}) if budget.relative_to_full else None
    wanted = budget.target(full)
    if settings.allocation == "optimum":
        points = [dict(point.assignment) for point in reversed(front(problem, "bops", points=40))]
    else:
        path = greedy(problem, "bops")
        points = [path.assignment(position) for position in range(path.last + 1)]
    found = SEARCHES.get(settings.search)(
        len(points) - 1, lambda k: score(points[k]), wanted, higher_is_better=budget.higher_is_better
    )
    if found.position is None:
        best = found.scores[0]
        raise VeriQuantError(
            f"nothing meets {budget} ({wanted:.4f}): the highest precision of target {bench.simulation.table.name} "
            f"gives {budget.metric} {best:.4f}, the nearest; ask for that, or give it higher candidates"
        )
    evaluated = len(found.scores) + (full is not None)
    bench.notes.append(f"{evaluated} evaluations of {budget.metric} by {settings.search} search. {found.note}".strip())
    tried = []
    for position, value in sorted(found.scores.items()):
        point = point_of(bench, problem, "searched", points[position], measured=False)
        tried.append(point.model_copy(update={"score": value}))
    label = "optimum" if settings.allocation == "optimum" else "walk"
    return Chosen(label, points[found.position], found.scores[found.position], tried)


def point_of(
    bench: CalibratedModel, problem: Problem, label: str, assignment: Mapping[str, Precision], *, measured: bool
) -> AllocationPoint:
    """Return what an assignment costs and keeps; `measured`: also by running it, all layers quantized at once."""
    predicted = problem.noise(assignment)
    return AllocationPoint(
        label=label,
        relative_bops=problem.cost(assignment, "bops"),
        nominal_bytes=bench.costs.nominal_bytes(assignment),
        predicted_sqnr=-10 * math.log10(max(predicted, 1e-14)),
        measured_sqnr=bench.noise_under(bench.fitted.change(assignment, codes=True))[1] if measured else None,
    )
