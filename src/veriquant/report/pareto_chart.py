"""Cost against harm: the curve of every mixed-precision variant of a network, its rivals of one width, its choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veriquant.report import numbers
from veriquant.report.canvas import Figure, Look, axis, frame, plain, rounded
from veriquant.report.precisions import task_metric
from veriquant.results import Allocation, AllocationPoint, NetworkStudy, Variant

LOGARITHMIC_FROM = 10.0
"""Ratio of the greatest cost to the least from which the axis of costs is logarithmic."""
Height = Callable[[AllocationPoint], float | None]


@dataclass(frozen=True)
class _Kind:
    """How points of one kind are marked; `size` in pixels."""

    symbol: str
    size: int


WALK, TRIED, FIXED, CHOSEN = _Kind("circle", 7), _Kind("circle-open", 9), _Kind("square", 9), _Kind("star", 17)


def by_sqnr(network: NetworkStudy, look: Look) -> Figure | None:
    """Draw the SQNR over relative BOPs: lines as predicted from single groups, markers as measured together."""
    variants = allocated(network)
    data = [trace for variant, found in variants for trace in _of_variant(variant, found, _sqnr, look, line=True)]
    if not data:
        return None
    _label_once(data)
    title = look.title("SQNR against cost", network.name)
    return {"data": data, "layout": _layout(title, variants, axis("SQNR at the output (dB); up is better"))}


def by_score(network: NetworkStudy, metric: str, look: Look) -> Figure | None:
    """Draw the task score over relative BOPs, of the variants whose budget names this metric."""
    variants = [(variant, found) for variant, found in allocated(network) if task_metric(found) == metric]
    scale = 100.0 if numbers.is_percent(metric) else 1.0

    def score(point: AllocationPoint) -> float | None:
        return None if point.score is None else scale * point.score

    data = [trace for variant, found in variants for trace in _of_variant(variant, found, score, look, line=False)]
    if not data:
        return None
    _label_once(data)
    label = numbers.label(metric)
    better = "up" if numbers.higher_is_better(metric) else "down"
    title = look.title(f"{label} against cost", network.name)
    return {
        "data": data,
        "layout": _layout(title, variants, axis(f"{label}{numbers.unit(metric)}; {better} is better")),
    }


def allocated(network: NetworkStudy) -> list[tuple[Variant, Allocation]]:
    """Return the variants whose widths were allocated, with their allocations."""
    return [(variant, variant.allocation) for variant in network.variants if variant.allocation]


def _sqnr(point: AllocationPoint) -> float | None:
    return point.measured_sqnr if point.measured_sqnr is not None else point.predicted_sqnr


def _layout(title: Figure, variants: Sequence[tuple[Variant, Allocation]], yaxis: Figure) -> Figure:
    costs = [p.relative_bops for _, found in variants for p in (*found.front, *found.fixed, found.chosen)]
    costs = [cost for cost in costs if cost > 0]
    wide = bool(costs) and max(costs) / min(costs) > LOGARITHMIC_FROM
    scale = {"type": "log", "dtick": "D2"} if wide else {"rangemode": "tozero"}
    note = ", logarithmic scale" if wide else ""
    return frame(title, axis(f"relative bit operations (W8A16 = 1){note}", **scale), yaxis, height=480, showlegend=True)


def _of_variant(variant: Variant, found: Allocation, height: Height, look: Look, line: bool) -> list[Figure]:
    walk = sorted((p for p in found.front if p.label in ("greedy", "walk")), key=lambda p: p.relative_bops)
    tried = [p for p in found.front if p.label not in ("greedy", "walk") and not p.label.startswith("fixed")]
    traces = []
    if line:
        traces.append(_line(variant, walk, look))
    traces += [
        _markers(variant, points, kind, height, look)
        for points, kind in ((walk, WALK), (tried, TRIED), (found.fixed, FIXED), ([found.chosen], CHOSEN))
    ]
    traces = [trace for trace in traces if trace["x"]]
    for place, trace in enumerate(traces):  # one entry of the legend shows and hides all that belongs to the variant
        trace["showlegend"] = place == len(traces) - 1
    return traces


def _line(variant: Variant, walk: Sequence[AllocationPoint], look: Look) -> Figure:
    points = [point for point in walk if math.isfinite(point.predicted_sqnr)]
    return {
        "type": "scatter", "mode": "lines", "name": plain(variant.name), "legendgroup": plain(variant.name),
        "x": [rounded(point.relative_bops) for point in points],
        "y": [rounded(point.predicted_sqnr) for point in points],
        "line": {
            "color": look.palette.colour(variant.name), "dash": look.palette.dash(variant.name), "width": 2,
        },
        "hoverinfo": "skip",
    }  # fmt: skip


def _markers(variant: Variant, points: Sequence[AllocationPoint], kind: _Kind, height: Height, look: Look) -> Figure:
    placed = [(p, y) for p in points if (y := height(p)) is not None and math.isfinite(y)]
    trace: Figure = {
        "type": "scatter", "mode": "markers", "name": plain(variant.name), "legendgroup": plain(variant.name),
        "x": [rounded(point.relative_bops) for point, _ in placed], "y": [rounded(y) for _, y in placed],
        "marker": {"color": look.palette.colour(variant.name), "size": kind.size, "symbol": kind.symbol},
        "hovertext": [_told(variant, point) for point, _ in placed], "hoverinfo": "text",
    }  # fmt: skip
    if kind is FIXED:
        labels = [plain(point.label.removeprefix("fixed ")) for point, _ in placed]
        trace |= {"mode": "markers+text", "text": labels, "textposition": _sides(trace["x"], trace["y"])}
        trace |= {"textfont": {"size": 11}, "cliponaxis": False}
    if kind is CHOSEN:
        trace["marker"]["line"] = {"color": "#ffffff", "width": 1.5}
    return trace


def _sides(x: Sequence[float], y: Sequence[float]) -> list[str]:
    """Put labels under their markers, but over the upper one of two of the same cost, such as W6A8 and W8A6."""
    lowest = {cost: min(range(len(x)), key=lambda i: (x[i] != cost, y[i])) for cost in set(x)}
    return ["bottom center" if lowest[cost] == i else "top center" for i, cost in enumerate(x)]


def _label_once(data: Sequence[Figure]) -> None:
    """Write each fixed precision beside its first marker only: all variants have it at nearly the same cost."""
    seen: set[str] = set()
    for trace in data:
        if "text" in trace:
            trace["text"] = ["" if label in seen else label for label in trace["text"]]
            seen.update(trace["text"])


def _told(variant: Variant, point: AllocationPoint) -> str:
    lines = [f"<b>{plain(variant.name)}</b>, {plain(point.label)}"]
    lines.append(f"relative BOPs {numbers.number(point.relative_bops, 3)}, nominal {point.nominal_bytes / 1e6:.2f} MB")
    lines.append(f"SQNR predicted {numbers.number(point.predicted_sqnr, 1)} dB")
    if point.measured_sqnr is not None:
        lines[-1] += f", measured {numbers.number(point.measured_sqnr, 1)} dB"
    if point.score is not None and variant.allocation:
        metric = task_metric(variant.allocation) or ""
        lines.append(f"{plain(numbers.label(metric) or 'score')} {numbers.metric_value(metric, point.score)}")
    return "<br>".join(lines)
