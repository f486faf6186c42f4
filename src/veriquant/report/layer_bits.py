"""Average bits of each layer's weights, iteration by iteration (Kolf et al., Fig. 2)."""

from __future__ import annotations

from veriquant.report import numbers
from veriquant.report.canvas import Figure, Look, axis, frame, plain, rounded
from veriquant.results import Layer, NetworkStudy, Variant

BIT_TICKS = (2, 3, 4, 5, 6, 7, 8)
#: From so many layers on their names would stand on one another; a hover tells them.
MOST_NAMED = 60


def by_layer(network: NetworkStudy, look: Look) -> Figure | None:
    """Draw a line for every variant that came out of an iteration, over the layers with weights in their order."""
    shown = [variant for variant in network.variants if variant.iteration is not None and _weighted(variant)]
    if not shown:
        return None
    names = [layer.name for layer in _weighted(shown[0])]
    ticks = {"tickvals": list(range(len(names))), "ticktext": [plain(name) for name in names], "tickangle": -90}
    few = ticks | {"tickfont": {"size": 10}} if len(names) <= MOST_NAMED else {"showticklabels": False}
    layout = frame(
        look.title("Average bits of each layer's weights", network.name),
        axis("layers with weights, from input to output", showgrid=False, **few),
        axis("bits a weight", tickvals=list(BIT_TICKS), rangemode="tozero"),
        height=520,
        showlegend=True,
    )
    return {"data": [_line(variant, look) for variant in shown], "layout": layout}


def _line(variant: Variant, look: Look) -> Figure:
    layers = _weighted(variant)
    told = [f"{plain(each.name)}<br>{numbers.number(each.weight_bits, 2)} bits, {each.parameters:,}" for each in layers]
    return {
        "type": "scatter", "mode": "lines+markers", "x": list(range(len(layers))),
        "y": [rounded(each.weight_bits or 0) for each in layers],
        "name": plain(f"{variant.name} ({numbers.number(variant.average_bits, 2)})"),
        "line": {"color": look.palette.colour(variant.name), "dash": look.palette.dash(variant.name), "shape": "hvh"},
        "marker": {"symbol": look.palette.symbol(variant.name), "size": 5},
        "hovertext": [f"{each} weights" for each in told], "hoverinfo": "text+name",
    }  # fmt: skip


def _weighted(variant: Variant) -> list[Layer]:
    return [layer for layer in variant.layers if layer.weight_bits and layer.macs]
