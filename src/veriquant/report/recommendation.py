"""What a customer should ship: rules, stated as data, applied to measured figures. No figure is made up here.

`RULES` is printed in the report; every conclusion names the rule it follows from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from veriquant.report import numbers
from veriquant.results import Compatibility, Difference, Latency, Metric, NetworkStudy, StudyResult, Variant

Acceptability = Literal["acceptable", "not acceptable", "undecided"]
Speed = Literal["faster", "slower", "no difference shown", "not measured"]
Outcome = Literal["recommended", "only for size", "no gain", "undecided", "none acceptable", "no candidates"]
LEAST_GAIN = 0.01
"""Sizes closer than this fraction count as equal."""
GALLERY_ORDER = ("keep", "move-threshold", "undecided", "enrol-again")
"""Verdicts on the gallery, the strictest last."""


@dataclass(frozen=True)
class Rule:
    """One rule, under the number by which conclusions name it."""

    key: str
    text: str


RULES: tuple[Rule, ...] = (
    Rule("candidates", "Candidates are all variants except the full-precision reference."),
    Rule(
        "acceptable",
        "A candidate is acceptable on a benchmark if the verdict on the metric named above is 'no worse': the whole "
        "95 % interval of its paired difference to the reference lies within the margin. It must be acceptable on "
        "every benchmark of the study.",
    ),
    Rule(
        "undecided",
        "'Undecided' and 'not supported' are not 'no worse': such a candidate is not recommended, and what would "
        "decide it is stated. The number of people needed assumes that intervals shrink with the square root of their "
        "number and that the difference stays as measured.",
    ),
    Rule(
        "size",
        "Size is what the file on disk holds; every factor is this file's bytes against the reference's bytes. Files "
        "that differ by less than 1 % count as equally large.",
    ),
    Rule(
        "time",
        "Time is judged at batch 1 (or the smallest batch measured) by the ratio of interleaved rounds: 'slower than' "
        "the reference if the whole 95 % interval of the ratio lies above 1, 'faster' if it lies below 1, otherwise "
        "'no difference shown'.",
    ),
    Rule(
        "choice",
        "Of the acceptable candidates that are not slower than the reference and are smaller or faster, the smallest "
        "is recommended; among equally large ones, the fastest.",
    ),
    Rule(
        "slower",
        "If all acceptable candidates that are smaller are slower than the reference, the smallest is named for use "
        "where file size alone decides.",
    ),
    Rule(
        "gallery",
        "What to do with an existing gallery is the verdict of the compatibility section; of several benchmarks the "
        "strictest verdict counts (enrol again, undecided, move the threshold, keep).",
    ),
    Rule("support", "A figure that the number of comparisons cannot support is not shown and never used in a verdict."),
)


def rule(key: str) -> str:
    """Return the reference to a rule as printed: '(rule 4)'."""
    return f"(rule {next(i for i, each in enumerate(RULES, 1) if each.key == key)})"


@dataclass(frozen=True)
class Judgement:
    """One candidate under the rules. Ratios are variant / reference; None where not measured."""

    variant: str
    acceptability: Acceptability
    size_ratio: float
    speed: Speed
    latency: Latency | None
    findings: tuple[str, ...]
    """One sentence a benchmark: verdict with its figures, and what is needed where there is none."""
    gallery: str
    """The strictest verdict on the gallery in plain words; empty where compatibility was not measured."""

    @property
    def time_ratio(self) -> float | None:
        """The ratio of times at the judged batch."""
        return self.latency.ratio_to_reference if self.latency else None

    @property
    def smaller(self) -> bool:
        """Whether the file is smaller than the reference's by more than counts as equal."""
        return self.size_ratio < 1 - LEAST_GAIN


@dataclass(frozen=True)
class Recommendation:
    """What to do with one network, and why."""

    network: str
    reference: str
    outcome: Outcome
    choice: str | None
    headline: str
    reasons: tuple[str, ...]
    caveats: tuple[str, ...]
    judgements: tuple[Judgement, ...]


def verdict_metric(result: StudyResult) -> str:
    """Return the metric that verdicts rest on: the study's setting, or else the first that was compared."""
    chosen = result.settings.get("verdict_metric")
    if isinstance(chosen, str) and chosen:
        return chosen
    compared = (d.metric for n in result.networks for v in n.variants for ds in v.differences.values() for d in ds)
    return next(compared, "accuracy")


def reference_of(network: NetworkStudy) -> Variant | None:
    """Return the variant that the others are compared with."""
    return next((variant for variant in network.variants if variant.reference), None)


def reference_label(reference: Variant) -> str:
    """Return the reference's name for a sentence; 'fp32' is written as the field writes it."""
    return "FP32" if reference.name.lower() == "fp32" else reference.name


def speed_of(latency: Latency | None) -> Speed:
    """Judge one latency by the time rule."""
    if latency is None or latency.ratio_to_reference is None:
        return "not measured"
    if latency.ratio_ci95 is None:
        return "no difference shown"
    low, high = latency.ratio_ci95
    return "slower" if low > 1 else "faster" if high < 1 else "no difference shown"


def judged_latency(variant: Variant) -> Latency | None:
    """Return the latency that the time rule looks at: smallest batch, and of its thread counts the first measured."""
    return min(variant.latency, key=lambda latency: latency.batch, default=None)


def size_words(size_ratio: float) -> str:
    """Say a size against the reference's exactly as measured; a factor only where it is one."""
    change = abs(100 * (1 - size_ratio))
    if change < 0.05:
        return "size unchanged"
    if size_ratio > 1:
        return f"size grew by {numbers.number(change, 1)} %"
    fell = f"size fell by {numbers.number(change, 1)} %"
    return f"{numbers.number(1 / size_ratio)}× smaller ({fell})" if size_ratio < 0.7 else fell


def speed_words(latency: Latency | None, reference: str) -> str:
    """Say a time against the reference's in plain words with its figures."""
    speed = speed_of(latency)
    if latency is None or latency.ratio_to_reference is None:
        return "time not measured"
    figures = f"{numbers.ratio(latency.ratio_to_reference, latency.ratio_ci95)} its time"
    at = f"at batch {latency.batch} on {numbers.plural(latency.threads, 'thread')}"
    if speed == "no difference shown":
        return f"no difference in time to {reference} shown ({figures}, {at})"
    return f"{speed} than {reference} ({figures}, {at})"


def gallery_words(compatibility: Compatibility) -> str:
    """Say the verdict on the gallery in plain words."""
    if compatibility.verdict == "move-threshold":
        return f"keep the gallery, set the threshold to {numbers.threshold(compatibility.new_threshold)}"
    return {
        "keep": "keep the gallery and the threshold",
        "enrol-again": "enrol again",
        "undecided": "undecided: more comparisons are needed",
    }[compatibility.verdict]


def people_needed(difference: Difference) -> float | None:
    """Return by what factor the number of people must grow to decide a verdict, by the undecided rule.

    None where it cannot be told: no interval, or a difference that lies on the margin itself.
    """
    if difference.value is None or difference.ci95 is None:
        return None
    sign = 1.0 if numbers.higher_is_better(difference.metric) else -1.0
    value = sign * difference.value
    low, high = sorted(sign * end for end in difference.ci95)
    room = value + difference.margin
    reach = value - low if room > 0 else high - value
    return None if room == 0 else max(1.0, (reach / room) ** 2)


def _finding(benchmark: str, metric: str, difference: Difference | None, measured: Metric | None) -> str:
    """Say the verdict on one benchmark, and what would decide it where it is open."""
    name = numbers.label(metric)
    if difference is None:
        return f"{benchmark}: {name} was not compared {rule('undecided')}."
    if difference.verdict == "not supported":
        needed = f" ({measured.note.rstrip('. ')})" if measured and measured.note else ""
        return f"{benchmark}: {name} is not supported by this many comparisons{needed} {rule('support')}."
    change = numbers.difference(metric, difference.value, difference.ci95)
    margin = numbers.margin(metric, difference.margin)
    text = f"{benchmark}: {difference.verdict}; {name} changed by {change}, margin {margin}"
    if difference.verdict != "undecided":
        return f"{text}."
    factor = people_needed(difference)
    if factor is None:
        return f"{text}. More comparisons of more people are needed to decide {rule('undecided')}."
    return f"{text}. {_rounded_up(factor)} times as many people would decide it {rule('undecided')}."


def _rounded_up(factor: float) -> str:
    """Write a factor on the careful side: about 1.5, 3, 40; beyond a hundred it is only that."""
    if factor > 100:
        return "More than 100"
    step = 0.5 if factor < 3 else 1 if factor < 20 else 5
    return "About " + numbers.number(-(-factor // step) * step, 1).removesuffix(".0")


def _acceptability(verdicts: Sequence[str]) -> Acceptability:
    """Join the verdicts of all benchmarks by the acceptable and undecided rules."""
    if "worse" in verdicts:
        return "not acceptable"
    return "acceptable" if verdicts and all(verdict == "no worse" for verdict in verdicts) else "undecided"


def strictest_compatibility(compatibility: Mapping[str, Compatibility]) -> Compatibility | None:
    """Return the compatibility with the strictest verdict by the gallery rule."""
    return max(compatibility.values(), key=lambda each: GALLERY_ORDER.index(each.verdict), default=None)


def judge(variant: Variant, reference: Variant, metric: str) -> Judgement:
    """Apply the rules to one candidate."""
    findings, verdicts = [], []
    for benchmark in dict.fromkeys([*reference.evaluations, *variant.evaluations, *variant.differences]):
        difference = next((d for d in variant.differences.get(benchmark, []) if d.metric == metric), None)
        evaluation = variant.evaluations.get(benchmark)
        verdicts.append(difference.verdict if difference else "not supported")
        findings.append(_finding(benchmark, metric, difference, evaluation.metrics.get(metric) if evaluation else None))
    latency = judged_latency(variant)
    strictest = strictest_compatibility(variant.compatibility)
    return Judgement(
        variant=variant.name,
        acceptability=_acceptability(verdicts),
        size_ratio=variant.size_bytes / reference.size_bytes if reference.size_bytes else 1.0,
        speed=speed_of(latency),
        latency=latency,
        findings=tuple(findings),
        gallery=gallery_words(strictest) if strictest else "",
    )


def _best(judgements: list[Judgement]) -> Judgement | None:
    """Return the smallest; among equally large ones the fastest, then the first by name."""
    if not judgements:
        return None
    least = min(each.size_ratio for each in judgements)
    equal = [each for each in judgements if each.size_ratio <= least * (1 + LEAST_GAIN)]
    return min(equal, key=lambda each: (each.time_ratio if each.time_ratio is not None else 1.0, each.variant))


def choose(judgements: tuple[Judgement, ...]) -> tuple[Outcome, Judgement | None]:
    """Apply the choice and slower rules."""
    if not judgements:
        return "no candidates", None
    acceptable = [each for each in judgements if each.acceptability == "acceptable"]
    if not acceptable:
        return ("undecided" if any(e.acceptability == "undecided" for e in judgements) else "none acceptable"), None
    gaining = [each for each in acceptable if each.speed != "slower" and (each.smaller or each.speed == "faster")]
    if gaining:
        return "recommended", _best(gaining)
    for_size = _best([each for each in acceptable if each.smaller])
    return ("only for size", for_size) if for_size else ("no gain", None)


def recommend(network: NetworkStudy, metric: str) -> Recommendation:
    """Apply the rules to a network: what to ship, why, and what to beware of."""
    reference = reference_of(network)
    if reference is None:
        text = "No recommendation: the study has no full-precision reference to compare with."
        return Recommendation(network.name, "", "no candidates", None, text, (), (), ())
    name = reference_label(reference)
    judgements = tuple(judge(v, reference, metric) for v in network.variants if not v.reference)
    outcome, best = choose(judgements)
    return Recommendation(
        network=network.name,
        reference=name,
        outcome=outcome,
        choice=best.variant if best else None,
        headline=_headline(outcome, best, judgements, name),
        reasons=_reasons(best, name) if best else (),
        caveats=_caveats(network, best),
        judgements=judgements,
    )


def _headline(outcome: Outcome, best: Judgement | None, judgements: tuple[Judgement, ...], reference: str) -> str:
    """Say the outcome in one sentence."""
    if outcome == "recommended" and best:
        return f"Use {best.variant}: {size_words(best.size_ratio)}, {speed_words(best.latency, reference)}."
    if outcome == "only for size" and best:
        return (
            f"Keep {reference}, unless file size alone decides: then {best.variant}, which is "
            f"{speed_words(best.latency, reference)}; {size_words(best.size_ratio)}."
        )
    if outcome == "no gain":
        return f"Keep {reference}: no acceptable variant is smaller, and none is shown to be faster."
    if outcome == "undecided":
        names = ", ".join(each.variant for each in judgements if each.acceptability == "undecided")
        return f"Keep {reference} for now: no variant is shown to be acceptable; undecided: {names}."
    if outcome == "none acceptable":
        return f"Keep {reference}: every variant is worse by more than the margin."
    return f"Nothing to choose: {reference} was measured alone."


def _reasons(best: Judgement, reference: str) -> tuple[str, ...]:
    """Say why the choice was made, each reason with its rule."""
    reasons = [*(f"{finding} {rule('acceptable')}" for finding in best.findings)]
    reasons.append(f"File: {size_words(best.size_ratio)} {rule('size')}.")
    reasons.append(f"Time: {speed_words(best.latency, reference)} {rule('time')}.")
    if best.gallery:
        reasons.append(f"Existing gallery: {best.gallery} {rule('gallery')}.")
    return tuple(reasons)


def _caveats(network: NetworkStudy, best: Judgement | None) -> tuple[str, ...]:
    """Name the points that the data do not support, and batches at which the choice is slower."""
    caveats: list[str] = []
    unsupported: dict[str, list[str]] = {}
    for variant in network.variants:
        for benchmark, evaluation in variant.evaluations.items():
            for metric, figure in evaluation.metrics.items():
                reason = support_reason(metric, figure, evaluation.comparisons)
                if figure.support == "none" and reason not in unsupported.setdefault(benchmark, []):
                    unsupported[benchmark].append(reason)
    for benchmark, found in unsupported.items():
        caveats.extend(f"{benchmark}: {reason} {rule('support')}." for reason in found)
    for variant in network.variants:
        if best and variant.name == best.variant:
            others = [each for each in variant.latency if each is not best.latency and speed_of(each) == "slower"]
            reference = reference_of(network)
            name = reference_label(reference) if reference else "the reference"
            caveats.extend(f"{variant.name} is {speed_words(each, name)}." for each in others)
    return tuple(caveats)


def support_reason(metric: str, figure: Metric, comparisons: Mapping[str, Any]) -> str:
    """Say why a figure is not shown: 'TAR@FAR=1e-4 is not supported (3,000 impostor comparisons; 30,000 needed)'."""
    return f"{numbers.label(metric)} is not supported ({support_figures(metric, figure, comparisons)})"


def support_figures(metric: str, figure: Metric, comparisons: Mapping[str, Any]) -> str:
    """Say how many impostor comparisons there are and how many the operating point needs (3/f, or 30/f to be firm)."""
    point, impostors = numbers.operating_point(metric), comparisons.get("impostor")
    if not point or impostors is None:
        return figure.note.rstrip(". ") or "too few comparisons"
    needed = round((3 if figure.support == "none" else 30) / point)
    if impostors >= needed:
        return figure.note.rstrip(". ") or "too few comparisons"
    return f"{numbers.count(impostors)} impostor comparisons; {numbers.count(needed)} needed"
