"""Allocation within a budget: from a sensitivity list to the widths that keep it (phase 2 of Pandey et al.).

- Within a budget of BOPs, bytes or latency, the walk down the list and the exact optimum by integer programme both give
  an assignment; `best` runs them, all layers at once, on images that set nothing, beside every fixed precision that
  fits the budget, and takes the one with the least noise: never worse than a fixed precision of that cost.
- For a task target the walk (of `ilp`: the front) is searched for its farthest point that still meets it, each point
  evaluated as asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pydantic import Field, field_validator, model_validator

from veriquant.allocation.budget import CostBudget, TaskBudget, parse_budget
from veriquant.allocation.front import front
from veriquant.allocation.greedy import greedy
from veriquant.allocation.integer_programme import least_noise
from veriquant.allocation.problem import Problem
from veriquant.allocation.problem_builder import build_problem
from veriquant.allocation.search import SEARCHES
from veriquant.allocation.sensitivities import SENSITIVITIES
from veriquant.allocation.sensitivity import SensitivityList
from veriquant.allocation.solver import Allocated, AllocationRequest, Solver
from veriquant.allocation.solvers.record import choice_record, point_of, recorded
from veriquant.allocation.uniform import uniform
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.model import CalibratedModel
from veriquant.config import Config, checked, split_part
from veriquant.deploy.simulated_embedder import SimulatedEmbedder
from veriquant.errors import VeriQuantError
from veriquant.exports.group_latency import group_milliseconds, measured_ratio
from veriquant.results import AllocationPoint, remark
from veriquant.simulation.precision import Precision
from veriquant.simulation.targets import KernelTable

#: How often a plan is made cheaper when the file, or the time, turns out over the budget.
_TRIES = 6

Assignment = dict[str, Precision]


class BudgetConfig(Config):
    """What may be spent, and what the choice goes by."""

    budget: str = "bops=0.5"
    """``bops=0.5`` (relative to W8A16), ``bytes=1.2MB``, ``latency=6ms`` or ``latency=0.5x``, or a task target such as
    ``tar@far=1e-3>=0.975`` or ``accuracy>=fp32-0.003``, which needs a benchmark."""
    candidates: tuple[str, ...] = ()
    """Precisions to choose from, such as W4A8; empty: all of the target."""
    sensitivity: str | dict[str, Any] = Field(default="sqnr", validate_default=True)
    """What harm is measured by, by name, or with settings as in {hessian: {tolerance: 0.02}}."""
    search: str | None = None
    """Of task targets: sequential, binary or binary+interpolation; empty: the last."""

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        return str(parse_budget(value))

    @field_validator("candidates")
    @classmethod
    def _candidates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Precision.parse(each)) for each in value)

    @field_validator("sensitivity")
    @classmethod
    def _sensitivity(cls, value: str | dict[str, Any]) -> dict[str, Any]:
        name, settings = split_part(value, "sensitivity", "sensitivity")
        known = SENSITIVITIES.get(name)
        return {known.name: checked(known.config, settings, f"allocation.sensitivity.{name}").plain()}

    @field_validator("search")
    @classmethod
    def _search(cls, value: str | None) -> str | None:
        if value is not None:
            SEARCHES.get(value)
        return value

    @model_validator(mode="after")
    def _searches_for_a_target(self) -> BudgetConfig:
        if self.search is not None and isinstance(parse_budget(self.budget), CostBudget):
            raise ValueError(
                f"search {self.search!r} is for task targets such as 'eer<=0.01'; budget {self.budget} needs none: "
                "leave it out"
            )
        return self

    @property
    def measure(self) -> str:
        """The name of the sensitivity."""
        assert isinstance(self.sensitivity, dict)
        return next(iter(self.sensitivity))

    def table(self, table: KernelTable) -> KernelTable:
        """Return a target's kernels, cut to the candidates that were asked for."""
        if not self.candidates:
            return table
        asked = {Precision.parse(each) for each in self.candidates}
        highest_first = sorted(asked, key=lambda each: (each.weight_bits * each.activation_bits, each), reverse=True)
        return replace(table, candidates=tuple(highest_first))

    def needs_benchmark(self) -> bool:
        """Tell whether a benchmark is looked at."""
        return SENSITIVITIES.get(self.measure).judged or isinstance(parse_budget(self.budget), TaskBudget)


@dataclass
class Chosen:
    """An assignment that meets the budget, and where it comes from."""

    label: str
    assignment: Assignment
    score: float | None = None
    tried: list[AllocationPoint] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """What a solver chooses from."""

    solver: str
    model: CalibratedModel
    problem: Problem
    """With the harm that the choice goes by."""
    noise: Problem
    """With the noise-to-signal ratios that were measured: what is predicted from."""
    config: BudgetConfig
    context: QuantizationContext
    reference_ms: float = 0.0


def budget_solver(name: str, summary: str, source: str) -> Solver:
    """Return a solver that keeps a budget; `name`: greedy, ilp or best."""
    return Solver(
        name,
        summary,
        source,
        BudgetConfig,
        partial(_solve, name),
        table=lambda config, table: config.table(table),
        judged=lambda config: config.needs_benchmark(),
        latency=lambda config: config.budget.startswith("latency"),
    )


def _solve(solver: str, request: AllocationRequest, config: BudgetConfig) -> Allocated:
    model, context = request.model, request.context
    budget = parse_budget(config.budget)
    if isinstance(budget, TaskBudget) and context.judge is None:
        raise VeriQuantError(f"budget {budget} is a task target: name the benchmark to evaluate on (--benchmark)")
    started = time.perf_counter()
    found = measured(request, config)
    model.seconds["sensitivity"] = time.perf_counter() - started
    choice = _choice(solver, request, config, found, budget)
    started = time.perf_counter()
    if isinstance(budget, CostBudget):
        chosen, content = within_cost(choice, budget)
    else:
        chosen = within_task(choice, budget)
        content = model.file(model.plan(chosen.assignment))
    model.seconds["search"] = time.perf_counter() - started
    model.records.append(choice_record(choice, chosen, len(content)))
    noise = {e.group: e.noise for e in found.entries if e.precision == str(chosen.assignment[e.group])}
    record = recorded(choice, found, chosen, len(content))
    return Allocated(chosen.assignment, record=record, noise=noise, content=content)


def measured(request: AllocationRequest, config: BudgetConfig) -> SensitivityList:
    """Return the sensitivity list that a configuration asks for."""
    assert isinstance(config.sensitivity, dict)
    ((name, settings),) = config.sensitivity.items()
    sensitivity = SENSITIVITIES.get(name)
    return sensitivity.measure(request, sensitivity.config.model_validate(settings))


def _choice(
    solver: str,
    request: AllocationRequest,
    config: BudgetConfig,
    found: SensitivityList,
    budget: CostBudget | TaskBudget,
) -> Choice:
    """Return the problem, and where the budget is one of latency the milliseconds of the full-precision file."""
    model, context = request.model, request.context
    plain = found.model_copy(update={"entries": [e.model_copy(update={"harm": None}) for e in found.entries]})
    if not (isinstance(budget, CostBudget) and budget.cost == "latency"):
        problem, noise = build_problem(model.costs, found), build_problem(model.costs, plain)
        return Choice(solver, model, problem, noise, config, context)
    times = group_milliseconds(model, context)
    model.records.append(remark("allocate", times.note))
    unit = times.reference if budget.relative else 1.0
    both = []
    for each in (found, plain):
        problem = build_problem(model.costs, each, milliseconds=times.groups, fixed_ms=times.rest)
        both.append(replace(problem, unit={**problem.unit, "latency": unit}))
    return Choice(solver, model, both[0], both[1], config, context, times.reference)


def within_cost(choice: Choice, budget: CostBudget) -> tuple[Chosen, bytes]:
    """Return the best assignment whose file keeps the budget, and the file."""
    model = choice.model
    limit = budget.limit
    for _ in range(_TRIES):
        try:
            chosen = best_within(choice, budget, limit)
        except VeriQuantError:
            if budget.cost == "bops":
                raise
            break
        content = model.file(model.plan(chosen.assignment))
        if budget.cost == "bops":
            return chosen, content
        is_now = _figure(choice, content, budget)
        if is_now <= budget.limit:
            return chosen, content
        # What was predicted is not what came out: aim lower by as much as it came out higher.
        if budget.cost == "bytes":
            limit = min(limit - 1, budget.limit - (is_now - choice.problem.cost(chosen.assignment, "bytes")))
        else:
            limit *= 0.995 * budget.limit / is_now
    return _cheapest(choice, budget)


def _cheapest(choice: Choice, budget: CostBudget) -> tuple[Chosen, bytes]:
    """Return what costs least, and the file, if that keeps the budget; if not, it is named as the nearest."""
    least = {
        group: min(options, key=lambda option: option.cost[budget.cost]).precision
        for group, options in choice.problem.options.items()
    }
    content = choice.model.file(choice.model.plan(least))
    is_now = _figure(choice, content, budget)
    if is_now <= budget.limit:
        return Chosen("cheapest", least), content
    has = f"{is_now:.0f} bytes" if budget.cost == "bytes" else f"{is_now:.4g}{'x' if budget.relative else ' ms'}"
    raise VeriQuantError(
        f"nothing meets {budget}: with every group at its cheapest, the nearest there is, the file has {has}; allow "
        "at least that, or candidates of fewer bits"
    )


def _figure(choice: Choice, content: bytes, budget: CostBudget) -> float:
    """Return what a file really costs: its bytes, or its time in the figure that the budget names."""
    if budget.cost == "bytes":
        return float(len(content))
    ratio = measured_ratio(choice.model, content, choice.context)
    return ratio if budget.relative else ratio * choice.reference_ms


def best_within(choice: Choice, budget: CostBudget, limit: float) -> Chosen:
    """Return the best assignment whose cost stays within `limit`, in the figure of `budget`: phase 2, above."""
    problem = choice.problem
    limits: dict[str, float] = {budget.cost: limit}
    optimum = least_noise(problem, limits)  # first, because it names the nearest where nothing fits
    assignments: dict[str, Assignment] = {}
    if choice.solver != "ilp":
        path = greedy(problem, budget.cost)
        assignments["greedy"] = path.assignment(path.first_within(limits))
    if choice.solver != "greedy":
        assignments["ilp"] = optimum.assignment
    if choice.solver == "best":
        for precision in choice.model.simulation.table.candidates:
            same = uniform(problem, precision).assignment
            if problem.cost(same, budget.cost) <= limit:
                assignments[f"fixed {precision}"] = same
    tried = {label: point_of(choice, label, each, measured=True) for label, each in assignments.items()}
    label = max(tried, key=lambda each: tried[each].measured_sqnr or -math.inf)
    return Chosen(label, dict(assignments[label]), tried=list(tried.values()))


def within_task(choice: Choice, budget: TaskBudget) -> Chosen:
    """Return the farthest point of the walk, or of the front, that meets a task target."""
    judge, model, problem = choice.context.judge, choice.model, choice.problem
    assert judge is not None

    def score(assignment: Mapping[str, Precision]) -> float:
        change = model.quantizers.change(assignment, codes=True)
        embedder = SimulatedEmbedder(model.simulation, change, dim=model.network.dim, threads=torch.get_num_threads())
        return judge(embedder, budget.metric)

    full = score({}) if budget.relative_to_full else None
    required = budget.target(full)
    if choice.solver == "ilp":
        points = [dict(point.assignment) for point in reversed(front(problem, "bops", points=40))]
    else:
        path = greedy(problem, "bops")
        points = [path.assignment(position) for position in range(path.last + 1)]
    search = choice.config.search or "binary+interpolation"
    found = SEARCHES.get(search)(
        len(points) - 1, lambda k: score(points[k]), required, higher_is_better=budget.higher_is_better
    )
    if found.position is None:
        best = found.scores[0]
        raise VeriQuantError(
            f"nothing meets {budget} ({required:.4f}): the highest precision of target {model.simulation.table.name} "
            f"gives {budget.metric} {best:.4f}, the nearest; ask for that, or give it higher candidates"
        )
    evaluated = len(found.scores) + (full is not None)
    said = f"{evaluated} evaluations of {budget.metric} by {search} search. {found.note}".strip()
    model.records.append(remark("allocate", said))
    tried = []
    for position, value in sorted(found.scores.items()):
        point = point_of(choice, "searched", points[position], measured=False)
        tried.append(point.model_copy(update={"score": value}))
    label = "ilp" if choice.solver == "ilp" else "greedy"
    return Chosen(label, points[found.position], found.scores[found.position], tried)
