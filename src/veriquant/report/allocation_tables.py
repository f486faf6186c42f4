"""Tables of mixed precision: variants of a network by cost and harm, points of a search, bits of each group."""

from __future__ import annotations

from collections.abc import Sequence

from veriquant.report import numbers
from veriquant.report.blocks import Cell, Column, Table
from veriquant.report.palette import Palette
from veriquant.report.pareto_chart import allocated
from veriquant.report.precisions import bits_of, candidates, task_metric
from veriquant.report.tables import VERDICT_TONES, variant_cell
from veriquant.results import Allocation, AllocationPoint, Layer, NetworkStudy, Variant

BITS_OF_UNIT = 8 * 16
"""Bit operations of one multiply-accumulate at W8A16, which relative BOPs are counted in."""
FLOAT_BITS = 32
OPERATING_POINT = 1e-3
NOMINAL = (
    "r: bit operations (weight bits × activation bits × MACs) relative to W8A16. Nominal MB: parameters × bits / 8; "
    "file MB: what stands on disk."
)


def loss_metric(network: NetworkStudy, verdict_metric: str) -> str:
    """Return the metric that a loss is stated in: TAR or FNMR at FMR 1e-3 where compared, else the verdict metric."""
    found = [d.metric for v in network.variants for compared in v.differences.values() for d in compared]
    at_point = [name for name in found if numbers.operating_point(name) == OPERATING_POINT]
    for prefix in ("tar@", "fnmr@"):
        named = next((name for name in at_point if name.startswith(prefix)), None)
        if named:
            return named
    return verdict_metric


def variants(network: NetworkStudy, verdict_metric: str, palette: Palette) -> Table:
    """Build the summary: a line a variant, with what it costs, what it does to embeddings and to recognition."""
    metric = loss_metric(network, verdict_metric)
    benchmarks = list(dict.fromkeys(name for variant in network.variants for name in variant.differences))
    unit = " (points)" if numbers.is_percent(metric) else ""
    columns = (
        Column("Variant", False), Column("Budget", False), Column("Search", False), Column("Rounding", False),
        Column("r"), Column("Bits a weight"), Column("Nominal MB"), Column("File MB"), Column("SQNR (dB)"),
        *(Column(f"Change of {numbers.label(metric)}{unit}, {benchmark}") for benchmark in benchmarks),
        Column("Time to allocate"),
    )  # fmt: skip
    rows = tuple(
        (
            variant_cell(variant, palette),
            *(_chosen_cells(variant.allocation) if variant.allocation else _fixed_cells(variant, network)),
            *(_change(variant, benchmark, metric) for benchmark in benchmarks),
            _seconds(variant.allocation),
        )
        for variant in network.variants
    )
    notes = (
        NOMINAL,
        "SQNR: of the embeddings, measured with all groups quantized together; under it the sum over single groups.",
        "Change: variant minus reference on the same comparisons, its 95 % interval in brackets, then the verdict.",
    )
    return Table(columns, rows, footnotes=notes)


def _chosen_cells(found: Allocation) -> tuple[Cell, ...]:
    point = found.chosen
    lines = (f"by {numbers.label(found.metric)}", numbers.plural(found.samples, "sample"))
    return (
        _budget_cell(found),
        Cell(found.search, tuple(line.replace(" ", "\u00a0") for line in lines)),
        Cell(found.rounding),
        Cell(numbers.number(point.relative_bops, 3)),
        Cell(numbers.number(found.average_bits, 2)),
        Cell(numbers.megabytes(round(point.nominal_bytes))),
        Cell(numbers.megabytes(found.file_bytes)),
        sqnr_cell(point),
    )


def _budget_cell(found: Allocation) -> Cell:
    metric = task_metric(found)
    kernels = f"for {found.target}"
    if metric is None:
        return Cell(found.budget, (kernels,))
    target = found.budget[len(metric) :].replace(">=", "at least ").replace("<=", "at most ")
    return Cell(numbers.label(metric), (target, kernels))


def _fixed_cells(variant: Variant, network: NetworkStudy) -> tuple[Cell, ...]:
    none = Cell(numbers.NONE, tone="muted")
    stored = sum(layer.parameters * (layer.weight_bits or 0) for layer in variant.layers) / 8
    nominal = Cell(numbers.megabytes(round(stored))) if stored else none
    return (
        Cell("none: full precision" if variant.reference else "none: fixed recipe", tone="muted"),
        none,
        none,
        Cell(numbers.number(relative_bops(variant.layers), 3)),
        Cell(numbers.number(variant.average_bits, 2)),
        nominal,
        Cell(numbers.megabytes(variant.size_bytes)),
        none,
    )


def relative_bops(layers: Sequence[Layer]) -> float | None:
    """Return the bit operations of layers with weights as a share of those at W8A16; None where bits are unknown."""
    counted = [
        # A layer that computes in float does so whatever its weights are stored in.
        (layer.macs, FLOAT_BITS if layer.kept_float else layer.weight_bits, layer.activation_bits)
        for layer in layers
        if layer.weight_bits
    ]
    total = sum(macs for macs, _, _ in counted)
    if not total or any(activation is None for _, _, activation in counted):
        return None
    return sum(macs * (weight or 0) * (act or 0) for macs, weight, act in counted) / (BITS_OF_UNIT * total)


def sqnr_cell(point: AllocationPoint) -> Cell:
    """Write the SQNR as measured, with the predicted one under it; where it was not run, the predicted one alone."""
    predicted = f"predicted {numbers.number(point.predicted_sqnr, 1)}"
    if point.measured_sqnr is None:
        return Cell("not measured", (predicted,), "muted")
    return Cell(numbers.number(point.measured_sqnr, 1), (predicted,))


def _change(variant: Variant, benchmark: str, metric: str) -> Cell:
    if variant.reference:
        return Cell("reference", tone="muted")
    found = next((d for d in variant.differences.get(benchmark, []) if d.metric == metric), None)
    if found is None:
        return Cell("not compared", tone="muted")
    if found.value is None:
        return Cell("not supported", tone="muted")
    interval = numbers.difference_interval(metric, found.ci95)
    change = numbers.difference(metric, found.value).removesuffix(" points")
    return Cell(change, tuple(filter(None, [interval, found.verdict])), VERDICT_TONES[found.verdict])


def _seconds(found: Allocation | None) -> Cell:
    if found is None or not found.seconds:
        return Cell(numbers.NONE, tone="muted")
    phases = tuple(f"{phase} {numbers.duration(seconds)}" for phase, seconds in found.seconds.items())
    return Cell(numbers.duration(sum(found.seconds.values())), phases)


def points(network: NetworkStudy, palette: Palette) -> Table:
    """Build the table behind the chart of cost against harm: every point of every variant, in order of falling cost."""
    with_score = [metric for _, found in allocated(network) if (metric := task_metric(found))]
    scores = [m for m in dict.fromkeys(with_score) if any(_scored(found, m) for _, found in allocated(network))]
    columns = (
        Column("Variant", False), Column("Point", False), Column("r"), Column("Nominal MB"), Column("SQNR (dB)"),
        *(Column(f"{numbers.label(metric)}{numbers.unit(metric)}") for metric in scores),
    )  # fmt: skip
    rows = [
        (
            variant_cell(variant, palette),
            Cell(point.label),
            Cell(numbers.number(point.relative_bops, 3)),
            Cell(numbers.megabytes(round(point.nominal_bytes))),
            sqnr_cell(point),
            *(_score(point, metric, found) for metric in scores),
        )
        for variant, found in allocated(network)
        for point in sorted([*found.front, *found.fixed, found.chosen], key=lambda point: -point.relative_bops)
    ]
    return Table(columns, tuple(rows), footnotes=(NOMINAL,))


def _scored(found: Allocation, metric: str) -> bool:
    every = (*found.front, *found.fixed, found.chosen)
    return task_metric(found) == metric and any(point.score is not None for point in every)


def _score(point: AllocationPoint, metric: str, found: Allocation) -> Cell:
    if task_metric(found) != metric or point.score is None:
        return Cell("not evaluated", tone="muted")
    return Cell(numbers.metric_value(metric, point.score))


def bits_per_group(found: Allocation) -> Table:
    """Build the plan as figures: what each group was given, and the SQNR it has at every candidate."""
    measured = candidates(found.groups)
    timed = any(group.milliseconds for group in found.groups)
    columns = (
        Column("Group", False, wide=True), Column("Parameters"), Column("MACs"), Column("Weight bits"),
        Column("Activation bits"), Column("Chosen", False), *(Column(f"SQNR at {each} (dB)") for each in measured),
        *((Column("Time as chosen (ms)"),) if timed else ()),
    )  # fmt: skip
    rows = []
    for group in found.groups:
        weight, activation = bits_of(group.chosen) or (None, None)
        time = group.milliseconds.get(group.chosen)
        others = len(group.operations) - 1
        row = [
            Cell(group.name, (f"with {numbers.plural(others, 'operation')} more",) if others > 0 else ()),
            Cell(numbers.count(group.parameters)),
            Cell(numbers.count(group.macs)),
            Cell(_bits(weight) if group.parameters else numbers.NONE),
            Cell(_bits(activation)),
            Cell(group.chosen, tone="warn" if group.chosen == "FP32" else ""),
            *(Cell(numbers.number(group.sqnr.get(each), 1)) for each in measured),
        ]
        if timed:
            row.append(Cell(numbers.NONE if time is None else numbers.milliseconds(time)))
        rows.append(tuple(row))
    return Table(columns, tuple(rows))


def _bits(bits: int | None) -> str:
    return numbers.NONE if bits is None else str(bits)
