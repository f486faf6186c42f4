"""`mixed`: the best widths for every quantizer group within a budget, after training and without labels.

Phase 1 measures what each group alone does to the embeddings at each width (`allocation.sensitivity`). Phase 2 chooses:

- within a budget of BOPs, bytes or latency, the source's walk down the list and the exact optimum by integer programme
  both give an assignment. They are run, all layers at once, on images that set nothing, beside every fixed precision
  that fits the budget, and the one with the least noise is taken: so the result is never worse than a fixed precision
  of the same cost, by that measure;
- for a task target the walk is searched for its farthest point that still meets it, each point evaluated as asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from pydantic import Field, field_validator

from veriquant.allocation import (
    SEARCHES,
    CostBudget,
    Problem,
    TaskBudget,
    Walk,
    additivity,
    fit_noise,
    front,
    least_noise,
    measure,
    parse_budget,
    pose,
    uniform,
    walk,
)
from veriquant.allocation.sensitivity import SensitivityList, all_candidates, cache_folder
from veriquant.data.calibration import Calibration
from veriquant.deploy.simulated import SimulatedEmbedder
from veriquant.errors import VeriQuantError
from veriquant.networks.network import Network
from veriquant.progress import track
from veriquant.quantization.group_latency import group_milliseconds, measured_ratio
from veriquant.quantization.method import METHODS, Method, Quantized, Target
from veriquant.quantization.simulated import Bench, SimulatedSettings, on_the_bench
from veriquant.results import Allocation, AllocationPoint, GroupChoice
from veriquant.simulation import TARGETS, KernelTable, Plan
from veriquant.simulation.precision import Precision

#: Points of the curve that are run with all layers quantized at once, for the report.
_MEASURED_POINTS = 12
#: How often a plan is made cheaper when the file, or the time, turns out over the budget.
_TRIES = 6

Assignment = dict[str, Precision]


class MixedSettings(SimulatedSettings):
    """How `mixed` goes about it.

    `budget`: ``bops=0.5`` (relative to W8A16), ``bytes=1.2MB``, ``latency=6ms`` or ``latency=0.5x``, or a task target
    such as ``tar@far=1e-3>=0.975`` or ``accuracy>=fp32-0.003``, which needs a benchmark. `candidates`: precisions to
    choose from; empty: all of the target. `metric`: what the list is sorted by, SQNR, FIT, or the
    equal error rate on images of the benchmark. `allocation`: the walk, the integer programme's optimum, or the better
    of the two. `search`: for task targets. `sensitivity_images`: how many of the images the list is measured on.
    """

    budget: str = "bops=0.5"
    candidates: tuple[str, ...] = ()
    metric: Literal["sqnr", "fit", "task"] = "sqnr"
    allocation: Literal["best", "walk", "optimum"] = "best"
    search: str = "binary+interpolation"
    sensitivity_images: int = Field(default=64, ge=1)

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        return str(parse_budget(value))

    @field_validator("candidates")
    @classmethod
    def _candidates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Precision.parse(each)) for each in value)

    @field_validator("search")
    @classmethod
    def _search(cls, value: str) -> str:
        SEARCHES.get(value)
        return value

    def table(self) -> KernelTable:
        """Return the target's kernels, cut to the candidates that were asked for."""
        table = TARGETS.get(self.target)
        if not self.candidates:
            return table
        asked = {Precision.parse(each) for each in self.candidates}
        highest_first = sorted(asked, key=lambda each: (each.weight_bits * each.activation_bits, each), reverse=True)
        return replace(table, candidates=tuple(highest_first))


@dataclass
class Chosen:
    """An assignment that meets the budget, and where it comes from."""

    label: str
    assignment: Assignment
    score: float | None = None
    tried: list[AllocationPoint] = field(default_factory=list)


def _run(network: Network, settings: MixedSettings, calibration: Calibration | None, target: Target) -> Quantized:
    assert calibration is not None
    budget = parse_budget(settings.budget)
    if isinstance(budget, TaskBudget) and target.judge is None:
        raise VeriQuantError(f"budget {budget} is a task target: name the benchmark to evaluate on (--benchmark)")
    bench = on_the_bench(network, settings, calibration, settings.table())
    started = time.perf_counter()
    found = _sensitivity(bench, settings, target)
    bench.seconds["sensitivity"] = time.perf_counter() - started
    problem, reference_ms = _problem(bench, found, budget, target)
    started = time.perf_counter()
    if isinstance(budget, CostBudget):
        chosen, content = _within_cost(bench, problem, budget, settings, target, reference_ms)
    else:
        chosen = _within_task(bench, problem, budget, settings, target)
        content = bench.file(bench.plan(chosen.assignment))
    bench.seconds["search"] = time.perf_counter() - started
    plan = bench.plan(chosen.assignment)
    allocation = _recorded(bench, settings, found, problem, chosen, plan, len(content))
    plan = plan.model_copy(update={"note": _provenance(allocation)})
    bench.notes += [*_notes(allocation, chosen), bench.agreement(content, plan)]
    noise = {e.group: e.noise for e in found.entries if e.precision == str(chosen.assignment[e.group])}
    return Quantized(content, bench.layers(plan, noise), bench.notes, plan=plan, allocation=allocation)


# ------------------------------------------------------------------------------------------------------------- phase 1


def _sensitivity(bench: Bench, settings: MixedSettings, target: Target) -> SensitivityList:
    images = bench.fit[: settings.sensitivity_images]
    score, metric = None, "sqnr"
    if settings.metric == "task":
        if target.judge is None:
            raise VeriQuantError("metric 'task' needs images with labels: name a benchmark (--benchmark)")
        sampled = target.judge.sample(bench.network.spec, settings.sensitivity_images)
        images, score, metric = torch.from_numpy(sampled.images), sampled.score, sampled.metric
    found = measure(bench.fitted, images, score=score, metric=metric, cache=cache_folder(), recovery=bench.recovery)
    if settings.metric != "fit":
        return found
    fit = fit_noise(bench.fitted, images, all_candidates(bench.fitted))
    decibels = {
        (group, str(precision)): -10 * math.log10(max(noise, 1e-14))
        for group, by_precision in fit.items()
        for precision, noise in by_precision.items()
    }
    entries = [e.model_copy(update={"score": decibels[e.group, e.precision]}) for e in found.entries]
    return found.model_copy(update={"entries": entries, "metric": "fit"})


def _problem(
    bench: Bench, found: SensitivityList, budget: CostBudget | TaskBudget, target: Target
) -> tuple[Problem, float]:
    """Return the problem, and where the budget is one of latency the milliseconds of the full-precision file."""
    if not (isinstance(budget, CostBudget) and budget.cost == "latency"):
        return pose(bench.costs, found), 0.0
    times = group_milliseconds(bench, target)
    bench.notes.append(times.note)
    problem = pose(bench.costs, found, milliseconds=times.groups, fixed_ms=times.rest)
    unit = times.reference if budget.relative else 1.0
    return replace(problem, unit={**problem.unit, "latency": unit}), times.reference


# ------------------------------------------------------------------------------------------------------------- phase 2


def _within_cost(
    bench: Bench,
    problem: Problem,
    budget: CostBudget,
    settings: MixedSettings,
    target: Target,
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
    bench: Bench, problem: Problem, budget: CostBudget, target: Target, reference_ms: float
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


def _figure(bench: Bench, content: bytes, budget: CostBudget, target: Target, reference_ms: float) -> float:
    """Return what a file really costs: its bytes, or its time in the figure that the budget names."""
    if budget.cost == "bytes":
        return float(len(content))
    ratio = measured_ratio(bench, content, target)
    return ratio if budget.relative else ratio * reference_ms


def best_within(bench: Bench, problem: Problem, budget: CostBudget, limit: float, settings: MixedSettings) -> Chosen:
    """Return the best assignment whose cost stays within `limit`, in the figure of `budget`: phase 2, above."""
    limits: dict[str, float] = {budget.cost: limit}
    optimum = least_noise(problem, limits)  # first, because it names the nearest where nothing fits
    assignments: dict[str, Assignment] = {}
    if settings.allocation != "optimum":
        path = walk(problem, budget.cost)
        assignments["walk"] = path.assignment(path.first_within(limits))
    if settings.allocation != "walk":
        assignments["optimum"] = optimum.assignment
    if settings.allocation == "best":
        for precision in bench.simulation.table.candidates:
            same = uniform(problem, precision).assignment
            if problem.cost(same, budget.cost) <= limit:
                assignments[f"fixed {precision}"] = same
    tried = {
        label: _point(bench, problem, label, assignment, measured=True) for label, assignment in assignments.items()
    }
    label = max(tried, key=lambda each: tried[each].measured_sqnr or -math.inf)
    return Chosen(label, dict(assignments[label]), tried=list(tried.values()))


def _within_task(bench: Bench, problem: Problem, budget: TaskBudget, settings: MixedSettings, target: Target) -> Chosen:
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
        path = walk(problem, "bops")
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
        point = _point(bench, problem, "searched", points[position], measured=False)
        tried.append(point.model_copy(update={"score": value}))
    label = "optimum" if settings.allocation == "optimum" else "walk"
    return Chosen(label, points[found.position], found.scores[found.position], tried)


# -------------------------------------------------------------------------------------------------------- what is kept


def _point(
    bench: Bench, problem: Problem, label: str, assignment: Mapping[str, Precision], *, measured: bool
) -> AllocationPoint:
    predicted = problem.noise(assignment)
    return AllocationPoint(
        label=label,
        relative_bops=problem.cost(assignment, "bops"),
        nominal_bytes=bench.costs.nominal_bytes(assignment),
        predicted_sqnr=-10 * math.log10(max(predicted, 1e-14)),
        measured_sqnr=bench.noise_under(bench.fitted.change(assignment, codes=True))[1] if measured else None,
    )


def _recorded(
    bench: Bench,
    settings: MixedSettings,
    found: SensitivityList,
    problem: Problem,
    chosen: Chosen,
    plan: Plan,
    file_bytes: int,
) -> Allocation:
    assignment = chosen.assignment
    point = _point(bench, problem, "chosen", assignment, measured=True)
    noise = bench.noise(assignment)
    return Allocation(
        target=bench.simulation.table.name,
        budget=settings.budget,
        search=chosen.label if settings.allocation == "best" else settings.allocation,
        metric=found.metric,
        samples=found.samples,
        groups=_groups(bench, found, problem, assignment),
        front=_curve(bench, walk(problem, "bops")) + [point for point in chosen.tried if point.label != "walk"],
        fixed=[
            _point(bench, problem, f"fixed {p}", uniform(problem, p).assignment, measured=True)
            for p in bench.simulation.table.candidates
        ],
        chosen=point.model_copy(update={"score": chosen.score}),
        average_bits=bench.costs.average_bits(assignment),
        file_bytes=file_bytes,
        additivity=additivity(problem, assignment, noise).sentence,
        rounding=bench.recovery,
        plan=plan.model_dump(mode="json", exclude_none=True),
        seconds=bench.seconds,
    )


def _curve(bench: Bench, path: Walk) -> list[AllocationPoint]:
    """Return the walk, a dozen of its points run with all layers quantized at once."""
    shown = sorted({round(i * path.last / (_MEASURED_POINTS - 1)) for i in range(_MEASURED_POINTS)})
    return [
        _point(bench, path.problem, "walk", path.assignment(position), measured=True)
        for position in track(shown, "points of the curve", total=len(shown))
    ]


def _groups(
    bench: Bench, found: SensitivityList, problem: Problem, assignment: Mapping[str, Precision]
) -> list[GroupChoice]:
    entries = found.by_group()
    rows = []
    for name, group in bench.simulation.groups.items():
        layers = [bench.simulation.layers[each] for each in group.operations if each in bench.simulation.layers]
        times = {
            str(option.precision): option.cost["latency"]
            for option in problem.options.get(name, ())
            if "latency" in option.cost
        }
        rows.append(
            GroupChoice(
                name=name,
                operations=list(group.operations),
                parameters=sum(layer.parameters for layer in layers),
                macs=sum(layer.macs for layer in layers),
                chosen=str(assignment.get(name, "FP32")),
                sqnr={str(precision): entry.sqnr for precision, entry in entries.get(name, {}).items()},
                milliseconds=times,
            )
        )
    return rows


def _provenance(allocation: Allocation) -> dict[str, object]:
    return {
        "budget": allocation.budget,
        "search": allocation.search,
        "metric": allocation.metric,
        "relative_bops": round(allocation.chosen.relative_bops, 6),
        "average_bits": round(allocation.average_bits, 4),
        "nominal_bytes": round(allocation.chosen.nominal_bytes),
        "sqnr_db": None if allocation.chosen.measured_sqnr is None else round(allocation.chosen.measured_sqnr, 3),
    }


def _notes(allocation: Allocation, found: Chosen) -> list[str]:
    chosen = allocation.chosen
    counted: dict[str, int] = {}
    for group in allocation.groups:
        counted[group.chosen] = counted.get(group.chosen, 0) + 1
    listed = ", ".join(f"{count} × {name}" for name, count in sorted(counted.items(), reverse=True))
    rivals = [point for point in found.tried if point.measured_sqnr is not None]
    compared = "; ".join(f"{point.label} {point.measured_sqnr:.2f} dB" for point in rivals)
    return [
        f"budget {allocation.budget}: relative BOPs {chosen.relative_bops:.4f}, {allocation.average_bits:.2f} bits a "
        f"weight, nominal {chosen.nominal_bytes / 1e6:.3f} MB, on disk {allocation.file_bytes / 1e6:.3f} MB",
        f"{len(allocation.groups)} quantizer groups: {listed}",
        f"chosen by {allocation.search}: {chosen.measured_sqnr:.2f} dB signal to quantization noise at the output"
        + (f" (compared: {compared})" if compared else ""),
        allocation.additivity,
    ]


METHODS.add(
    "mixed",
    Method(
        "mixed",
        "mixed precision within a budget of BOPs, bytes, latency or a task metric; weights packed in their own bits",
        MixedSettings,
        _run,
        lambda settings: settings.images + settings.check_images,
        lambda settings: settings.metric == "task" or isinstance(parse_budget(settings.budget), TaskBudget),
        plans=True,
    ),
)
