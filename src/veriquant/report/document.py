"""The order of the report: which table, chart and sentence stands where. No figure is computed here."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from veriquant.report import allocation, charts, cited, gallery_tables, layer_bits, numbers, precisions, tables
from veriquant.report.blocks import (
    Block,
    Bullets,
    Chart,
    Document,
    Folded,
    Row,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    Tone,
)
from veriquant.report.canvas import Figure, Look
from veriquant.report.palette import Palette
from veriquant.report.recommendation import (
    RULES,
    Judgement,
    Recommendation,
    gallery_words,
    recommend,
    reference_label,
    reference_of,
    size_words,
    verdict_metric,
)
from veriquant.results import Compatibility, NetworkStudy, StudyResult, Variant

SYNTHETIC = "SYNTHETIC DATA"
SYNTHETIC_TEXT = (
    "the identities in this report were drawn by the package itself. The figures show that the machinery works; they "
    "say nothing about recognition of real people."
)
MOST_KEPT_SHOWN = 12
OUTCOME_TONES: dict[str, Tone] = {"recommended": "good", "none acceptable": "bad"}
HOW_TO_READ = (
    "Comparison: two samples and the cosine similarity of their embeddings; accepted if it reaches the threshold. "
    "Genuine: both of one person. Impostor: of two people.",
    "FMR (false match rate, also FAR): share of impostor comparisons accepted. FNMR (false non-match rate): share of "
    "genuine comparisons rejected. Both as in ISO/IEC 19795-1. TAR = 1 − FNMR.",
    "TAR@FAR=f: the TAR at the lowest threshold whose FMR is at most f. EER: where FMR and FNMR are equal. "
    "ROC AUC: the chance that a genuine comparison scores above an impostor one.",
    "Accuracy: share of comparisons decided rightly, the threshold of each fold chosen on the other folds; "
    "± is the standard deviation over the folds.",
    "95 % intervals resample people, not comparisons, because comparisons of one person are not independent. "
    "Differences resample the same people for both networks.",
    "'Not supported': fewer than 3/f impostor comparisons, so no figure is given. † weak: fewer than 30/f.",
    "Verdicts: 'no worse' if the whole interval of the difference lies within the margin, 'worse' if it lies wholly "
    "beyond it, 'undecided' if it straddles it.",
    "Sizes are bytes on disk; MB is 10⁶ bytes. Times are medians of rounds in which all variants take turns, so that "
    "noise falls on all alike.",
    "Error of an operation: noise-to-signal ratio at the network's output when that operation alone is quantized.",
)


def build(result: StudyResult) -> Document:
    """Order a whole study into a document."""
    metric = verdict_metric(result)
    look = Look(Palette(result.networks), SYNTHETIC if result.synthetic else "")
    colours = precisions.colours(v.allocation for n in result.networks for v in n.variants if v.allocation)
    sections = [_summary(result, metric, look.palette)]
    if (beside := cited.section(result, metric, look)) is not None:
        sections.append(beside)
    for number, network in enumerate(result.networks, 1):
        sections.append(_network(network, f"network-{number}", metric, colours, look))
    across = allocation.across_networks(result, look)
    sections += [across] if across else []
    reading = (*HOW_TO_READ, *(allocation.HOW_TO_READ if across else ()))
    sections += [_method(result), Section("reading", "How to read this", (Bullets(reading),))]
    return Document(
        title=result.title,
        subtitle=f"{_date(result.started)} · {_processor(result)} · computed in {numbers.duration(result.seconds)}",
        warning=f"{SYNTHETIC}: {SYNTHETIC_TEXT}" if result.synthetic else "",
        sections=tuple(sections),
    )


def _date(started: str) -> str:
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{when:%Y-%m-%d %H:%M:%S %Z}".rstrip()


def _processor(result: StudyResult) -> str:
    return str(result.machine.get("processor", "processor not recorded"))


# ---------------------------------------------------------------- summary and recommendation


def _summary(result: StudyResult, metric: str, palette: Palette) -> Section:
    sections = []
    for number, network in enumerate(result.networks, 1):
        advice = recommend(network, metric)
        blocks: list[Block] = [Text(advice.headline, tone=OUTCOME_TONES.get(advice.outcome, "warn"))]
        chosen = next((each for each in advice.judgements if each.variant == advice.choice), None)
        if chosen:
            blocks.append(_tiles(network, chosen, metric))
        blocks.append(tables.glance(network, advice, metric, palette))
        blocks += _why(advice)
        sections.append(Section(f"summary-{number}", network.name, tuple(blocks)))
    rules = (
        Text(f"The verdict metric of this study is {numbers.label(metric)}. Every conclusion names its rule."),
        Bullets(tuple(each.text for each in RULES), numbered=True),
    )
    folded: Block = Folded("The rules that the recommendation follows", rules)
    return Section("summary", "Recommendation", (folded,), tuple(sections))


def _why(advice: Recommendation) -> list[Block]:
    blocks: list[Block] = []
    if advice.reasons:
        blocks += [Text("", lead=f"Why {advice.choice}"), Bullets(advice.reasons)]
    others = tuple(
        f"{each.variant}: {each.acceptability}. {' '.join(each.findings)}"
        for each in advice.judgements
        if each.variant != advice.choice
    )
    if others:
        blocks += [Text("", lead="The other variants" if advice.choice else "The variants"), Bullets(others)]
    if advice.caveats:
        blocks += [Text("", lead="Beware"), Bullets(advice.caveats)]
    return blocks


def _tiles(network: NetworkStudy, chosen: Judgement, metric: str) -> Block:
    """Answer how small, how fast, what is lost, and what of the gallery, for the variant that was chosen."""
    variant = next(each for each in network.variants if each.name == chosen.variant)
    reference = reference_of(network)
    assert reference is not None
    name = reference_label(reference)
    sizes = f"{numbers.megabytes(variant.size_bytes)} MB instead of {numbers.megabytes(reference.size_bytes)} MB"
    tiles = [Tile("How small?", size_words(chosen.size_ratio).partition(" (")[0], sizes, _good(chosen.smaller))]
    if chosen.latency and chosen.time_ratio is not None:
        value = f"{numbers.ratio(chosen.time_ratio)} the time"
        word = chosen.speed if chosen.speed == "no difference shown" else f"{chosen.speed} than {name}"
        interval = numbers.interval(chosen.latency.ratio_ci95, 2)
        at = f"batch {chosen.latency.batch}, {numbers.plural(chosen.latency.threads, 'thread')}"
        sub = "; ".join(filter(None, [word, f"{interval} at {at}".strip()]))
        tiles.append(Tile("How fast?", value, sub, tables.SPEED_TONES[chosen.speed]))
    for benchmark, found in variant.differences.items():
        each = next((d for d in found if d.metric == metric), None)
        if each:
            interval = numbers.difference_interval(metric, each.ci95)
            sub = f"{interval} {numbers.label(metric)}, {benchmark}: {each.verdict}"
            value = numbers.difference(metric, each.value)
            tiles.append(Tile("What is lost?", value, sub.strip(), tables.VERDICT_TONES[each.verdict]))
    for benchmark, compatibility in variant.compatibility.items():
        tone = gallery_tables.TONES[compatibility.verdict]
        tiles.append(Tile("Enrol again?", *_short_verdict(compatibility, benchmark), tone))
    return Tiles(tuple(tiles))


def _good(yes: bool) -> Tone:
    return "good" if yes else ""


def _short_verdict(found: Compatibility, benchmark: str) -> tuple[str, str]:
    short = {"keep": "no", "move-threshold": "no, move the threshold", "enrol-again": "yes", "undecided": "undecided"}
    return short[found.verdict], f"{gallery_words(found)} ({benchmark}, FMR {numbers.rate(found.far)})"


# ---------------------------------------------------------------- one network


def _network(network: NetworkStudy, anchor: str, metric: str, colours: precisions.Colours, look: Look) -> Section:
    facts = (
        f"{numbers.count(network.parameters)} parameters, {numbers.count(network.macs)} multiply-accumulates an image, "
        f"{network.dim} dimensions; from {network.source}."
    )
    benchmarks = list(dict.fromkeys(name for variant in network.variants for name in variant.evaluations))
    sections = [
        _benchmark(network, benchmark, f"{anchor}-benchmark-{number}", metric, look)
        for number, benchmark in enumerate(benchmarks, 1)
    ]
    mixed = allocation.section(network, f"{anchor}-mixed", metric, colours, look)
    sections += filter(None, [mixed, _latency(network, anchor, look), _layers(network, anchor, look)])
    sections.append(_files(network, anchor))
    return Section(anchor, network.name, (Text(facts),), tuple(sections))


def _benchmark(network: NetworkStudy, benchmark: str, anchor: str, metric: str, look: Look) -> Section:
    palette = look.palette
    sections = [Section(f"{anchor}-table", "Detailed comparison", _comparison(network, benchmark, palette))]
    differences = tables.differences(network, benchmark, palette)
    if differences:
        about = "A bar that lies wholly right of the dashed margin: no worse."
        chart = _chart(charts.forest(network, benchmark, look), about)
        sections.append(Section(f"{anchor}-diff", "What is lost, and is it significant?", (*chart, differences)))
    similarities = _chart(
        charts.similarities(network, benchmark, look),
        "Solid: genuine; dashed: impostor; dotted upright: threshold of the accuracy. A click in the legend hides one.",
    )
    table = tables.similarities(network, benchmark, palette)
    sections.append(Section(f"{anchor}-scores", "Similarity distributions", (*similarities, table)))
    curves = _curves(network, benchmark, look)
    if curves:
        sections.append(Section(f"{anchor}-curves", "Error trade-off", curves))
    trade = _trade(network, benchmark, metric, look)
    if trade:
        sections.append(Section(f"{anchor}-trade", "Size and time against accuracy", trade))
    gallery = _gallery(network, benchmark, palette)
    if gallery:
        sections.append(Section(f"{anchor}-gallery", "Must people enrol again?", gallery))
    return Section(anchor, benchmark, _about_benchmark(network, benchmark), tuple(sections))


def _about_benchmark(network: NetworkStudy, benchmark: str) -> tuple[Block, ...]:
    evaluation = next(v.evaluations[benchmark] for v in network.variants if benchmark in v.evaluations)
    about, comparisons = evaluation.benchmark, evaluation.comparisons
    counts = ", ".join(f"{numbers.count(value)} {kind}" for kind, value in comparisons.items() if kind != "total")
    people = f" {about['persons']:,} people." if isinstance(about.get("persons"), int) else ""
    text = f"{about.get('protocol', '')} {counts} comparisons.{people} {about.get('persons_note', '')}".strip()
    blocks: list[Block] = [Text(text)]
    if evaluation.skipped:
        amount = numbers.plural(len(evaluation.skipped), "sample")
        blocks.append(Text(f"{amount} could not be used and are left out; they are named under Method.", tone="warn"))
    return tuple(blocks)


def _comparison(network: NetworkStudy, benchmark: str, palette: Palette) -> tuple[Block, ...]:
    further = tables.further_metrics(network, benchmark, palette)
    table = tables.comparison(network, benchmark, palette)
    return (table, further) if further else (table,)


def _chart(figure: Figure | None, about: str = "") -> tuple[Block, ...]:
    return (Chart(figure, about),) if figure else ()


def _curves(network: NetworkStudy, benchmark: str, look: Look) -> tuple[Block, ...]:
    shaded = "Shaded: FMR below 3 / impostor comparisons, where no figure holds. A click in the legend hides a variant."
    det = _chart(charts.det(network, benchmark, look), shaded)
    roc = _chart(charts.roc(network, benchmark, look), shaded)
    return (Row((*det, *roc)),) if det or roc else ()


def _trade(network: NetworkStudy, benchmark: str, metric: str, look: Look) -> tuple[Block, ...]:
    measured = {name for v in network.variants if (e := v.evaluations.get(benchmark)) for name in e.metrics}
    shown = "accuracy" if "accuracy" in measured else metric
    found = [*_chart(charts.size_trade(network, benchmark, shown, look))]
    for point in tables.latency_points(network.variants)[:1]:
        found += _chart(charts.latency_trade(network, benchmark, shown, point, look))
    return (Row(tuple(found)),) if found else ()


def _gallery(network: NetworkStudy, benchmark: str, palette: Palette) -> tuple[Block, ...]:
    table = gallery_tables.summary(network, benchmark, palette)
    if table is None:
        return ()
    intro = (
        "A gallery holds templates that the full-precision network made. After the switch, the variant makes the "
        "probes. Measured here: whether old templates and new probes still understand one another, how often impostors "
        "would pass at the threshold that is set today, and which threshold restores the intended rate."
    )
    details = [
        Folded(
            f"{variant.name}: {gallery_words(found)} — the four combinations and the reasons",
            (
                Bullets(tuple(found.reasons)),
                Row((gallery_tables.two_by_two(found), gallery_tables.own_thresholds(found))),
            ),
        )
        for variant in network.variants
        if (found := variant.compatibility.get(benchmark))
    ]
    return (Text(intro), table, *details)


def _latency(network: NetworkStudy, anchor: str, look: Look) -> Section | None:
    table = tables.latencies(network, look.palette)
    if table is None:
        return None
    note = (
        "All variants take turns in every round. The ratio is the median over the rounds of a variant's time over the "
        "reference's in the same round; 'slower' and 'faster' are said only where its whole interval lies above or "
        "below 1."
    )
    return Section(f"{anchor}-latency", "Latency", (Text(note), table))


def _layers(network: NetworkStudy, anchor: str, look: Look) -> Section | None:
    sections = [
        Section(f"{anchor}-layers-{number}", variant.name, _layers_of(network, variant, look))
        for number, variant in enumerate(network.variants, 1)
        if variant.layers and not variant.reference
    ]
    bits = _chart(
        layer_bits.by_layer(network, look),
        "After each iteration; behind a name the average of the whole network. A click in the legend hides a line.",
    )
    return Section(f"{anchor}-layers", "Layers", tuple(bits), tuple(sections)) if sections else None


def _layers_of(network: NetworkStudy, variant: Variant, look: Look) -> tuple[Block, ...]:
    blocks = _kept_float(variant)
    blocks += _chart(charts.layer_errors(network, variant, look), "The worst first.")
    blocks.append(Folded(f"All {numbers.plural(len(variant.layers), 'operation')}", (tables.all_layers(variant),)))
    return tuple(blocks)


def _kept_float(variant: Variant) -> list[Block]:
    """Say what was left in floating point and why: each operation; a long list by its reasons first."""
    table = tables.kept_float(variant)
    total = numbers.plural(len(variant.layers), "operation")
    if table is None:
        return [Text(f"No operation of {total} was left in floating point.")]
    amount = len(table.rows)
    opening = Text(f"Left in floating point: {amount} of {total}.")
    if amount <= MOST_KEPT_SHOWN:
        return [opening, table]
    reasons = Counter(f"{each.operation}: {each.reason or 'not stated'}" for each in variant.layers if each.kept_float)
    listed = Bullets(tuple(f"{numbers.count(each)} × {reason}" for reason, each in reasons.most_common()))
    return [opening, listed, Folded(f"All {amount} by name", (table,))]


def _files(network: NetworkStudy, anchor: str) -> Section:
    sections = []
    for number, variant in enumerate(network.variants, 1):
        content = {
            "recipe": variant.recipe,
            "runtime": variant.runtime,
            "file": variant.artefact,
            "size": f"{numbers.count(variant.size_bytes)} bytes",
            "SHA-256": variant.digest,
        } | {f"recipe: {key}": value for key, value in variant.recipe_settings.items()}
        blocks: list[Block] = [Bullets(tuple(variant.notes))] if variant.notes else []
        folded = Folded("Recipe, file and digest", (tables.facts(content),))
        sections.append(Section(f"{anchor}-file-{number}", variant.name, (*blocks, folded)))
    inputs = Folded("What the network takes", (tables.facts(network.input),))
    shown: tuple[Block, ...] = (inputs,) if network.input else ()
    if network.trained_on:
        shown += (Folded("Its own training and calibration images", (tables.facts(network.trained_on),)),)
    return Section(f"{anchor}-files", "Variants: notes, recipes, files", shown, tuple(sections))


# ---------------------------------------------------------------- method


def _method(result: StudyResult) -> Section:
    sections = [
        Section("method-settings", "Settings", (tables.facts(_settings(result)),)),
        Section("method-machine", "Processor and versions", (tables.facts(result.machine | result.versions),)),
    ]
    calibration: Block = (
        tables.facts(result.calibration) if result.calibration else Text("No recipe needed calibration images.")
    )
    sections.append(Section("method-calibration", "Calibration", (calibration,)))
    sections.append(Section("method-data", "Benchmarks and skipped samples", tuple(_benchmarks(result))))
    return Section("method", "Method: settings, versions, data", (), tuple(sections))


def _settings(result: StudyResult) -> dict[str, object]:
    return {
        "command": result.command,
        "started": result.started,
        "computed in": numbers.duration(result.seconds),
    } | result.settings


def _benchmarks(result: StudyResult) -> list[Block]:
    """Describe each benchmark once, and name every sample that was left out, by whom."""
    described: dict[str, Table] = {}
    skipped: dict[tuple[str, tuple[str, ...]], None] = {}
    for network in result.networks:
        for variant in network.variants:
            for name, evaluation in variant.evaluations.items():
                content = evaluation.benchmark | {"comparisons": evaluation.comparisons}
                described.setdefault(name, tables.facts(content | {"evaluation": evaluation.settings}, name))
                if evaluation.skipped:
                    skipped.setdefault((name, tuple(evaluation.skipped)))
    blocks: list[Block] = list(described.values())
    for name, samples in skipped:
        blocks.append(Text("", lead=f"{name}: {numbers.plural(len(samples), 'sample')} left out"))
        blocks.append(Bullets(samples))
    if not skipped:
        blocks.append(Text("No sample was left out."))
    return blocks
