"""What a report says of mixed precision: in its tables, its sentences and the data of its charts."""

from __future__ import annotations

import math
import re
from typing import Any

import plotly.graph_objects as go
import pytest
from report_fakes import NARROW, WIDE, Verdict, allocation, difference, groups, mixed_study, network, study, variant
from test_report_files import Page

from veriquant.report import ReportPaths, numbers, write_report
from veriquant.report.allocation import across_networks, plan_sentence, worst_sentence
from veriquant.report.allocation import section as mixed_section
from veriquant.report.allocation_charts import MOST_ROWS, along_network, bits_along_network, worst_groups
from veriquant.report.allocation_tables import bits_per_group, loss_metric, relative_bops, variants
from veriquant.report.canvas import Figure, Look
from veriquant.report.document import build
from veriquant.report.html import render_html
from veriquant.report.markdown import render_markdown
from veriquant.report.palette import KEPT, Palette
from veriquant.report.pareto_chart import by_score, by_sqnr
from veriquant.report.precisions import bits_of, colours, ordered, short_names, task_metric, worst_first
from veriquant.report.sensitivity_ranges import chart, shared_precision, spreads, sqnr_at, table
from veriquant.results import Allocation, GroupChoice, Layer, NetworkStudy, StudyResult, Variant


@pytest.fixture(scope="module")
def mixed_result() -> StudyResult:
    return mixed_study()


@pytest.fixture(scope="module")
def look(mixed_result: StudyResult) -> Look:
    return Look(Palette(mixed_result.networks), "")


@pytest.fixture(scope="module")
def page(mixed: ReportPaths) -> Page:
    return Page(mixed.html.read_text())


def mixed_of(network_study: NetworkStudy) -> list[tuple[Variant, Allocation]]:
    return [(v, v.allocation) for v in network_study.variants if v.allocation]


def group(name: str, chosen: str = "W8A8", parameters: int = 100, **sqnr: float) -> GroupChoice:
    return GroupChoice(name=name, operations=[name], parameters=parameters, macs=1000, chosen=chosen, sqnr=sqnr)


# ---------------------------------------------------------------- the whole report


def test_a_study_without_allocations_says_nothing_of_them() -> None:
    document = build(study("net"))
    for text in (render_html(document), render_markdown(document)):
        shown = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL)
        assert not re.search(r"Mixed precision|SQNR|quantizer group|Sensitivity|sideways", shown)


def test_page_and_markdown_say_the_same_of_it(mixed: ReportPaths, page: Page) -> None:
    markdown = " ".join(re.sub(r"<[^>]*>|\||\*\*", " ", mixed.markdown.read_text()).replace("\\", "").split())
    for name in ("mixed", "mixed_adaround"):
        assert f"{name}: sensitivity and plan" in page.text
        assert f"{name}: sensitivity and plan" in markdown
    for text in (page.text, markdown):
        assert "Bits and sensitivity of all 130 groups" in text
        assert "Layers add up: noise measured together 0.0031" in text
        assert "bops=0.4" in text
        assert "TAR@FAR=1e-3 at least 0.975 for simulated" in text
        assert "by SQNR" in text.replace("\u00a0", " ")
        assert "1 min 29 s preparation 3.2 s sensitivity 1 min 21 s search 4.5 s" in text
        assert "−1.24 [−1.57, −0.91] no worse" in text
        assert "25.2 predicted 26.0" in text
        assert "left in floating point" in text
        assert "Every 10 dB less" in text


def test_every_group_and_point_is_in_the_markdown(mixed: ReportPaths, mixed_result: StudyResult) -> None:
    rows = [line.replace("*", "") for line in mixed.markdown.read_text().splitlines() if line.startswith("| ")]
    for network_study in mixed_result.networks:
        for _, found in mixed_of(network_study):
            for each in found.groups:
                mine = [row for row in rows if re.match(rf"\| {re.escape(each.name)}(<br>| \|)", row)]
                assert any(f"| {each.chosen} |" in row for row in mine), each.name
    assert sum("| searched |" in row for row in rows) == 4
    assert sum("| fixed W8A8 |" in row for row in rows) == 3


def test_all_its_charts_are_valid_and_titled(page: Page) -> None:
    for figure in page.figures:
        layout = go.Figure(figure).layout  # refuses unknown properties
        assert layout.title.text
        assert layout.xaxis.title.text


def test_synthetic_data_are_called_that_in_every_chart() -> None:
    written = Page(render_html(build(mixed_study("net", synthetic=True))))
    mine = [f["layout"]["title"]["text"] for f in written.figures]
    assert any("The plan" in title for title in mine)
    assert all("SYNTHETIC DATA" in title for title in mine)


def test_a_hostile_group_stays_a_name() -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(1)">|`*'
    result = mixed_study("net")
    (_, found), *_ = mixed_of(result.networks[0])
    first = found.groups[1]
    first.name, first.operations, first.sqnr = evil, [evil, evil], {"W4A8": 1.0, evil: 3.0}
    found.fixed[0].label = found.groups[2].chosen = evil
    document = build(result)
    written = Page(render_html(document))
    assert "img" not in written.tags
    assert sum(attrs.get("type") != "application/json" for attrs, _ in written.scripts) == 2
    told = [text for f in written.figures for trace in f["data"] for text in trace.get("hovertext") or []]
    assert any("alert(1)" in text for text in told)
    assert not any("<script" in text or "<img" in text for text in told)
    assert "<script" not in render_markdown(document)


# ---------------------------------------------------------------- sensitivity


def test_bars_stand_worst_first(mixed_result: StudyResult, look: Look) -> None:
    of = mixed_result.networks[1]
    ((mixed_variant, found),) = mixed_of(of)
    figure = worst_groups(of, mixed_variant, colours([found]), look)
    assert figure is not None
    least = _by_place(figure, "y", "x")
    assert len(least) == MOST_ROWS < len(found.groups)
    assert least == sorted(least)
    every = sorted(min(each.sqnr.values()) for each in found.groups)
    assert least == pytest.approx(every[:MOST_ROWS], rel=1e-4)
    low, high = sorted(figure["layout"]["yaxis"]["range"])
    assert low < 0
    assert high > MOST_ROWS - 1
    assert figure["layout"]["yaxis"]["range"][0] > figure["layout"]["yaxis"]["range"][1]  # the first row on top


def test_bars_stand_in_the_order_of_the_network(mixed_result: StudyResult, look: Look) -> None:
    of = mixed_result.networks[1]
    ((mixed_variant, found),) = mixed_of(of)
    figure = along_network(of, mixed_variant, colours([found]), look)
    assert figure is not None
    assert _by_place(figure, "x", "y") == pytest.approx([min(each.sqnr.values()) for each in found.groups], rel=1e-4)
    assert [trace["name"] for trace in figure["data"]] == ordered(WIDE)[::-1]
    widths = [trace["width"] for trace in figure["data"]]
    assert widths == sorted(set(widths), reverse=True)  # what stands in front is thinner and hides none
    for trace in figure["data"]:
        assert all(found.groups[i].name in text for i, text in zip(trace["x"], trace["hovertext"], strict=True))


def _by_place(figure: Figure, place: str, value: str) -> list[float]:
    least: dict[int, float] = {}
    for trace in figure["data"]:
        for at, height in zip(trace[place], trace[value], strict=True):
            least[at] = min(height, least.get(at, math.inf))
    return [least[at] for at in sorted(least)]


def test_the_worst_groups_are_named_in_words() -> None:
    sentence = worst_sentence([group("b", W8A8=20.0, W4A8=5.0), group("a", "FP32", W8A8=3.0), group("c", W8A8=44.0)])
    assert sentence == (
        "The 3 most sensitive groups are a (3.0 dB at W8A8, chosen FP32); b (5.0 dB at W4A8, chosen W8A8); "
        "c (44.0 dB at W8A8, chosen W8A8)."
    )
    assert len(re.findall(r" dB at ", worst_sentence(groups(40)))) == 5
    assert worst_sentence([group("a")]) == "No group's sensitivity was measured."


def test_what_makes_no_noise_is_not_drawn(look: Look) -> None:
    found = allocation(3)
    found.groups = [group("a", W8A8=math.inf, W4A8=20.0), group("b", W8A8=math.inf), group("c", W8A8=30.0)]
    assert [each.name for each in worst_first(found.groups)] == ["a", "c"]
    of = network("net")
    silent = variant("mixed", 10, 0.9, allocation=found)
    figure = along_network(of, silent, colours([found]), look)
    assert figure is not None
    drawn = {trace["name"]: (trace["x"], trace["y"]) for trace in figure["data"]}
    assert drawn == {"W8A8": ([2], [30.0]), "W4A8": ([0], [20.0])}


@pytest.mark.parametrize("chart_of", [worst_groups, along_network, bits_along_network])
def test_nothing_is_drawn_of_nothing(chart_of: Any, look: Look) -> None:
    assert chart_of(network("net"), variant("mixed", 10, 0.9), {}, look) is None
    empty = allocation(0)
    assert chart_of(network("net"), variant("mixed", 10, 0.9, allocation=empty), {}, look) is None


# ---------------------------------------------------------------- the plan


def test_the_plan_is_drawn_group_by_group(mixed_result: StudyResult, look: Look) -> None:
    of = mixed_result.networks[1]
    ((mixed_variant, found),) = mixed_of(of)
    looks = colours([found])
    figure = bits_along_network(of, mixed_variant, looks, look)
    assert figure is not None
    given: dict[str, dict[int, int]] = {"y": {}, "y2": {}}
    for trace in figure["data"]:
        given[trace.get("yaxis", "y")] |= dict(zip(trace["x"], trace["y"], strict=True))
        assert {found.groups[i].chosen for i in trace["x"]} <= {trace["legendgroup"]}
        assert trace["marker"]["color"] == looks[trace["legendgroup"]]
    bits = [bits_of(each.chosen) for each in found.groups]
    assert given["y"] == {i: each[1] for i, each in enumerate(bits) if each}
    assert given["y2"] == {i: each[0] for i, each in enumerate(bits) if each and found.groups[i].parameters}
    assert looks["FP32"] == KEPT
    assert "FP32, left in floating point" in [trace["name"] for trace in figure["data"]]


def test_the_plan_is_told_with_its_shares() -> None:
    some = [group("a", "W4A8", 300), group("b", "W8A8", 100), group("c", "FP32", 0)]
    assert plan_sentence(some) == (
        "Chosen for the 3 groups: W4A8 for 1 (75.0 % of parameters, 33.3 % of MACs); "
        "W8A8 for 1 (25.0 % of parameters, 33.3 % of MACs); "
        "FP32, left in floating point, for 1 (0.0 % of parameters, 33.3 % of MACs)."
    )


def test_the_table_of_bits_has_a_row_a_group() -> None:
    found = allocation(12, seed=1)
    built = bits_per_group(found)
    titles = [column.title for column in built.columns]
    assert titles[-4:] == ["SQNR at W4A8 (dB)", "SQNR at W8A8 (dB)", "SQNR at W8A16 (dB)", "Time as chosen (ms)"]
    for row, each in zip(built.rows, found.groups, strict=True):
        cells = dict(zip(titles, (cell.text for cell in row), strict=True))
        weight, activation = bits_of(each.chosen) or (0, 0)
        assert cells["Group"] == each.name
        assert cells["Weight bits"] == (str(weight) if each.parameters else numbers.NONE)
        assert cells["Activation bits"] == str(activation)
        assert cells["SQNR at W4A8 (dB)"] == f"{each.sqnr['W4A8']:.1f}"


# ---------------------------------------------------------------- cost against harm


def test_curve_rivals_and_choice_of_all_variants_stand_together(mixed_result: StudyResult, look: Look) -> None:
    of = mixed_result.networks[0]
    figure = by_sqnr(of, look)
    assert figure is not None
    assert {trace["name"] for trace in figure["data"]} == {"mixed", "mixed_adaround"}
    for mixed_variant, found in mixed_of(of):
        traces = [trace for trace in figure["data"] if trace["name"] == mixed_variant.name]
        line, *marks = traces
        walk = sorted((p.relative_bops, p.predicted_sqnr) for p in found.front if p.label == "walk")
        assert list(zip(line["x"], line["y"], strict=True)) == [pytest.approx(each, rel=1e-4) for each in walk]
        star = next(trace for trace in marks if trace["marker"]["symbol"] == "star")
        assert (star["x"], star["y"]) == ([0.4], [pytest.approx(found.chosen.measured_sqnr, rel=1e-4)])
        squares = next(trace for trace in marks if trace["marker"]["symbol"] == "square")
        assert squares["x"] == [1.0, 0.5, 0.25]
        assert sum(trace["showlegend"] for trace in traces) == 1
    labels = [text for trace in figure["data"] for text in trace.get("text", []) if text]
    assert labels == list(NARROW)  # once, although both variants have them
    assert figure["layout"]["xaxis"].get("type") != "log"


def test_costs_far_apart_are_drawn_on_a_logarithmic_scale(look: Look) -> None:
    found = allocation()
    found.fixed[-1].relative_bops = 0.03
    of = network("net").model_copy(update={"variants": [variant("mixed", 10, 0.9, allocation=found)]})
    figure = by_sqnr(of, look)
    assert figure is not None
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert "logarithmic" in figure["layout"]["xaxis"]["title"]["text"]


def test_labels_of_one_cost_do_not_lie_on_one_another(look: Look) -> None:
    found = allocation(candidates=("W8A8", "W8A6", "W6A8"))
    found.fixed[1].measured_sqnr, found.fixed[2].measured_sqnr = 20.0, 20.4
    of = network("net").model_copy(update={"variants": [variant("mixed", 10, 0.9, allocation=found)]})
    figure = by_sqnr(of, look)
    assert figure is not None
    labelled = next(trace for trace in figure["data"] if "text" in trace)
    assert labelled["textposition"] == ["bottom center", "bottom center", "top center"]


def test_scores_are_drawn_of_those_that_have_them(mixed_result: StudyResult, look: Look) -> None:
    figure = by_score(mixed_result.networks[0], "tar@far=1e-3", look)
    assert figure is not None
    assert {trace["name"] for trace in figure["data"]} == {"mixed_adaround"}
    heights = sorted(y for trace in figure["data"] for y in trace["y"])
    assert heights == pytest.approx([92, 94, 96, 97.5, 98])
    assert by_score(mixed_result.networks[1], "tar@far=1e-3", look) is None


@pytest.mark.parametrize(
    ("budget", "metric"),
    [("bops=0.5", None), ("bytes=1200000", None), ("tar@far=1e-3>=0.975", "tar@far=1e-3"), ("eer<=fp32+0.002", "eer")],
)
def test_the_metric_of_a_budget(budget: str, metric: str | None) -> None:
    assert task_metric(allocation(budget=budget)) == metric


# ---------------------------------------------------------------- networks side by side


def test_each_network_has_its_range(mixed_result: StudyResult, look: Look) -> None:
    precision = shared_precision(mixed_result)
    assert precision == "W8A8"
    found = spreads(mixed_result, precision)
    figure = chart(found, precision, look)
    assert sorted(len(trace["x"]) for trace in figure["data"]) == [24, 130]
    for trace, spread, row in zip(figure["data"], found, table(found, precision).rows, strict=True):
        assert trace["x"] == pytest.approx(list(spread.sqnr.values()), rel=1e-4)
        assert row[3].text == f"{min(spread.sqnr.values()):.1f}"
        assert row[7].text == f"{max(spread.sqnr.values()):.1f}"
    assert [spread.quantile(0.5) for spread in found] == sorted(spread.quantile(0.5) for spread in found)


def test_without_a_shared_eight_the_middle_of_what_most_have_is_compared() -> None:
    result = mixed_study()
    for network_study in result.networks:
        for _, found in mixed_of(network_study):
            for each in found.groups:
                each.sqnr.pop("W8A8")
    assert shared_precision(result) == "W8A16"  # the one that both networks have
    assert len(spreads(result, "W8A16")) == 2


def test_a_group_without_weights_counts_at_its_activation_bits() -> None:
    some = [group("conv", W8A8=30.0, W32A8=60.0), group("add", parameters=0, W32A8=40.0), group("mul", W32A8=50.0)]
    assert sqnr_at(some, "W8A8") == {"conv": 30.0, "add": 40.0}


def test_no_section_where_nothing_was_allocated(look: Look) -> None:
    assert across_networks(study("net"), look) is None
    assert mixed_section(network("net"), "network-1-mixed", "accuracy", {}, look) is None


# ---------------------------------------------------------------- the summary


def test_the_summary_has_mixed_and_fixed_variants(mixed_result: StudyResult) -> None:
    of = mixed_result.networks[0]
    built = variants(of, "accuracy", Palette(mixed_result.networks))
    titles = [column.title for column in built.columns]
    assert "Change of TAR@FAR=1e-3 (points), lfw" in titles
    rows = {row[0].text: dict(zip(titles, row, strict=True)) for row in built.rows}
    assert list(rows) == [each.name for each in of.variants]
    assert (rows["fp32"]["r"].text, rows["fp32"]["Bits a weight"].text) == ("8.000", "32.00")
    eight = next(each for each in of.variants if each.name == "int8_static_qdq")
    stored = sum(layer.parameters * (layer.weight_bits or 0) / 8 for layer in eight.layers)
    assert rows["int8_static_qdq"]["r"].text == "0.500"
    assert float(rows["int8_static_qdq"]["Nominal MB"].text) == pytest.approx(stored / 1e6, rel=0.01)
    assert rows["int8_static_qdq"]["Change of TAR@FAR=1e-3 (points), lfw"].tone == "bad"
    assert rows["mixed"]["File MB"].text == "15.87"
    assert rows["mixed"]["SQNR (dB)"].sub == ("predicted 26.0",)


@pytest.mark.parametrize(
    ("compared", "metric"),
    [
        (["accuracy", "tar@far=1e-3", "fnmr@fmr=1e-3"], "tar@far=1e-3"),
        (["accuracy", "tar@far=1e-4", "fnmr@fmr=1e-3"], "fnmr@fmr=1e-3"),
        (["accuracy", "tar@far=1e-4"], "accuracy"),
        ([], "accuracy"),
    ],
)
def test_a_loss_is_stated_at_one_in_a_thousand(compared: list[str], metric: str) -> None:
    verdict: Verdict = "no worse"
    only = variant("int8", 10, 0.9, differences={"lfw": [difference(name, 0.0, 0.1, verdict) for name in compared]})
    assert loss_metric(network("net").model_copy(update={"variants": [only]}), "accuracy") == metric


def test_relative_bops_count_layers_by_their_macs() -> None:
    def layer(macs: int, weight: int | None, activation: int | None) -> Layer:
        return Layer(
            name="a", operation="Conv", parameters=1, macs=macs, weight_bits=weight, activation_bits=activation
        )

    assert relative_bops([layer(300, 8, 8), layer(100, 8, 16), layer(5, None, 8)]) == (300 * 64 + 100 * 128) / 51_200
    assert relative_bops([layer(300, 8, None)]) is None
    assert relative_bops([]) is None


# ---------------------------------------------------------------- names, bits, colours


@pytest.mark.parametrize(
    ("precision", "bits"), [("W4A8", (4, 8)), ("W32A8", (32, 8)), ("FP32", (32, 32)), ("int8", None), ("W4A8x", None)]
)
def test_bits_are_read_from_a_precision(precision: str, bits: tuple[int, int] | None) -> None:
    assert bits_of(precision) == bits


def test_precisions_are_ordered_by_their_bit_operations() -> None:
    assert ordered(["FP32", "W8A16", "W8A6", "W6A8", "W4A4", "W8A8", "W4A4"]) == [
        "W4A4", "W6A8", "W8A6", "W8A8", "W8A16", "FP32",
    ]  # fmt: skip


@pytest.mark.parametrize("candidates", [NARROW, WIDE, WIDE + NARROW + ("W2A8", "W3A8", "W4A16")])
def test_no_two_precisions_share_a_colour(candidates: tuple[str, ...]) -> None:
    looks = colours([allocation(30, candidates)])
    assert set(looks) == {*candidates, "FP32"}
    assert len(set(looks.values())) == len(looks)


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["/net/stage1/a/Conv", "/net/stage2/a/Conv"], ["stage1/a/Conv", "stage2/a/Conv"]),
        (["features.0.conv", "features.0.bn"], ["conv", "bn"]),
        (["conv_1", "conv_2"], ["conv_1", "conv_2"]),
        (["a/", "a/b"], ["a/", "a/b"]),
        (["x" * 30 + "/0", "y" * 30 + "/1"], ["…" + "x" * 21 + "/0", "…" + "y" * 21 + "/1"]),
        ([], []),
    ],
)
def test_names_are_cut_where_they_are_alike(names: list[str], short: list[str]) -> None:
    assert short_names([group(name) for name in names], 24) == short


def test_the_files_are_written(tmp_path: Any) -> None:
    bare = study("net")
    bare.networks[0].variants.append(variant("mixed", 10, 0.9, allocation=allocation(1, ("W8A8",))))
    assert "The most sensitive group is" in write_report(bare, tmp_path).markdown.read_text()
