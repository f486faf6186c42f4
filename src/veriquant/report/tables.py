"""The tables of the report, from the records of a study. Every figure carries its interval or says why it has none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from veriquant.report import numbers
from veriquant.report.blocks import Cell, Column, Table, Tone
from veriquant.report.palette import Palette
from veriquant.report.recommendation import (
    Judgement,
    Recommendation,
    Speed,
    reference_label,
    reference_of,
    size_words,
    speed_of,
    speed_words,
    support_figures,
)
from veriquant.results import Evaluation, Latency, Metric, NetworkStudy, Variant

VERDICT_TONES: dict[str, Tone] = {"no worse": "good", "worse": "bad", "undecided": "warn", "not supported": "warn"}
SPEED_TONES: dict[Speed, Tone] = {"faster": "good", "slower": "bad", "no difference shown": "", "not measured": "muted"}
ACCEPTABLE_TONES: dict[str, Tone] = {"acceptable": "good", "not acceptable": "bad", "undecided": "warn"}
WEAK = "† weak: rests on fewer than 30/f impostor comparisons."
CORE = ("accuracy", "tar@", "eer", "auc")


def variant_cell(variant: Variant, palette: Palette) -> Cell:
    """Return the cell that opens a row: name, colour, and whether it is the reference."""
    return Cell(variant.name, ("reference",) if variant.reference else (), colour=palette.colour(variant.name))


def metric_order(names: Iterable[str]) -> list[str]:
    """Order metrics as reports do: accuracy, TAR from the laxest operating point on, EER, AUC, then the rest."""

    def key(name: str) -> tuple[int, float, str]:
        group = next((i for i, prefix in enumerate(CORE) if name.startswith(prefix)), len(CORE))
        return group, -(numbers.operating_point(name) or 0.0), name

    return sorted(dict.fromkeys(names), key=key)


def measured_metrics(variants: list[Variant], benchmark: str, core: bool) -> list[str]:
    """Return the metrics that any variant has on a benchmark: those of the main table, or the others."""
    names = metric_order(m for v in variants if benchmark in v.evaluations for m in v.evaluations[benchmark].metrics)
    return [name for name in names if name.startswith(CORE) == core]


class Notes:
    """Footnotes of one table, each told once."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}

    def add(self, note: str) -> None:
        """Keep a note."""
        self._notes[note] = None

    def told(self) -> tuple[str, ...]:
        """Return the notes in the order they came up."""
        return tuple(self._notes)


def metric_cell(name: str, metric: Metric | None, comparisons: Mapping[str, int], notes: Notes) -> Cell:
    """Write one figure: value, spread, interval; 'not supported' with the counts; a dagger where it is weak."""
    if metric is None:
        return Cell("not measured", tone="muted")
    if metric.support == "none" or metric.value is None:
        return Cell("not supported", (f"({support_figures(name, metric, comparisons)})",), "muted")
    spread = f" ± {numbers.metric_value(name, metric.std)}" if metric.std is not None else ""
    dagger = "†" if metric.support == "weak" else ""
    if dagger:
        reason = support_figures(name, metric, comparisons)
        notes.add(f"† weak: {numbers.label(name)} rests on few impostor comparisons ({reason} for a firm figure).")
    if metric.ci95 is None:
        notes.add(f"No interval for {numbers.label(name)}: {metric.note.rstrip('. ') or 'none was computed'}.")
    return Cell(
        numbers.metric_value(name, metric.value) + dagger + spread,
        tuple(filter(None, [numbers.metric_interval(name, metric.ci95)])),
    )


def latency_points(variants: list[Variant]) -> list[tuple[int, int]]:
    """Return the (batch, threads) at which any variant was timed, in order."""
    return sorted({(latency.batch, latency.threads) for variant in variants for latency in variant.latency})


def latency_at(variant: Variant, point: tuple[int, int]) -> Latency | None:
    """Return a variant's latency at (batch, threads)."""
    return next((each for each in variant.latency if (each.batch, each.threads) == point), None)


def spread(latency: Latency) -> str:
    """Write the 10th to 90th percentile of a latency."""
    return f"{numbers.milliseconds(latency.p10_ms)}–{numbers.milliseconds(latency.p90_ms)}"


def latency_cell(latency: Latency | None, reference: bool) -> Cell:
    """Write a latency: median, spread, its ratio to the reference and the plain word for it."""
    if latency is None:
        return Cell("not measured", tone="muted")
    median = numbers.milliseconds(latency.median_ms)
    if reference:
        return Cell(median, (spread(latency),))
    speed = speed_of(latency)
    ratio = numbers.ratio(latency.ratio_to_reference, latency.ratio_ci95)
    lines = (spread(latency), speed) if speed == "not measured" else (spread(latency), ratio, speed)
    return Cell(median, lines, "" if speed == "not measured" else SPEED_TONES[speed])


def size_cell(variant: Variant, reference: Variant | None) -> Cell:
    """Write a file's size, the reference's size divided by it, its share of that, and the mean bits of a weight."""
    size, bits = numbers.megabytes(variant.size_bytes), variant.average_bits
    weights = () if bits is None else (f"{numbers.number(bits, 1)} bits a weight",)
    if reference is None or variant.reference or not reference.size_bytes or not variant.size_bytes:
        return Cell(size, weights)
    share = f"{numbers.percent(variant.size_bytes / reference.size_bytes, 1)} % of {reference_label(reference)}"
    factor = numbers.number(reference.size_bytes / variant.size_bytes)
    return Cell(size, (f"factor {factor}", share, *weights))


def comparison(network: NetworkStudy, benchmark: str, palette: Palette) -> Table:
    """Build the detailed comparison: every column of the usual report, with intervals, on one benchmark."""
    variants = network.variants
    reference = reference_of(network)
    metrics, points = measured_metrics(variants, benchmark, core=True), latency_points(variants)
    columns = [Column("Variant", number=False)]
    columns += [Column(numbers.label(name) + numbers.unit(name)) for name in metrics]
    columns.append(Column("Size (MB)"))
    for batch, threads in points:
        columns.append(Column(f"Latency (ms), batch {batch}, {numbers.plural(threads, 'thread')}"))
    notes = Notes()
    rows = []
    for variant in variants:
        row = [variant_cell(variant, palette), *_metric_cells(variant, benchmark, metrics, notes)]
        row.append(size_cell(variant, reference))
        for point in points:
            row.append(latency_cell(latency_at(variant, point), variant.reference))
        rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows), footnotes=(*notes.told(), *_comparison_notes(points, reference)))


def _metric_cells(variant: Variant, benchmark: str, metrics: list[str], notes: Notes) -> list[Cell]:
    evaluation = variant.evaluations.get(benchmark)
    if evaluation is None:
        return [Cell("not measured", tone="muted") for _ in metrics]
    return [metric_cell(name, evaluation.metrics.get(name), evaluation.comparisons, notes) for name in metrics]


def _comparison_notes(points: list[tuple[int, int]], reference: Variant | None) -> tuple[str, ...]:
    name = reference_label(reference) if reference else "the reference"
    notes = ["In brackets: 95 % interval. After ±: standard deviation over the folds. MB: 10⁶ bytes on disk."]
    notes.append(f"Factor: bytes of {name} divided by bytes of the variant. Bits: mean over all weights.")
    if points:
        notes.append(
            f"Latency: median per call; under it the 10th to 90th percentile, then the ratio to {name}'s time "
            "(below 1× is faster) and what it shows."
        )
    return tuple(notes)


def further_metrics(network: NetworkStudy, benchmark: str, palette: Palette) -> Table | None:
    """Build the table of metrics beyond the main one, if there are any."""
    metrics = measured_metrics(network.variants, benchmark, core=False)
    if not metrics:
        return None
    notes = Notes()
    columns = (Column("Variant", number=False), *(Column(numbers.label(m) + numbers.unit(m)) for m in metrics))
    rows = tuple(
        (variant_cell(variant, palette), *_metric_cells(variant, benchmark, metrics, notes))
        for variant in network.variants
    )
    return Table(columns, rows, "Further metrics", notes.told())


def glance(network: NetworkStudy, recommendation: Recommendation, metric: str, palette: Palette) -> Table:
    """Build the summary of one network: a line a variant."""
    benchmarks = list(dict.fromkeys(b for variant in network.variants for b in variant.evaluations))
    judgements = {judgement.variant: judgement for judgement in recommendation.judgements}
    columns = [Column("Variant", number=False)]
    for benchmark in benchmarks:
        columns.append(Column(f"{numbers.label(metric)}{numbers.unit(metric)}, {benchmark}"))
        columns.append(Column(f"Change{' (points)' if numbers.is_percent(metric) else ''}, {benchmark}"))
    columns += [Column("Size (MB)"), Column("Time"), Column("Verdict", False), Column("Existing gallery", False)]
    notes = Notes()
    rows = []
    for variant in network.variants:
        row = [_recommended(variant_cell(variant, palette), variant.name == recommendation.choice)]
        for benchmark in benchmarks:
            row += _metric_cells(variant, benchmark, [metric], notes)
            row.append(_change_cell(variant, benchmark, metric))
        row += _cost_cells(variant, judgements.get(variant.name), recommendation.reference)
        rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows), footnotes=notes.told())


def _recommended(cell: Cell, chosen: bool) -> Cell:
    return Cell(cell.text, (*cell.sub, "chosen"), cell.tone, cell.colour) if chosen else cell


def _change_cell(variant: Variant, benchmark: str, metric: str) -> Cell:
    if variant.reference:
        return Cell("reference", tone="muted")
    found = next((d for d in variant.differences.get(benchmark, []) if d.metric == metric), None)
    if found is None:
        return Cell("not compared", tone="muted")
    interval = numbers.difference_interval(metric, found.ci95)
    change = numbers.difference(metric, found.value).removesuffix(" points")
    return Cell(change, tuple(filter(None, [interval, found.verdict])), VERDICT_TONES[found.verdict])


def _cost_cells(variant: Variant, judgement: Judgement | None, reference: str) -> tuple[Cell, Cell, Cell, Cell]:
    size = numbers.megabytes(variant.size_bytes)
    if judgement is None:
        return Cell(size), Cell("reference", tone="muted"), Cell("reference", tone="muted"), Cell(numbers.NONE)
    speed = judgement.speed if judgement.speed in ("no difference shown", "not measured") else ""
    time = Cell(
        numbers.ratio(judgement.time_ratio),
        (speed or f"{judgement.speed} than {reference}",),
        SPEED_TONES[judgement.speed],
    )
    verdict = Cell(judgement.acceptability, tone=ACCEPTABLE_TONES[judgement.acceptability])
    words = size_words(judgement.size_ratio).removesuffix(")").split(" (")
    return Cell(size, tuple(words)), time, verdict, Cell(judgement.gallery or "not measured")


def differences(network: NetworkStudy, benchmark: str, palette: Palette) -> Table | None:
    """Build the table of differences to the reference with intervals and verdicts in words."""
    rows = tuple(
        (
            variant_cell(variant, palette),
            Cell(numbers.label(found.metric)),
            Cell(numbers.difference(found.metric, found.value)),
            Cell(numbers.difference_interval(found.metric, found.ci95) or numbers.NONE),
            Cell(numbers.margin(found.metric, found.margin)),
            Cell(found.verdict, tone=VERDICT_TONES[found.verdict]),
            Cell(found.sentence),
        )
        for variant in network.variants
        for found in variant.differences.get(benchmark, [])
    )
    if not rows:
        return None
    columns = (
        Column("Variant", False), Column("Metric", False), Column("Difference"), Column("95 % interval"),
        Column("Margin"), Column("Verdict", False), Column("In words", False, wide=True),
    )  # fmt: skip
    return Table(columns, rows)


def similarities(network: NetworkStudy, benchmark: str, palette: Palette) -> Table:
    """Build the table of genuine and impostor similarities, with every threshold that a metric states."""
    measured = [(v, v.evaluations[benchmark]) for v in network.variants if benchmark in v.evaluations]
    names = metric_order(n for _, e in measured for n, m in e.metrics.items() if m.threshold is not None)
    heads = ("Genuine", "Genuine mean", "Genuine std", "Impostor", "Impostor mean", "Impostor std")
    thresholds = (Column(f"Threshold, {numbers.label(name)}") for name in names)
    columns = (Column("Variant", False), *map(Column, heads), *thresholds)
    rows = []
    for variant, evaluation in measured:
        row = [variant_cell(variant, palette)]
        for summary in (evaluation.genuine, evaluation.impostor):
            row += [Cell(numbers.count(summary.count)), Cell(numbers.number(summary.mean, 4))]
            row.append(Cell(numbers.number(summary.std, 4)))
        row += [Cell(numbers.threshold(_threshold(evaluation, name))) for name in names]
        rows.append(tuple(row))
    note = "Threshold of the accuracy: the one that the protocol's folds choose, or their mean."
    return Table(columns, tuple(rows), footnotes=(note,) if "accuracy" in names else ())


def _threshold(evaluation: Evaluation, name: str) -> float | None:
    metric = evaluation.metrics.get(name)
    return metric.threshold if metric else None


def latencies(network: NetworkStudy, palette: Palette) -> Table | None:
    """Build the latency table: one line for a variant at a batch on so many threads."""
    reference = reference_of(network)
    name = reference_label(reference) if reference else "the reference"
    rows = []
    for variant in network.variants:
        for each in variant.latency:
            words = "reference" if variant.reference else speed_words(each, name).partition(" (")[0]
            ratio = "1" if variant.reference else numbers.ratio(each.ratio_to_reference)
            rows.append((
                variant_cell(variant, palette), Cell(variant.runtime), Cell(numbers.count(each.batch)),
                Cell(numbers.count(each.threads)), Cell(numbers.count(each.rounds)),
                Cell(numbers.milliseconds(each.median_ms)),
                Cell(spread(each)),
                Cell(numbers.milliseconds(each.median_ms / each.batch)), Cell(ratio),
                Cell(numbers.interval(each.ratio_ci95, 2) or numbers.NONE),
                Cell(words, tone="" if variant.reference else SPEED_TONES[speed_of(each)]),
            ))  # fmt: skip
    if not rows:
        return None
    heads = ("Batch", "Threads", "Rounds", "Median (ms)", "p10–p90 (ms)", "Per image (ms)", "Ratio", "95 % interval")
    columns = (Column("Variant", False), Column("Runtime", False), *map(Column, heads), Column("In words", False))
    return Table(columns, tuple(rows))


def kept_float(variant: Variant) -> Table | None:
    """Build the table of operations left in floating point, and why."""
    kept = [layer for layer in variant.layers if layer.kept_float]
    if not kept:
        return None
    columns = (
        Column("Operation", False), Column("Kind", False), Column("Parameters"), Column("MACs"),
        Column("Error alone"), Column("Why", False, wide=True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(layer.name), Cell(layer.operation), Cell(numbers.count(layer.parameters)),
            Cell(numbers.count(layer.macs)), Cell(numbers.error_ratio(layer.error)), Cell(layer.reason or "not stated"),
        )
        for layer in kept
    )  # fmt: skip
    return Table(columns, rows)


def all_layers(variant: Variant) -> Table:
    """Build the full table of operations."""
    columns = (
        Column("Operation", False), Column("Kind", False), Column("Parameters"), Column("MACs"), Column("Weight bits"),
        Column("Activation bits"), Column("Error alone"), Column("Left in floating point", False),
        Column("Why, or how rewritten", False, wide=True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(layer.name), Cell(layer.operation), Cell(numbers.count(layer.parameters)),
            Cell(numbers.count(layer.macs)), Cell(_bits(layer.weight_bits)), Cell(_bits(layer.activation_bits)),
            Cell(numbers.error_ratio(layer.error)), Cell("yes" if layer.kept_float else "no"), Cell(layer.reason),
        )
        for layer in variant.layers
    )  # fmt: skip
    return Table(columns, rows)


def _bits(bits: float | None) -> str:
    return numbers.NONE if bits is None else f"{bits:.4g}"


def facts(content: Mapping[str, Any], caption: str = "") -> Table:
    """Build a table of settings: a key and its value a line."""
    rows = tuple((Cell(str(key)), Cell(_plain(value))) for key, value in content.items())
    return Table((Column("Setting", False), Column("Value", False, wide=True)), rows, caption)


def _plain(value: Any) -> str:
    """Write a setting's value: text as it is, everything else as compact JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str)
