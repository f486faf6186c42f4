"""The charts, as plain Plotly data; the page draws them and gives paper, ink and grid its own colours (light, dark)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

from veriquant.report import numbers
from veriquant.report.canvas import MARGIN_COLOUR, SHADE, Figure, Look, axis, frame, plain, rounded, shortened
from veriquant.report.palette import KEPT, QUANTIZED
from veriquant.report.tables import metric_order
from veriquant.results import Curve, Difference, Evaluation, Layer, NetworkStudy, ScoreSummary, Variant

DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
MOST_BARS = 40
BINS_DRAWN = 120


def _evaluated(network: NetworkStudy, benchmark: str) -> list[tuple[Variant, Evaluation]]:
    return [(v, v.evaluations[benchmark]) for v in network.variants if benchmark in v.evaluations]


def similarities(network: NetworkStudy, benchmark: str, look: Look) -> Figure | None:
    """Draw the histograms of genuine and impostor similarities of all variants over one another."""
    measured = [(v, e) for v, e in _evaluated(network, benchmark) if e.genuine.histogram and e.impostor.histogram]
    if not measured:
        return None
    shared = _shared_accuracy_threshold(measured)
    data, shapes = [], []
    for variant, evaluation in measured:
        for kind, summary in (("genuine", evaluation.genuine), ("impostor", evaluation.impostor)):
            data.append(_histogram(variant, kind, summary, look))
        accuracy = evaluation.metrics.get("accuracy")
        if accuracy is not None and accuracy.threshold is not None and shared:
            line = {"color": look.palette.colour(variant.name), "width": 1.5, "dash": "dot"}
            at = rounded(accuracy.threshold)
            shapes.append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line})
    layout = frame(
        look.title("Similarities of genuine and impostor comparisons", f"{network.name} · {benchmark}"),
        axis("cosine similarity", range=_span(measured)),
        axis("share of comparisons per bin (%)", rangemode="tozero"),
        shapes=shapes,
    )
    return {"data": data, "layout": layout}


def _shared_accuracy_threshold(measured: list[tuple[Variant, Evaluation]]) -> bool:
    return all("accuracy" in evaluation.metrics for _, evaluation in measured)


def _histogram(variant: Variant, kind: str, summary: ScoreSummary, look: Look) -> Figure:
    """Return one histogram as a stepped line, in percent of its comparisons, in bins wide enough to be seen."""
    counts = summary.histogram
    step = max(1, math.ceil(len(counts) / BINS_DRAWN))
    width = 2 / len(counts)
    joined = [(start, sum(counts[start : start + step])) for start in range(0, len(counts), step)]
    total = sum(counts) or 1
    return {
        "type": "scatter", "mode": "lines", "name": f"{plain(variant.name)} {kind}",
        "x": [rounded(-1 + width * (start + min(step, len(counts) - start) / 2)) for start, _ in joined],
        "y": [rounded(100 * each / total) for _, each in joined],
        "line": {
            "shape": "hvh", "width": 2, "dash": "solid" if kind == "genuine" else "dash",
            "color": look.palette.colour(variant.name),
        },
        "fill": "tozeroy" if variant.reference else "none", "fillcolor": SHADE,
        "legendgroup": plain(variant.name),
        "hovertemplate": "similarity %{x:.3f}: %{y:.2f} %<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _span(measured: list[tuple[Variant, Evaluation]]) -> list[float]:
    """Return the range of similarities that occur, a little widened."""
    ends = []
    for _, evaluation in measured:
        for counts in (evaluation.genuine.histogram, evaluation.impostor.histogram):
            filled = [i for i, each in enumerate(counts) if each]
            if filled:
                ends += [-1 + 2 * filled[0] / len(counts), -1 + 2 * (filled[-1] + 1) / len(counts)]
    return [rounded(max(-1.0, min(ends) - 0.03)), rounded(min(1.0, max(ends) + 0.03))] if ends else [-1, 1]


def det(network: NetworkStudy, benchmark: str, look: Look) -> Figure | None:
    """Draw DET curves on probit axes."""
    measured = [(v, e) for v, e in _evaluated(network, benchmark) if e.curve.threshold]
    if not measured:
        return None
    probit = NormalDist().inv_cdf
    data = [
        _curve(variant, _points(evaluation.curve, open_ends=True), look, lambda p: (probit(p[0]), probit(p[1])))
        for variant, evaluation in measured
    ]
    lowest_x, lowest_y = _lowest(measured)
    ticks = {"tickvals": [rounded(probit(t)) for t in DET_TICKS], "ticktext": [_percent_tick(t) for t in DET_TICKS]}
    diagonal = {"type": "line", "x0": probit(1e-6), "y0": probit(1e-6), "x1": 0.6, "y1": 0.6}
    return {
        "data": data,
        "layout": frame(
            look.title("DET curves", f"{network.name} · {benchmark}"),
            axis("FMR (%), probit scale", **ticks, range=[rounded(probit(lowest_x)), 0.3], zeroline=False),
            axis("FNMR (%), probit scale", **ticks, range=[rounded(probit(lowest_y)), 0.3], zeroline=False),
            shapes=[
                diagonal | {"line": {"color": "#8a909a", "width": 1, "dash": "dot"}},
                *_unsupported(measured, probit, left=probit(1e-9)),
            ],
            height=470,
        ),
    }


def roc(network: NetworkStudy, benchmark: str, look: Look) -> Figure | None:
    """Draw ROC curves over the logarithm of the FMR."""
    measured = [(v, e) for v, e in _evaluated(network, benchmark) if e.curve.threshold]
    if not measured:
        return None
    data = [
        _curve(variant, _points(evaluation.curve, open_ends=False), look, lambda p: (p[0], 100 * (1 - p[1])))
        for variant, evaluation in measured
    ]
    lowest = math.log10(_lowest(measured)[0])
    ticks = [10.0**power for power in range(math.floor(lowest), 1)]
    scale = {"type": "log", "tickvals": ticks, "ticktext": [_percent_tick(tick) for tick in ticks]}
    return {
        "data": data,
        "layout": frame(
            look.title("ROC curves", f"{network.name} · {benchmark}"),
            axis("FMR (%), logarithmic scale", **scale, range=[rounded(lowest), 0]),
            axis("TAR = 1 − FNMR (%)"),
            shapes=_unsupported(measured, lambda rate: rate, left=1e-12),
            height=470,
        ),
    }


def _percent_tick(rate: float) -> str:
    return f"{100 * rate:.6f}".rstrip("0").rstrip(".")


Point = tuple[float, float, float]


def _points(curve: Curve, open_ends: bool) -> list[Point]:
    """Return (FMR, FNMR, threshold) of the points that the axes can show."""
    points = zip(curve.fmr, curve.fnmr, curve.threshold, strict=True)
    if open_ends:
        return [point for point in points if 0 < point[0] < 1 and 0 < point[1] < 1]
    return [point for point in points if point[0] > 0]


def _curve(variant: Variant, points: list[Point], look: Look, place: Any) -> Figure:
    placed = [place(point) for point in points]
    return {
        "type": "scatter", "mode": "lines", "name": plain(variant.name),
        "x": [rounded(x) for x, _ in placed], "y": [rounded(y) for _, y in placed],
        "customdata": [[rounded(each) for each in point] for point in points],
        "line": {
            "color": look.palette.colour(variant.name), "dash": look.palette.dash(variant.name),
            "width": 3 if variant.reference else 2,
        },
        "hovertemplate": "FMR %{customdata[0]:.4~%}, FNMR %{customdata[1]:.3~%}<br>threshold %{customdata[2]:.4f}"
        "<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _lowest(measured: list[tuple[Variant, Evaluation]]) -> tuple[float, float]:
    """Return where the FMR and FNMR axes begin."""
    points = [point for _, evaluation in measured for point in _points(evaluation.curve, open_ends=True)]
    fmr = min((point[0] for point in points), default=1e-3)
    fnmr = min((point[1] for point in points), default=1e-3)
    return max(fmr / 1.3, 1e-8), max(fnmr / 1.3, 1e-8)


def _unsupported(measured: list[tuple[Variant, Evaluation]], place: Any, left: float) -> list[Figure]:
    """Shade the FMR below 3 / impostor comparisons: no figure holds there."""
    impostors = max(evaluation.comparisons.get("impostor", 0) for _, evaluation in measured)
    if impostors <= 3:
        return []
    box = {"type": "rect", "layer": "below", "fillcolor": SHADE, "line": {"width": 0}}
    return [box | {"yref": "paper", "y0": 0, "y1": 1, "x0": left, "x1": rounded(place(3 / impostors))}]


def forest(network: NetworkStudy, benchmark: str, look: Look) -> Figure | None:
    """Draw differences to the reference with intervals, turned so that right is better, and the margin as a line."""
    variants = [variant for variant in network.variants if variant.differences.get(benchmark)]
    found = [d for v in variants for d in v.differences[benchmark] if d.value is not None and _in_points(d)]
    if not found:
        return None
    metrics = metric_order(difference.metric for difference in found)
    rows = {name: len(metrics) - 1 - i for i, name in enumerate(metrics)}
    offsets = {v.name: 0.28 * (1 - 2 * i / max(1, len(variants) - 1)) for i, v in enumerate(variants)}
    if len(variants) == 1:
        offsets = {variants[0].name: 0.0}
    data = [
        _forest_trace(v, [d for d in v.differences[benchmark] if d in found], rows, offsets[v.name], look)
        for v in variants
    ]
    ticks = [numbers.label(n) + ("" if numbers.higher_is_better(n) else " (sign turned)") for n in metrics]
    ticks = [tick + " × 100" if tick == numbers.label("auc") else tick for tick in ticks]
    plotted = len(metrics) * (26 + 22 * len(variants))
    ticked = {"tickvals": [rows[name] for name in metrics], "ticktext": ticks, "zeroline": False}
    layout = frame(
        look.title("Difference to the reference, 95 % intervals", f"{network.name} · {benchmark}"),
        axis("difference in percentage points: worse ← 0 → better", zeroline=True, zerolinewidth=2),
        axis("", **ticked, range=[-0.6, len(metrics) - 0.4]),
        height=170 + plotted,
        shapes=[_margin_line(-100 * d.margin, rows[d.metric]) for d in {d.metric: d for d in found}.values()],
        legend={"orientation": "h", "y": -60 / plotted, "yanchor": "top", "x": 0},
    )
    legend = {
        "type": "scatter", "mode": "lines", "x": [None], "y": [None], "name": "margin",
        "line": {"color": MARGIN_COLOUR, "dash": "dash", "width": 2},
    }  # fmt: skip
    return {"data": [*data, legend], "layout": layout}


def _in_points(difference: Difference) -> bool:
    return numbers.is_percent(difference.metric) or difference.metric == "auc"


def _margin_line(x: float, row: int) -> Figure:
    line = {"color": MARGIN_COLOUR, "width": 2, "dash": "dash"}
    return {"type": "line", "x0": rounded(x), "x1": rounded(x), "y0": row - 0.48, "y1": row + 0.48, "line": line}


def _forest_trace(variant: Variant, found: list[Difference], rows: dict[str, int], offset: float, look: Look) -> Figure:
    values, plus, minus, texts = [], [], [], []
    for each in found:
        sign = 100.0 if numbers.higher_is_better(each.metric) else -100.0
        value = sign * (each.value or 0.0)
        low, high = sorted(sign * end for end in each.ci95) if each.ci95 else (value, value)
        values.append(rounded(value))
        plus.append(rounded(max(0.0, high - value)))
        minus.append(rounded(max(0.0, value - low)))
        figures = numbers.difference(each.metric, each.value, each.ci95)
        texts.append(f"{plain(variant.name)}, {numbers.label(each.metric)}: {figures}<br>{each.verdict}")
    colour = look.palette.colour(variant.name)
    return {
        "type": "scatter", "mode": "markers", "name": plain(variant.name), "x": values,
        "y": [rounded(rows[each.metric] + offset) for each in found],
        "error_x": {"type": "data", "array": plus, "arrayminus": minus, "color": colour, "thickness": 2, "width": 5},
        "marker": {"color": colour, "size": 10, "symbol": look.palette.symbol(variant.name)},
        "hovertext": texts, "hoverinfo": "text",
    }  # fmt: skip


def size_trade(network: NetworkStudy, benchmark: str, metric: str, look: Look) -> Figure | None:
    """Draw a metric over the size of the file."""
    points = [(v, v.size_bytes / 1e6, None) for v in network.variants]
    texts = [f"{numbers.megabytes(variant.size_bytes)} MB" for variant in network.variants]
    return _trade(network, benchmark, metric, points, texts, "size on disk (MB, 10⁶ bytes)", look)


def latency_trade(
    network: NetworkStudy, benchmark: str, metric: str, point: tuple[int, int], look: Look
) -> Figure | None:
    """Draw a metric over the time of a call at (batch, threads), with the spread of both."""
    points, texts = [], []
    for variant in network.variants:
        for each in variant.latency:
            if (each.batch, each.threads) == point:
                spread = (each.p90_ms - each.median_ms, each.median_ms - each.p10_ms)
                points.append((variant, each.median_ms, spread))
                texts.append(
                    f"{numbers.milliseconds(each.median_ms)} ms "
                    f"({numbers.milliseconds(each.p10_ms)}–{numbers.milliseconds(each.p90_ms)})"
                )
    title = f"time of a call (ms), batch {point[0]}, {numbers.plural(point[1], 'thread')}; bar: p10–p90"
    return _trade(network, benchmark, metric, points, texts, title, look)


Placed = tuple[Variant, float, tuple[float, float] | None]


def _trade(
    network: NetworkStudy,
    benchmark: str,
    metric: str,
    points: Iterable[Placed],
    texts: list[str],
    x_title: str,
    look: Look,
) -> Figure | None:
    data = []
    for (variant, x, spread), text in zip(points, texts, strict=True):
        evaluation = variant.evaluations.get(benchmark)
        figure = evaluation.metrics.get(metric) if evaluation else None
        if figure is None or figure.value is None:
            continue
        scale = 100.0 if numbers.is_percent(metric) else 1.0
        colour = look.palette.colour(variant.name)
        trace: Figure = {
            "type": "scatter", "mode": "markers", "name": plain(variant.name), "x": [rounded(x)],
            "y": [rounded(scale * figure.value)],
            "marker": {"color": colour, "size": 13, "symbol": look.palette.symbol(variant.name)},
            "hovertext": [
                f"{plain(variant.name)}<br>{text}<br>{numbers.label(metric)} "
                f"{numbers.metric_value(metric, figure.value)} {numbers.metric_interval(metric, figure.ci95)}"
            ],
            "hoverinfo": "text",
        }  # fmt: skip
        bar: Figure = {"type": "data", "color": colour, "thickness": 1.5, "width": 4}
        if figure.ci95:
            up, down = figure.ci95[1] - figure.value, figure.value - figure.ci95[0]
            trace["error_y"] = bar | _reach(scale * up, scale * down)
        if spread:
            trace["error_x"] = bar | _reach(*spread)
        data.append(trace)
    if not data:
        return None
    what = "Size" if x_title.startswith("size") else "Time"
    name = numbers.label(metric)
    layout = frame(
        look.title(f"{what} against {name}", f"{network.name} · {benchmark}"),
        axis(x_title, rangemode="tozero"),
        axis(f"{name}{numbers.unit(metric)}; bar: 95 % interval"),
        height=400,
        showlegend=True,
    )
    return {"data": data, "layout": layout}


def _reach(up: float, down: float) -> Figure:
    return {"array": [rounded(max(0.0, up))], "arrayminus": [rounded(max(0.0, down))]}


def layer_errors(network: NetworkStudy, variant: Variant, look: Look) -> Figure | None:
    """Draw the error that each operation causes alone, the worst first; operations left in floating point stand out."""
    measured = sorted((each for each in variant.layers if each.error), key=lambda each: -(each.error or 0))
    if not measured:
        return None
    drawn = measured[:MOST_BARS]
    data = [
        _bars([each for each in drawn if each.kept_float], "left in floating point", KEPT),
        _bars([each for each in drawn if not each.kept_float], "quantized", QUANTIZED),
    ]
    names = [plain(shortened(each.name)) for each in reversed(drawn)]
    more = f", the {MOST_BARS} worst of {len(measured)}" if len(measured) > MOST_BARS else ""
    context = f"{network.name} · {variant.name}"
    layout = frame(
        look.title(f"Error at the output when one operation alone is quantized{more}", context),
        axis("noise-to-signal ratio (logarithmic scale)", type="log", exponentformat="power", dtick=1),
        axis("", categoryorder="array", categoryarray=names, tickfont={"size": 11}),
        height=150 + 19 * len(drawn),
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        bargap=0.25,
    )
    return {"data": [trace for trace in data if trace["x"]], "layout": layout}


def _bars(layers: list[Layer], name: str, colour: str) -> Figure:
    return {
        "type": "bar", "orientation": "h", "name": name, "marker": {"color": colour},
        "y": [plain(shortened(each.name)) for each in layers], "x": [rounded(each.error or 0) for each in layers],
        "hovertext": [
            f"{plain(each.name)} ({plain(each.operation)})<br>error {numbers.error_ratio(each.error)}"
            + (f"<br>{plain(each.reason)}" if each.reason else "")
            for each in layers
        ],
        "hoverinfo": "text",
    }  # fmt: skip
