"""Precisions and quantizer groups as a report shows them: bits, order, colours, short names, the order of harm."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from veriquant.report.canvas import shortened
from veriquant.report.palette import KEPT
from veriquant.results import Allocation, GroupChoice

Colours = Mapping[str, str]
"""A colour by precision."""
FLOAT = "FP32"
RAMP = ("#a08600", "#4f9d3a", "#14967a", "#1c86b5", "#4a74d8", "#7b5cd6", "#b04fb4", "#c9427a")
"""From few bits to many: told apart on white and on dark paper, and none near the colour of floating point."""


def bits_of(precision: str) -> tuple[int, int] | None:
    """Return the bits of weights and activations: 'W4A8' -> (4, 8), 'FP32' -> (32, 32); None for anything else."""
    if precision == FLOAT:
        return 32, 32
    found = re.fullmatch(r"W(\d+)A(\d+)", precision)
    return (int(found[1]), int(found[2])) if found else None


def ordered(precisions: Iterable[str]) -> list[str]:
    """Order precisions from few bits to many, by the product that a bit operation counts; each once."""

    def key(precision: str) -> tuple[int, int, str]:
        weight, activation = bits_of(precision) or (0, 0)
        return weight * activation, weight, precision

    return sorted(dict.fromkeys(precisions), key=key)


def colours(allocations: Iterable[Allocation]) -> Colours:
    """Return a colour for every precision that a study measured or chose, so that it looks alike in all its charts."""
    found = ordered(p for each in allocations for group in each.groups for p in (*group.sqnr, group.chosen))
    quantized = [precision for precision in found if precision != FLOAT]
    last = max(1, len(quantized) - 1)
    return {precision: _along_ramp(i / last) for i, precision in enumerate(quantized)} | {FLOAT: KEPT}


def _along_ramp(share: float) -> str:
    """Return the colour at a share of the ramp, 0 to 1, mixed from the two that it lies between."""
    place = share * (len(RAMP) - 1)
    lower = min(int(place), len(RAMP) - 2)
    near, far = ([int(RAMP[i][at : at + 2], 16) for at in (1, 3, 5)] for i in (lower, lower + 1))
    mixed = [round(a + (place - lower) * (b - a)) for a, b in zip(near, far, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def measured(group: GroupChoice) -> dict[str, float]:
    """Return the group's SQNR by precision, in dB, without those that are no finite number (no noise at all)."""
    return {precision: value for precision, value in group.sqnr.items() if math.isfinite(value)}


def candidates(groups: Iterable[GroupChoice]) -> list[str]:
    """Return the precisions that any group was measured at, from few bits to many."""
    return ordered(precision for group in groups for precision in measured(group))


def worst_first(groups: Sequence[GroupChoice]) -> list[GroupChoice]:
    """Sort the groups that were measured by the SQNR of their most harmful candidate, the worst first."""
    return sorted((group for group in groups if measured(group)), key=lambda group: min(measured(group).values()))


def short_names(groups: Sequence[GroupChoice], longest: int) -> list[str]:
    """Return names short enough for an axis: without the parts that all share in front, long ones by their end."""
    parts = [re.split(r"(?<=[/.:])(?=.)", group.name) for group in groups]
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    shared = min(len(list(alike)), *(len(each) - 1 for each in parts)) if parts else 0
    return [shortened("".join(each[shared:]), longest) for each in parts]


def task_metric(allocation: Allocation) -> str | None:
    """Return the metric that a budget such as 'tar@far=1e-3>=0.975' sets a target for; None for a limit on a cost."""
    name, sign, _ = allocation.budget.partition(">=")
    if not sign:
        name, sign, _ = allocation.budget.partition("<=")
    return name if sign else None
