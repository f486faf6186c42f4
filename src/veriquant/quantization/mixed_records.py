"""What is kept of a choice of widths: the record that the report draws, and the notes that a user reads."""

from __future__ import annotations

from collections.abc import Mapping

from veriquant.allocation import GreedyPath, Problem, additivity, greedy, uniform
from veriquant.allocation.sensitivity import SensitivityList
from veriquant.progress import track
from veriquant.quantization.mixed_search import Chosen, point_of
from veriquant.quantization.mixed_settings import MixedSettings
from veriquant.quantization.simulated import CalibratedModel
from veriquant.results import Allocation, AllocationPoint, GroupChoice
from veriquant.simulation import Plan
from veriquant.simulation.precision import Precision

#: Points of the curve that are run with all layers quantized at once, for the report.
_MEASURED_POINTS = 12


def recorded(
    bench: CalibratedModel,
    settings: MixedSettings,
    found: SensitivityList,
    problem: Problem,
    chosen: Chosen,
    plan: Plan,
    file_bytes: int,
) -> Allocation:
    """Return the record of a choice: every group's sensitivity and widths, the curve, the fixed rivals, the plan."""
    assignment = chosen.assignment
    point = point_of(bench, problem, "chosen", assignment, measured=True)
    noise = bench.noise(assignment)
    return Allocation(
        target=bench.simulation.table.name,
        budget=settings.budget,
        search=chosen.label if settings.allocation == "best" else settings.allocation,
        metric=found.metric,
        samples=found.samples,
        groups=_groups(bench, found, problem, assignment),
        front=_curve(bench, greedy(problem, "bops")) + [point for point in chosen.tried if point.label != "walk"],
        fixed=[
            point_of(bench, problem, f"fixed {p}", uniform(problem, p).assignment, measured=True)
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


def _curve(bench: CalibratedModel, path: GreedyPath) -> list[AllocationPoint]:
    """Return the walk, a dozen of its points run with all layers quantized at once."""
    shown = sorted({round(i * path.last / (_MEASURED_POINTS - 1)) for i in range(_MEASURED_POINTS)})
    return [
        point_of(bench, path.problem, "walk", path.assignment(position), measured=True)
        for position in track(shown, "points of the curve", total=len(shown))
    ]


def _groups(
    bench: CalibratedModel, found: SensitivityList, problem: Problem, assignment: Mapping[str, Precision]
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


def provenance(allocation: Allocation) -> dict[str, object]:
    """Return what a plan says of its own making."""
    return {
        "budget": allocation.budget,
        "search": allocation.search,
        "metric": allocation.metric,
        "relative_bops": round(allocation.chosen.relative_bops, 6),
        "average_bits": round(allocation.average_bits, 4),
        "nominal_bytes": round(allocation.chosen.nominal_bytes),
        "sqnr_db": None if allocation.chosen.measured_sqnr is None else round(allocation.chosen.measured_sqnr, 3),
    }


def notes_on(allocation: Allocation, found: Chosen) -> list[str]:
    """Return the choice in sentences."""
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
