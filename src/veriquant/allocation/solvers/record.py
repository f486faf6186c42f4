"""What is kept of a choice of widths: the record that the report draws, and the sentences that a user reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from veriquant.allocation.agreement import additivity
from veriquant.allocation.greedy import GreedyPath, greedy
from veriquant.allocation.sensitivity import SensitivityList
from veriquant.allocation.uniform import uniform
from veriquant.progress import track
from veriquant.results import Allocation, AllocationPoint, GroupChoice, StageRecord
from veriquant.simulation.precision import Precision

if TYPE_CHECKING:
    from veriquant.allocation.solvers.budgeted import Choice, Chosen

#: Points of the curve that are run with all layers quantized at once, for the report.
_MEASURED_POINTS = 12


def point_of(choice: Choice, label: str, assignment: Mapping[str, Precision], *, measured: bool) -> AllocationPoint:
    """Return what an assignment costs and keeps; `measured`: also by running it, all layers quantized at once."""
    model = choice.model
    predicted = choice.noise.noise(assignment)
    return AllocationPoint(
        label=label,
        relative_bops=choice.problem.cost(assignment, "bops"),
        nominal_bytes=model.costs.nominal_bytes(assignment),
        predicted_sqnr=-10 * math.log10(max(predicted, 1e-14)),
        measured_sqnr=model.noise_under(model.quantizers.change(assignment, codes=True))[1] if measured else None,
    )


def choice_record(choice: Choice, chosen: Chosen, file_bytes: int) -> StageRecord:
    """Return what was chosen, as figures."""
    model, assignment = choice.model, chosen.assignment
    counted: dict[str, int] = {}
    for name in model.simulation.groups:
        precision = str(assignment.get(name, "FP32"))
        counted[precision] = counted.get(precision, 0) + 1
    listed = ", ".join(f"{count} × {name}" for name, count in sorted(counted.items(), reverse=True))
    rivals = [point for point in chosen.tried if point.measured_sqnr is not None]
    compared = "; ".join(f"{point.label} {point.measured_sqnr:.2f} dB" for point in rivals)
    noise, sqnr = model.noise_under(model.quantizers.change(assignment, codes=True))
    return StageRecord(
        stage="allocate",
        name="choice",
        template="budget {budget}: relative BOPs {relative_bops:.4f}, {average_bits:.2f} bits a weight, nominal "
        "{nominal_mb:.3f} MB, on disk {file_mb:.3f} MB; {groups} quantizer groups: {widths}; chosen by {label} from "
        "{sensitivity}: {sqnr_db:.2f} dB signal to quantization noise at the output"
        + (" (compared: {compared})" if compared else "")
        + ". {additivity}",
        figures={
            "budget": choice.config.budget,
            "relative_bops": model.costs.relative_bops(assignment),
            "average_bits": model.costs.average_bits(assignment),
            "nominal_mb": model.costs.nominal_bytes(assignment) / 1e6,
            "file_mb": file_bytes / 1e6,
            "groups": len(model.simulation.groups),
            "widths": listed,
            "label": chosen.label,
            "sensitivity": choice.config.measure,
            "sqnr_db": sqnr,
            "compared": compared,
            "additivity": additivity(choice.noise, assignment, noise).sentence,
        },
    )


def recorded(choice: Choice, found: SensitivityList, chosen: Chosen, file_bytes: int) -> Allocation:
    """Return the record of a choice: every group's sensitivity and widths, the curve, the fixed rivals, the plan.

    To be made before anything trains: what is measured here is what calibration alone gives.
    """
    model, assignment = choice.model, chosen.assignment
    point = point_of(choice, "chosen", assignment, measured=True)
    return Allocation(
        target=model.simulation.table.name,
        budget=choice.config.budget,
        search=chosen.label,
        metric=found.metric,
        samples=found.samples,
        groups=_groups(choice, found, assignment),
        front=_curve(choice, greedy(choice.problem, "bops"))
        + [point for point in chosen.tried if point.label != "greedy"],
        fixed=[
            point_of(choice, f"fixed {p}", uniform(choice.problem, p).assignment, measured=True)
            for p in model.simulation.table.candidates
        ],
        chosen=point.model_copy(update={"score": chosen.score}),
        average_bits=model.costs.average_bits(assignment),
        file_bytes=file_bytes,
        additivity=additivity(choice.noise, assignment, model.noise(assignment)).sentence,
        rounding=model.recovery,
        plan=model.plan(assignment).model_dump(mode="json", exclude_none=True),
        seconds=model.seconds,
    )


def _curve(choice: Choice, path: GreedyPath) -> list[AllocationPoint]:
    """Return the walk, a dozen of its points run with all layers quantized at once."""
    shown = sorted({round(i * path.last / (_MEASURED_POINTS - 1)) for i in range(_MEASURED_POINTS)})
    return [
        point_of(choice, "greedy", path.assignment(position), measured=True)
        for position in track(shown, "points of the curve", total=len(shown))
    ]


def _groups(choice: Choice, found: SensitivityList, assignment: Mapping[str, Precision]) -> list[GroupChoice]:
    model, entries = choice.model, found.by_group()
    rows = []
    for name, group in model.simulation.groups.items():
        layers = [model.simulation.layers[each] for each in group.operations if each in model.simulation.layers]
        times = {
            str(option.precision): option.cost["latency"]
            for option in choice.problem.options.get(name, ())
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
