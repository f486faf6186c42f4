"""How far the quantizer groups of a network lie apart, all networks of a study side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veriquant.report import numbers
from veriquant.report.blocks import Cell, Column, Table
from veriquant.report.canvas import Figure, Look, axis, frame, plain, rounded, shortened
from veriquant.report.palette import QUANTIZED
from veriquant.report.precisions import bits_of, candidates, measured, ordered
from veriquant.results import Allocation, GroupChoice, NetworkStudy, StudyResult


@dataclass(frozen=True)
class Spread:
    """The SQNR of a network's groups at one precision, in dB by group name, as one of its variants measured it."""

    network: str
    variant: str
    sqnr: dict[str, float]

    def quantile(self, share: float) -> float:
        """Return a quantile over the groups, in dB."""
        return float(np.quantile(list(self.sqnr.values()), share))


def shared_precision(result: StudyResult) -> str | None:
    """Return the precision to compare networks at: W8A8 where most have it, else the middle one of what most have."""
    found = [{p for each in _allocations(network) for p in candidates(each.groups)} for network in result.networks]
    every = ordered(precision for each in found for precision in each)
    if not every:
        return None
    often = {precision: sum(precision in each for each in found) for precision in every}
    shared = [precision for precision in every if often[precision] == max(often.values())]
    return "W8A8" if "W8A8" in shared else shared[(len(shared) - 1) // 2]


def spreads(result: StudyResult, precision: str) -> list[Spread]:
    """Return the spread of each network that was measured at a precision, the lowest median first."""
    found = []
    for network in result.networks:
        for variant in network.variants:
            sqnr = sqnr_at(variant.allocation.groups, precision) if variant.allocation else {}
            if sqnr:
                found.append(Spread(network.name, variant.name, sqnr))
                break
    return sorted(found, key=lambda spread: spread.quantile(0.5))


def _allocations(network: NetworkStudy) -> list[Allocation]:
    return [variant.allocation for variant in network.variants if variant.allocation]


def sqnr_at(groups: Sequence[GroupChoice], precision: str) -> dict[str, float]:
    """Return the SQNR by group name at a precision, in dB; a group without weights counts at its activation bits."""
    bits = bits_of(precision)
    without_weights = f"W32A{bits[1]}" if bits else precision
    found = {}
    for group in groups:
        sqnr = measured(group)
        name = precision if precision in sqnr or group.parameters else without_weights
        if name in sqnr:
            found[group.name] = sqnr[name]
    return found


def chart(found: Sequence[Spread], precision: str, look: Look) -> Figure:
    """Draw a box a network: the middle half of its groups, whiskers to the extremes (Pandey et al., Fig. 3)."""
    rows = list(range(len(found)))
    names = [plain(shortened(spread.network, 26)) for spread in found]
    layout = frame(
        look.title(f"SQNR of single groups at {precision}", "one row a network, the most sensitive on top"),
        axis("SQNR at the output (dB); left is worse"),
        axis("", tickvals=rows, ticktext=names, range=[len(found) - 0.4, -0.6], zeroline=False),
        height=170 + 70 * len(found),
        showlegend=False,
    )
    return {"data": [_box(spread, row) for row, spread in enumerate(found)], "layout": layout}


def _box(spread: Spread, row: int) -> Figure:
    network = plain(spread.network)
    return {
        "type": "box", "orientation": "h", "name": network, "boxpoints": "all", "jitter": 0.6, "pointpos": 0,
        "x": [rounded(value) for value in spread.sqnr.values()], "y": [row] * len(spread.sqnr), "width": 0.6,
        "marker": {"color": QUANTIZED, "size": 5, "opacity": 0.5}, "line": {"color": QUANTIZED, "width": 2},
        "fillcolor": "rgba(0,114,178,0.14)", "hoveron": "points", "hoverinfo": "text",
        "hovertext": [
            f"{network}<br>{plain(name)}: {numbers.number(value, 1)} dB" for name, value in spread.sqnr.items()
        ],
    }  # fmt: skip


def table(found: Sequence[Spread], precision: str) -> Table:
    """Build the same as figures: the least, the quartiles and the greatest."""
    rows = tuple(
        (
            Cell(spread.network),
            Cell(spread.variant),
            Cell(numbers.count(len(spread.sqnr))),
            *(Cell(numbers.number(spread.quantile(share), 1)) for share in (0, 0.25, 0.5, 0.75, 1)),
            Cell(numbers.number(spread.quantile(1) - spread.quantile(0), 1)),
        )
        for spread in found
    )
    heads = ("Groups", "Least (dB)", "Lower quartile (dB)", "Median (dB)", "Upper quartile (dB)", "Greatest (dB)")
    columns = (
        Column("Network", False), Column("Measured for", False), *map(Column, heads), Column("Range (dB)"),
    )  # fmt: skip
    return Table(columns, rows, f"SQNR of single groups at {precision}")
