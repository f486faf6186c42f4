"""The sections of mixed precision: what each group's bits do, which bits were chosen, and what that costs and buys."""

from __future__ import annotations

from collections.abc import Iterable

from veriquant.report import allocation_charts, allocation_tables, numbers, pareto_chart, sensitivity_ranges
from veriquant.report.blocks import Block, Bullets, Chart, Folded, Section, Text
from veriquant.report.canvas import Figure, Look
from veriquant.report.pareto_chart import allocated
from veriquant.report.precisions import FLOAT, Colours, measured, ordered, task_metric, worst_first
from veriquant.results import Allocation, GroupChoice, NetworkStudy, StudyResult, Variant

WORST_NAMED = 5
HOW_TO_READ = (
    "SQNR (signal to quantization noise ratio): the power of the embeddings over that of the error that quantization "
    "makes in them, in dB. Every 10 dB less is ten times the error; at 0 dB the error is as large as the embedding.",
    "Quantizer group: tensors that meet in one kernel and so share their bits. WxAy: weights in x bits, activations in "
    "y; FP32: left in floating point. Sensitivity: the SQNR when one group alone is quantized.",
)


def section(network: NetworkStudy, anchor: str, verdict_metric: str, colours: Colours, look: Look) -> Section | None:
    """Return what a network's report says of mixed precision; None where no variant's widths were allocated."""
    found = allocated(network)
    if not found:
        return None
    inner = [_cost(network, anchor, look)]
    for number, (variant, allocation) in enumerate(found, 1):
        blocks = _variant(network, variant, allocation, colours, look)
        inner.append(Section(f"{anchor}-{number}", f"{variant.name}: sensitivity and plan", blocks))
    additivity = tuple(f"{variant.name}: {allocation.additivity}" for variant, allocation in found)
    blocks = (
        allocation_tables.variants(network, verdict_metric, look.palette),
        Text("", lead="Do the errors of single groups add up to that of all together?"),
        Bullets(additivity),
    )
    return Section(anchor, "Mixed precision", blocks, tuple(inner))


def across_networks(result: StudyResult, look: Look) -> Section | None:
    """Return how far the groups of each network lie apart in harm; None where nothing was measured."""
    precision = sensitivity_ranges.shared_precision(result)
    if precision is None:
        return None
    found = sensitivity_ranges.spreads(result, precision)
    text = (
        f"Each network with one quantizer group at {precision} and all else in full precision. A wide range means that "
        "single groups carry most of the harm, and that mixed precision has something to gain."
    )
    about = "Box: the middle half of the groups, line: the median; whiskers to the extremes; every dot is one group."
    chart = Chart(sensitivity_ranges.chart(found, precision, look), about)
    blocks = (Text(text), chart, sensitivity_ranges.table(found, precision))
    return Section("sensitivity", "Sensitivity of the networks", (), (Section("sensitivity-range", "Range", blocks),))


def _chart(figure: Figure | None, about: str, least_width: int = 0) -> tuple[Block, ...]:
    return (Chart(figure, about, least_width),) if figure else ()


# ---------------------------------------------------------------- cost against harm


def _cost(network: NetworkStudy, anchor: str, look: Look) -> Section:
    about = (
        "Line: as predicted from single groups; dots: measured with all groups together; rings: other plans that the "
        "search tried; squares: the same precision everywhere; star: chosen. "
        "A plan that was not run stands where it was predicted. A click in the legend hides a variant."
    )
    blocks = _chart(pareto_chart.by_sqnr(network, look), about)
    metrics = dict.fromkeys(metric for _, found in allocated(network) if (metric := task_metric(found)))
    for metric in metrics:
        blocks += _chart(pareto_chart.by_score(network, metric, look), "The same signs, as far as they were evaluated.")
    table = allocation_tables.points(network, look.palette)
    return Section(f"{anchor}-cost", "Cost against harm", (*blocks, Folded("All points", (table,))))


# ---------------------------------------------------------------- one variant


def _variant(
    network: NetworkStudy, variant: Variant, found: Allocation, colours: Colours, look: Look
) -> tuple[Block, ...]:
    width = allocation_charts.width_along_network(found.groups)
    inside = "Bars stand inside one another, fewer bits in front. Point at a bar for the group's whole name."
    return (
        Text(worst_sentence(found.groups)),
        *_chart(allocation_charts.worst_groups(network, variant, colours, look), inside, allocation_charts.LEAST_WIDTH),
        *_chart(allocation_charts.along_network(network, variant, colours, look), inside, width),
        Text(plan_sentence(found.groups)),
        *_chart(
            allocation_charts.bits_along_network(network, variant, colours, look),
            "No bar above: the group has no weights.",
            width,
        ),
        Folded(
            f"Bits and sensitivity of all {numbers.plural(len(found.groups), 'group')}",
            (allocation_tables.bits_per_group(found),),
        ),
    )


def worst_sentence(groups: Iterable[GroupChoice]) -> str:
    """Name the groups that do most harm, by their most harmful candidate, and what they were given."""
    groups = list(groups)
    worst = worst_first(groups)[:WORST_NAMED]
    if not worst:
        return "No group's sensitivity was measured."
    told = []
    for group in worst:
        sqnr = measured(group)
        precision = min(sqnr, key=lambda each: sqnr[each])
        told.append(f"{group.name} ({numbers.number(sqnr[precision], 1)} dB at {precision}, chosen {group.chosen})")
    opening = "The most sensitive group is" if len(told) == 1 else f"The {len(told)} most sensitive groups are"
    return f"{opening} {'; '.join(told)}."


def plan_sentence(groups: Iterable[GroupChoice]) -> str:
    """Say how many groups, and what share of parameters and MACs, have which precision."""
    groups = list(groups)
    parameters = sum(group.parameters for group in groups) or 1
    macs = sum(group.macs for group in groups) or 1
    told = []
    for precision in ordered(group.chosen for group in groups):
        given = [group for group in groups if group.chosen == precision]
        shares = (sum(g.parameters for g in given) / parameters, sum(g.macs for g in given) / macs)
        of = f"{numbers.percent(shares[0], 1)} % of parameters, {numbers.percent(shares[1], 1)} % of MACs"
        what = f"{FLOAT}, left in floating point," if precision == FLOAT else precision
        told.append(f"{what} for {numbers.count(len(given))} ({of})")
    return f"Chosen for the {numbers.plural(len(groups), 'group')}: {'; '.join(told)}."
