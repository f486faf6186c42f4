"""Charts of a mixed-precision variant: what each group's bits do to the embeddings, and which bits it was given."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from veriquant.report import numbers
from veriquant.report.canvas import Figure, Look, axis, frame, plain, rounded
from veriquant.report.precisions import FLOAT, Colours, bits_of, candidates, measured, ordered, short_names, worst_first
from veriquant.results import GroupChoice, NetworkStudy, Variant

MOST_ROWS = 40
LEAST_WIDTH = 560
"""Pixels that a chart of named rows needs; a narrower page scrolls it sideways."""
ALONG_PLOT = 400
"""Height in pixels of a plot along the network, the upright names included."""
SQNR_AXIS = "SQNR at the output (dB); shorter is worse"
BIT_TICKS = (1, 2, 4, 8, 16, 32)
LEAST_PIXELS_A_GROUP = 15
"""Thickness of a group's row or column: its name has room; more where many candidates stand inside one another."""
WIDEST_BAR, NARROWEST_BAR = 0.9, 0.3
ENTRIES_A_LINE = 3
"""Entries of a legend that stand side by side on a narrow page."""


def width_along_network(groups: Sequence[GroupChoice]) -> int:
    """Return the least width, in pixels, of a chart that has the groups side by side."""
    return 110 + _thickness(groups) * len(groups)


def _thickness(groups: Sequence[GroupChoice]) -> int:
    return max(LEAST_PIXELS_A_GROUP, 6 + 3 * len(candidates(groups)))


def _framed(title: Figure, xaxis: Figure, yaxis: Figure, data: Sequence[Figure], plot: int, **more: object) -> Figure:
    """Return a figure of bars, `plot` pixels high without its margins, with a legend between title and bars."""
    entries = len({trace["name"] for trace in data})
    above = 75 + 20 * ceil(entries / ENTRIES_A_LINE)
    layout = frame(
        title | {"yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 18}},
        xaxis,
        yaxis,
        height=above + plot + 60,
        barmode="overlay",
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        margin={"l": 60, "r": 20, "t": above, "b": 60},
        showlegend=True,
        **more,
    )
    return {"data": list(data), "layout": layout}


def worst_groups(network: NetworkStudy, variant: Variant, colours: Colours, look: Look) -> Figure | None:
    """Draw the SQNR of each group alone as bars, the most harmful group on top."""
    groups = worst_first(variant.allocation.groups) if variant.allocation else []
    if not groups:
        return None
    drawn = groups[:MOST_ROWS]
    rows = list(range(len(drawn)))
    more = f", the {MOST_ROWS} worst of {len(groups)}" if len(groups) > MOST_ROWS else ""
    names = [plain(name) for name in short_names(drawn, 34)]
    return _framed(
        look.title(f"Sensitivity, worst first{more}", f"{network.name} · {variant.name}"),
        axis(SQNR_AXIS, rangemode="tozero"),
        axis("", tickvals=rows, ticktext=names, range=[len(drawn) - 0.4, -0.6], tickfont={"size": 11}, zeroline=False),
        _sensitivity(drawn, colours, upright=False),
        plot=30 + (4 + _thickness(drawn)) * len(drawn),
    )


def along_network(network: NetworkStudy, variant: Variant, colours: Colours, look: Look) -> Figure | None:
    """Draw the SQNR of each group alone as bars, in the order of the network."""
    groups = variant.allocation.groups if variant.allocation else []
    if not any(map(measured, groups)):
        return None
    return _framed(
        look.title("Sensitivity along the network", f"{network.name} · {variant.name}"),
        _group_axis(groups),
        axis(SQNR_AXIS, rangemode="tozero"),
        _sensitivity(groups, colours, upright=True),
        plot=ALONG_PLOT,
    )


def _group_axis(groups: Sequence[GroupChoice]) -> Figure:
    names = [plain(name) for name in short_names(groups, 24)]
    places = list(range(len(groups)))
    ends = [-0.7, len(groups) - 0.3]
    return axis(
        "quantizer groups, from input to output",
        tickvals=places, ticktext=names, tickangle=-90, tickfont={"size": 10},
        range=ends, showgrid=False, zeroline=False,
    )  # fmt: skip


def _sensitivity(groups: Sequence[GroupChoice], colours: Colours, upright: bool) -> list[Figure]:
    """Return a trace per candidate: bars inside one another, the most bits widest and behind, so that all are seen."""
    found = candidates(groups)
    step = (WIDEST_BAR - NARROWEST_BAR) / max(1, len(found) - 1)
    traces = []
    for place, precision in reversed(list(enumerate(found))):
        placed = [(i, group) for i, group in enumerate(groups) if precision in measured(group)]
        at = [i for i, _ in placed]
        values = [rounded(measured(group)[precision]) for _, group in placed]
        trace: Figure = {
            "type": "bar", "orientation": "v" if upright else "h", "name": plain(precision),
            "x": at if upright else values, "y": values if upright else at,
            "width": rounded(NARROWEST_BAR + step * place) if len(found) > 1 else 0.75,
            "marker": {"color": colours[precision]}, "hovertext": [_told(group) for _, group in placed],
            "hoverinfo": "text",
        }  # fmt: skip
        traces.append(trace)
    return traces


def _told(group: GroupChoice) -> str:
    """Write what a hover says of a group: its whole name, what it holds, what each candidate does, what was chosen."""
    lines = [f"<b>{plain(group.name)}</b>"]
    if len(group.operations) > 1:
        shown = [plain(name) for name in group.operations[:4]]
        rest = [f"… {len(group.operations) - 4} more"] if len(group.operations) > 4 else []
        lines.append("<br>".join(["together:", *shown, *rest]))
    lines.append(f"{numbers.count(group.parameters)} parameters, {numbers.count(group.macs)} MACs")
    lines += [f"{plain(p)}: {numbers.number(group.sqnr[p], 1)} dB{_time(group, p)}" for p in ordered(group.sqnr)]
    lines.append(f"chosen: <b>{plain(group.chosen)}</b>")
    return "<br>".join(lines)


def _time(group: GroupChoice, precision: str) -> str:
    found = group.milliseconds.get(precision)
    return "" if found is None else f", {numbers.milliseconds(found)} ms"


def bits_along_network(network: NetworkStudy, variant: Variant, colours: Colours, look: Look) -> Figure | None:
    """Draw the plan: bits of weights above, of activations below, in the order of the network."""
    groups = variant.allocation.groups if variant.allocation else []
    chosen = [precision for precision in ordered(group.chosen for group in groups) if bits_of(precision)]
    if not chosen:
        return None
    data = []
    for precision in chosen:
        weight, activation = bits_of(precision) or (0, 0)
        given = [(i, group) for i, group in enumerate(groups) if group.chosen == precision]
        with_weights = [(i, group) for i, group in given if group.parameters]
        data.append(_bit_bars(precision, with_weights, weight, colours[precision]) | {"yaxis": "y2"})
        data.append(_bit_bars(precision, given, activation, colours[precision]) | {"showlegend": False})
    scale: Figure = {
        "type": "log", "tickvals": BIT_TICKS, "ticktext": [str(bits) for bits in BIT_TICKS], "range": [0, 1.56],
    }  # fmt: skip
    return _framed(
        look.title("The plan: bits along the network", f"{network.name} · {variant.name}"),
        _group_axis(groups),
        axis("activation bits", **scale, domain=[0, 0.46]),
        data,
        plot=ALONG_PLOT + 40,
        yaxis2=axis("weight bits", **scale, domain=[0.54, 1]),
    )


def _bit_bars(precision: str, groups: Sequence[tuple[int, GroupChoice]], bits: int, colour: str) -> Figure:
    name = f"{FLOAT}, left in floating point" if precision == FLOAT else precision
    return {
        "type": "bar", "name": plain(name), "legendgroup": plain(precision), "x": [i for i, _ in groups],
        "y": [bits] * len(groups), "width": 0.82, "marker": {"color": colour},
        "hovertext": [_told(group) for _, group in groups], "hoverinfo": "text",
    }  # fmt: skip
