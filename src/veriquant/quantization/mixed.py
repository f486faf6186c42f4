"""`mixed`: the best widths for every quantizer group within a budget, after training and without labels.

Phase 1 measures what each group alone does to the embeddings at each width (`allocation.sensitivity`); phase 2 chooses
(`mixed_search`); what is kept of it goes into the report (`mixed_records`).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch

from veriquant.allocation import (
    CostBudget,
    Problem,
    TaskBudget,
    build_problem,
    fit_noise,
    measure,
    parse_budget,
)
from veriquant.allocation.sensitivity import SensitivityList, all_candidates, cache_folder
from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.networks.network import Network
from veriquant.quantization.group_latency import group_milliseconds
from veriquant.quantization.method import METHODS, Method, QuantizationContext, QuantizationResult
from veriquant.quantization.mixed_records import notes_on, provenance, recorded
from veriquant.quantization.mixed_search import within_cost, within_task
from veriquant.quantization.mixed_settings import MixedSettings
from veriquant.quantization.simulated import CalibratedModel, calibrate_model


def _run(
    network: Network, settings: MixedSettings, calibration: Calibration | None, target: QuantizationContext
) -> QuantizationResult:
    assert calibration is not None
    budget = parse_budget(settings.budget)
    if isinstance(budget, TaskBudget) and target.judge is None:
        raise VeriQuantError(f"budget {budget} is a task target: name the benchmark to evaluate on (--benchmark)")
    bench = calibrate_model(network, settings, calibration, settings.table())
    started = time.perf_counter()
    found = _sensitivity(bench, settings, target)
    bench.seconds["sensitivity"] = time.perf_counter() - started
    problem, reference_ms = _problem(bench, found, budget, target)
    started = time.perf_counter()
    if isinstance(budget, CostBudget):
        chosen, content = within_cost(bench, problem, budget, settings, target, reference_ms)
    else:
        chosen = within_task(bench, problem, budget, settings, target)
        content = bench.file(bench.plan(chosen.assignment))
    bench.seconds["search"] = time.perf_counter() - started
    plan = bench.plan(chosen.assignment)
    allocation = recorded(bench, settings, found, problem, chosen, plan, len(content))
    plan = plan.model_copy(update={"note": provenance(allocation)})
    bench.notes += [*notes_on(allocation, chosen), bench.agreement(content, plan)]
    noise = {e.group: e.noise for e in found.entries if e.precision == str(chosen.assignment[e.group])}
    return QuantizationResult(
        content,
        bench.layers(plan, noise),
        bench.notes,
        plan=plan,
        allocation=allocation,
        save_pack=bench.pack_saver(plan),
    )


def _sensitivity(bench: CalibratedModel, settings: MixedSettings, target: QuantizationContext) -> SensitivityList:
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
    bench: CalibratedModel, found: SensitivityList, budget: CostBudget | TaskBudget, target: QuantizationContext
) -> tuple[Problem, float]:
    """Return the problem, and where the budget is one of latency the milliseconds of the full-precision file."""
    if not (isinstance(budget, CostBudget) and budget.cost == "latency"):
        return build_problem(bench.costs, found), 0.0
    times = group_milliseconds(bench, target)
    bench.notes.append(times.note)
    problem = build_problem(bench.costs, found, milliseconds=times.groups, fixed_ms=times.rest)
    unit = times.reference if budget.relative else 1.0
    return replace(problem, unit={**problem.unit, "latency": unit}), times.reference


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
