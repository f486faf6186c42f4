from __future__ import annotations

import re
from typing import Any

import pytest
from report_fakes import Verdict, compatibility, difference, evaluation, network, study, variant

from veriquant.report import recommend, verdict_metric
from veriquant.report.recommendation import RULES, people_needed, rule, size_words, speed_of, speed_words
from veriquant.results import Latency, NetworkStudy, Variant

SIZE = 89_610_000


def candidate(name: str, size: int, ratio: float, *verdicts: Verdict, **more: Any) -> Variant:
    differences = {f"set{i}": [difference("accuracy", -0.001, 0.003, verdict)] for i, verdict in enumerate(verdicts)}
    return variant(name, size, ratio, differences=differences, **more)


def of(*candidates: Variant) -> NetworkStudy:
    return network("net").model_copy(update={"variants": [variant("fp32", SIZE), *candidates]})


@pytest.mark.parametrize(
    ("candidates", "outcome", "choice"),
    [
        # the smallest of the acceptable
        ([("a", 0.97, 0.98, "no worse"), ("b", 0.26, 0.53, "no worse")], "recommended", "b"),
        # a worse one is out, however small and fast
        ([("a", 0.97, 0.80, "no worse"), ("b", 0.26, 0.53, "worse")], "recommended", "a"),
        # so is an undecided one
        ([("a", 0.97, 0.80, "no worse"), ("b", 0.26, 0.53, "undecided")], "recommended", "a"),
        # a slower one yields to one that is not slower
        ([("a", 0.50, 0.80, "no worse"), ("b", 0.26, 1.31, "no worse")], "recommended", "a"),
        # only slower ones are left: for size alone
        ([("a", 0.50, 1.20, "no worse"), ("b", 0.26, 1.31, "no worse")], "only for size", "b"),
        # equally large: the faster
        ([("a", 0.260, 0.90, "no worse"), ("b", 0.261, 0.53, "no worse")], "recommended", "b"),
        # faster though not smaller
        ([("a", 1.00, 0.53, "no worse")], "recommended", "a"),
        # acceptable, but what for?
        ([("a", 1.00, 1.00, "no worse")], "no gain", None),
        ([("a", 1.00, 1.31, "no worse")], "no gain", None),
        ([("a", 0.26, 0.53, "worse")], "none acceptable", None),
        ([("a", 0.26, 0.53, "undecided")], "undecided", None),
        ([("a", 0.26, 0.53, "not supported")], "undecided", None),
        ([("a", 0.26, 0.53, "no worse", "worse")], "none acceptable", None),
        ([("a", 0.26, 0.53, "no worse", "undecided")], "undecided", None),
        ([("a", 0.26, 0.53)], "undecided", None),
        ([], "no candidates", None),
    ],
)
def test_the_choice_follows_the_rules(candidates: list[Any], outcome: str, choice: str | None) -> None:
    made = [candidate(name, int(SIZE * share), ratio, *verdicts) for name, share, ratio, *verdicts in candidates]
    advice = recommend(of(*made), "accuracy")
    assert (advice.outcome, advice.choice) == (outcome, choice)
    assert advice.headline.endswith(".")
    if choice:
        assert choice in advice.headline
    else:
        assert "FP32" in advice.headline


def test_three_percent_smaller_never_becomes_three_to_four_times() -> None:
    """The source's own report promises '~3-4x model size reduction' for a file of 86.97 MB instead of 89.61 MB."""
    advice = recommend(of(candidate("int8_dynamic", 86_970_000, 0.98, "no worse")), "accuracy")
    said = " ".join([advice.headline, *advice.reasons, *advice.caveats])
    assert "size fell by 2.9 %" in said
    assert not re.search(r"\d\s*[-–]\s*\d+\s*[x×]", said)
    assert "× smaller" not in said


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.2596, "3.85× smaller (size fell by 74.0 %)"),
        (0.97, "size fell by 3.0 %"),
        (0.75, "size fell by 25.0 %"),
        (1.0, "size unchanged"),
        (1.12, "size grew by 12.0 %"),
    ],
)
def test_sizes_are_said_as_measured(ratio: float, words: str) -> None:
    assert size_words(ratio) == words


@pytest.mark.parametrize(
    ("ratio", "ci", "speed"),
    [
        (1.31, (1.29, 1.33), "slower"),
        (0.53, (0.51, 0.55), "faster"),
        (1.02, (0.99, 1.05), "no difference shown"),
        (1.31, None, "no difference shown"),
        (None, None, "not measured"),
    ],
)
def test_speed_is_said_only_where_the_interval_says_it(ratio: float | None, ci: Any, speed: str) -> None:
    latency = Latency(
        batch=1, threads=2, rounds=9, median_ms=1, p10_ms=1, p90_ms=1, ratio_to_reference=ratio, ratio_ci95=ci
    )
    assert speed_of(latency) == speed
    words = speed_words(latency, "FP32")
    assert ("slower than FP32" in words) == (speed == "slower")
    assert ("faster than FP32" in words) == (speed == "faster")


def test_a_slower_variant_is_called_slower_than_fp32() -> None:
    advice = recommend(of(candidate("a", SIZE // 4, 1.31, "no worse")), "accuracy")
    assert "slower than FP32" in advice.headline
    assert advice.headline.startswith("Keep FP32")


def test_a_choice_slower_at_another_batch_comes_with_that_warning() -> None:
    made = candidate("a", SIZE // 4, 0.53, "no worse")
    made.latency[1].ratio_to_reference, made.latency[1].ratio_ci95 = 1.2, (1.1, 1.3)
    caveats = recommend(of(made), "accuracy").caveats
    assert any("slower than FP32" in caveat and "batch 32" in caveat for caveat in caveats)


@pytest.mark.parametrize(
    ("metric", "value", "reach", "factor"),
    [
        ("accuracy", -0.002, 0.006, 4.0),  # 3 points of room for an arm of 6: four times the people
        ("eer", 0.002, 0.006, 4.0),
        ("accuracy", -0.007, 0.004, 4.0),  # towards 'worse'
        ("accuracy", -0.005, 0.004, None),  # on the margin: cannot be told
    ],
)
def test_what_an_undecided_verdict_needs(metric: str, value: float, reach: float, factor: float | None) -> None:
    needed = people_needed(difference(metric, value, reach, "undecided", margin=0.005))
    assert needed == (pytest.approx(factor) if factor else None)


def test_an_undecided_variant_says_what_is_needed() -> None:
    made = variant("a", SIZE // 4, 0.5, differences={"lfw": [difference("accuracy", -0.002, 0.006, "undecided")]})
    advice = recommend(of(made), "accuracy")
    assert "undecided: a" in advice.headline
    assert "4 times as many people" in advice.judgements[0].findings[0]


def test_the_strictest_verdict_on_the_gallery_counts() -> None:
    made = candidate("a", SIZE // 4, 0.5, "no worse")
    made.compatibility = {
        "lfw": compatibility("fp32", "a", "keep", 0.001), "cfp": compatibility("fp32", "a", "enrol-again", 0.02),
    }  # fmt: skip
    advice = recommend(of(made), "accuracy")
    assert advice.judgements[0].gallery == "enrol again"
    assert any(reason.startswith("Existing gallery: enrol again") for reason in advice.reasons)


def test_the_threshold_to_set_is_named() -> None:
    found = {"lfw": compatibility("fp32", "a", "move-threshold", 0.002)}
    made = candidate("a", SIZE // 4, 0.5, "no worse", compatibility=found)
    assert recommend(of(made), "accuracy").judgements[0].gallery == "keep the gallery, set the threshold to 0.3489"


def test_unsupported_points_are_named_with_what_they_need() -> None:
    made = candidate("a", SIZE // 4, 0.5, "no worse", evaluations={"lfw": evaluation("lfw", 0.0)})
    expected = f"lfw: TAR@FAR=1e-4 is not supported (3,000 impostor comparisons; 30,000 needed) {rule('support')}."
    assert expected in recommend(of(made), "accuracy").caveats


def test_a_benchmark_without_a_comparison_is_not_acceptable() -> None:
    made = candidate("a", SIZE // 4, 0.5, "no worse", evaluations={"other": evaluation("other", 0.0)})
    advice = recommend(of(made), "accuracy")
    assert advice.outcome == "undecided"
    assert any(finding.startswith("other: Accuracy was not compared") for finding in advice.judgements[0].findings)


def test_without_a_reference_nothing_is_recommended() -> None:
    bare = of().model_copy(update={"variants": [variant("a", 100, 0.5)]})
    assert "no full-precision reference" in recommend(bare, "accuracy").headline


def test_the_metric_is_the_study_s_or_the_first_compared() -> None:
    result = study("net")
    assert verdict_metric(result) == "accuracy"
    result.settings = {"verdict_metric": "eer"}
    assert verdict_metric(result) == "eer"
    result.settings = {}
    assert verdict_metric(result) == "accuracy"


def test_every_rule_has_a_number() -> None:
    assert [rule(each.key) for each in RULES] == [f"(rule {i})" for i in range(1, len(RULES) + 1)]
