"""The methods `fixed` and `mixed`: budgets are kept, nothing fixed is better, a plan gives its file again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from quantization_networks import SIDE, hard_model, inputs, network, pictures

from veriquant.allocation import parse_budget
from veriquant.benchmarks import load_benchmark
from veriquant.benchmarks.synthetic import demo_benchmark, demo_calibration
from veriquant.calibration.config import ActivationsConfig, CalibrationConfig
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.model import calibrate_model
from veriquant.calibration.result import QuantizationResult
from veriquant.data.calibration import load_calibration
from veriquant.deploy.runtimes import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.evaluation import evaluate
from veriquant.evaluation.judge import Judge
from veriquant.exports.group_latency import group_milliseconds
from veriquant.metrics import Options
from veriquant.networks import load_network
from veriquant.networks.onnx_file import network_of_onnx
from veriquant.recipes import load_recipe
from veriquant.recovery import RECOVERIES
from veriquant.recovery.equalise import EqualiseConfig
from veriquant.simulation import TARGETS, Costs, Precision, load_plan

#: Few images and the quickest range rule: these tests are about what is done with what was measured.
FEW = {"images": 8, "check_images": 4, "sensitivity_images": 4, "ranges": "minmax"}
NETWORK = network(hard_model(uneven=4.0))
PICTURES = pictures(12)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(runs_on: QuantizationContext | None = None, **settings: object) -> QuantizationResult:
    return load_recipe("mixed", overrides={**FEW, **settings}).apply(NETWORK, PICTURES, runs_on)


@pytest.fixture(scope="module")
def demo():
    """The demo's network, a dozen images, and a judge on the small benchmark."""
    return load_network("demo-mobilefacenet"), demo_calibration(12), Judge(demo_benchmark("small"))


@pytest.fixture(scope="module")
def tiny(world: Path):
    """A network of three layers, its photos, and a judge on drawn people: an evaluation takes no time."""
    return (
        load_network(world / "tiny.onnx"),
        load_calibration(world / "photos", 12),
        Judge(load_benchmark(f"lfw:{world}/lfw")),
    )


# ------------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("target", ["generic", "wide", "onnxruntime-x86"])
@pytest.mark.parametrize("ratio", [0.3, 0.45, 0.5, 0.8])
def test_a_budget_of_bops_is_kept_and_nothing_fixed_within_it_is_better(ratio: float, target: str) -> None:
    found = made(budget=f"bops={ratio}", target=target)
    assert found.allocation is not None
    chosen = found.allocation.chosen
    assert chosen.relative_bops <= ratio * (1 + 1e-9)
    assert chosen.measured_sqnr is not None
    within = [each for each in found.allocation.fixed if each.relative_bops <= ratio]
    for each in within:
        assert each.measured_sqnr is not None
        assert chosen.measured_sqnr >= each.measured_sqnr - 1e-6, each.label
    assert within or ratio < 0.5


def test_a_larger_budget_is_spent() -> None:
    figures = [made(budget=f"bops={ratio}").allocation.chosen for ratio in (0.25, 0.5, 1.0)]
    assert figures[0].relative_bops < figures[1].relative_bops < figures[2].relative_bops
    assert figures[0].measured_sqnr < figures[2].measured_sqnr
    assert figures[2].relative_bops == pytest.approx(1.0)


def test_a_budget_of_bytes_holds_for_the_file_that_is_written() -> None:
    whole, least = len(made(budget="bops=1").onnx), len(made(budget="bops=0.25").onnx)
    assert least < whole
    sizes = []
    for budget in np.linspace(least, whole, 5).round().astype(int):
        found = made(budget=f"bytes={budget}")
        assert len(found.onnx) <= budget
        assert found.allocation.file_bytes == len(found.onnx)
        sizes.append(len(found.onnx))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    with pytest.raises(VeriQuantError, match="nearest there is, the file has") as raised:
        made(budget="bytes=1000")
    nearest = int(re.search(r"the file has (\d+) bytes", str(raised.value))[1])
    assert nearest <= least
    assert len(made(budget=f"bytes={nearest}").onnx) <= nearest


def test_what_cannot_be_met_names_the_nearest_which_can() -> None:
    with pytest.raises(VeriQuantError, match=r"least possible is bops=0\.25") as raised:
        made(budget="bops=0.2")
    assert "\n" not in str(raised.value)
    assert made(budget="bops=0.25").allocation.chosen.relative_bops == pytest.approx(0.25)


def test_the_candidates_may_be_chosen() -> None:
    found = made(budget="bops=0.35", candidates=["W8A8", "W6A6", "W3A8"])
    assert {group.chosen for group in found.allocation.groups} <= {"W8A8", "W6A6", "W3A8"}
    assert [each.label for each in found.allocation.fixed] == ["fixed W8A8", "fixed W6A6", "fixed W3A8"]
    assert set(found.allocation.groups[0].sqnr) == {"W8A8", "W6A6", "W3A8"}


@pytest.mark.parametrize("allocation", ["greedy", "ilp", "best"])
def test_each_way_to_allocate_keeps_the_budget(allocation: str) -> None:
    found = made(budget="bops=0.4", allocation=allocation)
    assert found.allocation.chosen.relative_bops <= 0.4
    assert allocation == "best" or found.allocation.search == allocation


def test_the_list_may_be_sorted_by_fit() -> None:
    found = made(budget="bops=0.5", metric="fit")
    assert found.allocation.metric == "fit"
    assert found.allocation.chosen.relative_bops <= 0.5
    assert made(budget="bops=0.5").allocation.metric == "sqnr"


# --------------------------------------------------------------------------------------------------------- task targets


def test_a_task_target_is_met_at_less_than_the_highest_precision(demo) -> None:
    loaded, calibration, judge = demo
    recipe = load_recipe("mixed", overrides={**FEW, "budget": "accuracy>=fp32-0.02"})
    assert recipe.judged()
    found = recipe.apply(loaded, calibration, QuantizationContext("onnxruntime", 1, judge))
    chosen = found.allocation.chosen
    full = judge(open_embedder(loaded.onnx, loaded.spec, threads=1), "accuracy")
    assert chosen.score is not None
    assert chosen.score >= full - 0.02
    assert chosen.relative_bops < 1
    # The file is as good as the search said.
    written = judge(open_embedder(found.onnx, loaded.spec, threads=1), "accuracy")
    assert written == pytest.approx(chosen.score, abs=0.005)
    assert any("evaluations of accuracy" in note for note in found.notes)


def test_a_task_target_beyond_reach_names_the_nearest(tiny) -> None:
    loaded, calibration, judge = tiny
    recipe = load_recipe("mixed", overrides={**FEW, "budget": "accuracy>=1", "candidates": ["W2A4"]})
    with pytest.raises(VeriQuantError, match=r"nothing meets accuracy>=1 .*gives accuracy 0\.\d+, the nearest"):
        recipe.apply(loaded, calibration, QuantizationContext("onnxruntime", 1, judge))


def test_the_list_may_be_sorted_by_the_task(tiny) -> None:
    loaded, calibration, judge = tiny
    overrides = {
        **FEW,
        "sensitivity_images": 12,
        "budget": "bops=0.5",
        "metric": "task",
        "candidates": ["W8A8", "W3A8"],
    }
    recipe = load_recipe("mixed", overrides=overrides)
    assert recipe.judged()
    found = recipe.apply(loaded, calibration, QuantizationContext("onnxruntime", 1, judge))
    assert found.allocation.metric == "eer"
    assert found.allocation.chosen.relative_bops <= 0.5


@pytest.mark.parametrize("settings", [{"budget": "eer<=0.1"}, {"metric": "task"}])
def test_what_is_evaluated_needs_a_benchmark(settings: dict) -> None:
    with pytest.raises(VeriQuantError, match=r"--benchmark"):
        made(**settings)


def test_a_judge_gives_the_figure_and_names_what_it_has_not(tiny) -> None:
    loaded, _, judge = tiny
    embedder = open_embedder(loaded.onnx, loaded.spec, threads=1)
    expected = evaluate(loaded, judge.benchmark, options=Options(far=(0.2,), resamples=0)).metrics
    for metric in ("accuracy", "eer", "tar@far=2e-1"):
        assert judge(embedder, metric) == pytest.approx(expected[metric].value, abs=1e-6)
    with pytest.raises(VeriQuantError, match="gives no nonsense"):
        judge(embedder, "nonsense")


def test_a_judges_sample_holds_people_with_several_images(tiny) -> None:
    loaded, _, judge = tiny
    sampled = judge.sample(loaded.spec, 12)
    assert 12 <= len(sampled.images) < 20
    np.testing.assert_array_equal(sampled.images, judge.sample(loaded.spec, 12).images)
    draw = np.random.default_rng(0)
    persons = judge.benchmark.persons[judge._people(12, 0)]
    assert sampled.score(np.eye(len(judge.benchmark.persons), dtype=np.float32)[persons]) == 1.0
    assert 0.2 < sampled.score(draw.standard_normal((len(persons), 64)).astype(np.float32)) < 0.8


# -------------------------------------------------------------------------------------------------------------- latency


def test_a_budget_of_latency_is_kept_or_names_the_nearest() -> None:
    settings = {**FEW, "target": "onnxruntime-x86", "budget": "latency=3x"}
    found = load_recipe("mixed", overrides=settings).apply(NETWORK, PICTURES, QuantizationContext("onnxruntime", 1))
    assert any("ms in the groups in floating point" in note for note in found.notes)
    assert all(group.milliseconds for group in found.allocation.groups if group.sqnr)
    with pytest.raises(
        VeriQuantError, match=r"nothing meets latency=0\.001x.*nearest there is, the file has [\d.e-]+x"
    ):
        made(**{**settings, "budget": "latency=0.001x"})


@pytest.mark.parametrize(
    ("target", "runtime"), [("generic", "onnxruntime"), ("wide", "onnxruntime"), ("onnxruntime-x86", "openvino")]
)
def test_latency_needs_kernels_that_can_be_timed(target: str, runtime: str) -> None:
    with pytest.raises(VeriQuantError, match="choose target onnxruntime-x86"):
        made(QuantizationContext(runtime, 1), target=target, budget="latency=0.5x")


def test_nearly_all_the_time_belongs_to_groups() -> None:
    from veriquant.deploy.profiling import profile

    loaded, calibration = load_network("demo-mobilefacenet"), demo_calibration(6)
    model = calibrate_model(
        loaded,
        calibration,
        TARGETS.get("onnxruntime-x86"),
        images=CalibrationConfig(images=4, check_images=2),
        activations=ActivationsConfig(ranges="minmax"),
    )
    times = group_milliseconds(model, QuantizationContext("onnxruntime", 1))
    in_float = {name: by_width[Precision(32, 32)] for name, by_width in times.groups.items()}
    whole = sum(node.milliseconds for node in profile(model.simulation.graph.to_bytes(), loaded.spec, runs=10).nodes)
    assert sum(in_float.values()) >= 0.8 * (sum(in_float.values()) + times.rest)
    assert sum(in_float.values()) == pytest.approx(whole, rel=0.6)
    for name, group in model.simulation.groups.items():
        assert set(times.groups[name]) == set(group.candidates)
        if any(model.simulation.layers[each].macs for each in group.operations):
            assert in_float[name] > 0, name


# ---------------------------------------------------------------------------------------------------------------- fixed


@pytest.mark.parametrize("precision", ["W8A8", "W4A8", "W3A16", "W8A32", "FP32"])
def test_one_precision_for_the_whole_network(precision: str) -> None:
    found = _fixed(precision=precision)
    assert found.plan is not None
    wanted = Precision.parse(precision)
    for group in found.plan.groups.values():
        assert group.weight_bits == (wanted.weight_bits if group.weights and wanted.weight_bits < 32 else None)
    assert any("dB signal to quantization noise" in note for note in found.notes)


def _fixed(**settings: object) -> QuantizationResult:
    few = {name: value for name, value in FEW.items() if name != "sensitivity_images"}
    return load_recipe("fixed", overrides={**few, **settings}).apply(NETWORK, PICTURES)


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": "bops=0.4"},
        {"budget": "bops=0.5", "weight_scheme": "asymmetric", "ranges": "mse"},
        {"budget": "bops=0.5", "target": "onnxruntime-x86"},
        {"budget": "bops=0.4", "equalise": "none"},
        {"budget": "bops=0.4", "rounding": "adaround", "bias_correction": True},
    ],
)
def test_a_plan_followed_again_gives_the_same_bytes(settings: dict, tmp_path: Path) -> None:
    first = load_recipe("mixed", overrides={**FEW, **settings}).apply(NETWORK, PICTURES)
    assert first.plan is not None
    first.plan.save(tmp_path / "plan.json")
    again = followed(tmp_path / "plan.json")
    assert again.onnx == first.onnx
    assert again.plan == first.plan


def followed(plan: Path) -> QuantizationResult:
    """Return what a plan gives: it brings schemes, ranges and target with it."""
    few = {name: value for name, value in FEW.items() if name not in ("sensitivity_images", "ranges")}
    return load_recipe("fixed", overrides={**few, "plan": str(plan)}).apply(NETWORK, PICTURES)


def test_a_plan_edited_by_hand_is_followed(tmp_path: Path) -> None:
    first = made(budget="bops=0.5")
    first.plan.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    content["groups"]["c4"].update(enabled=False)
    (tmp_path / "plan.json").write_text(json.dumps(content))
    again = followed(tmp_path / "plan.json")
    layers = {layer.name: layer for layer in again.layers}
    assert layers["c4"].kept_float
    assert layers["c4"].weight_bits == 32
    assert not layers["c1"].kept_float
    assert len(again.onnx) > len(first.onnx)
    assert load_plan(tmp_path / "plan.json") == again.plan


@pytest.mark.parametrize(
    ("key", "value"),
    [("equalise", "bananas"), ("weight_scheme", "bananas"), ("activation_scheme", "kmeans"), ("ranges", "bananas"),
     ("target", "bananas"), ("rounding", "bananas")],
)  # fmt: skip
def test_a_plan_with_a_setting_that_does_not_exist_is_one_line(key: str, value: str, tmp_path: Path) -> None:
    made(budget="bops=0.5").plan.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    content[key] = value
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(VeriQuantError) as raised:
        _fixed(plan=str(tmp_path / "plan.json"))
    assert value in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_plan_of_another_network_is_refused_and_of_other_weights_noted(tmp_path: Path) -> None:
    made(budget="bops=0.5").plan.save(tmp_path / "plan.json")
    few = {"images": 8, "check_images": 4, "plan": str(tmp_path / "plan.json")}
    other = load_network("demo-mobilefacenet")
    with pytest.raises(VeriQuantError, match="another network"):
        load_recipe("fixed", overrides=few).apply(other, demo_calibration(12))
    retrained = network(hard_model(seed=3, uneven=4.0))
    object.__setattr__(retrained, "digest", "1" * 64)
    found = load_recipe("fixed", overrides=few).apply(retrained, PICTURES)
    assert any("with other weights" in note for note in found.notes)


# ------------------------------------------------------------------------------------------------ what is said and kept


def test_what_is_told_of_a_mixed_network_is_true() -> None:
    found = made(budget="bops=0.4")
    allocation = found.allocation
    model = calibrate_model(
        NETWORK,
        PICTURES,
        TARGETS.get("generic"),
        images=CalibrationConfig(images=8, check_images=4),
        activations=ActivationsConfig(ranges="minmax"),
        graph_steps=[RECOVERIES.get("equalise").step(EqualiseConfig())],
    )
    precisions = found.plan.precisions()
    costs = Costs(model.simulation)
    assert allocation.chosen.relative_bops == pytest.approx(costs.relative_bops(precisions))
    assert allocation.chosen.nominal_bytes == pytest.approx(costs.nominal_bytes(precisions))
    assert allocation.average_bits == pytest.approx(costs.average_bits(precisions))
    _, sqnr = model.noise_under(model.quantizers.planned(found.plan))
    assert allocation.chosen.measured_sqnr == pytest.approx(sqnr, abs=1e-3)
    assert {group.name: group.chosen for group in allocation.groups} == {
        name: str(precision) if model.simulation.groups[name].weights else group_width(allocation, name)
        for name, precision in precisions.items()
    }
    assert found.plan.note["budget"] == "bops=0.4"
    costs_along = [point.relative_bops for point in allocation.front if point.label == "greedy"]
    assert costs_along == sorted(costs_along, reverse=True)
    assert sum(layer.parameters for layer in found.layers) > 0
    errors = {layer.name: layer.error for layer in found.layers if layer.error is not None}
    assert errors
    assert all(0 < error < 10 for error in errors.values())


def group_width(allocation, name: str) -> str:
    return next(group.chosen for group in allocation.groups if group.name == name)


def test_the_written_file_carries_its_input_and_runs() -> None:
    found = made(budget="bops=0.5")
    opened = network_of_onnx(found.onnx, name="mixed", source="mixed.onnx")
    assert opened.spec.size == (SIDE, SIDE)
    embeddings = open_embedder(found.onnx, opened.spec, threads=1)(inputs(4))
    assert embeddings.shape == (4, 8)
    assert np.isfinite(embeddings).all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"budget": "bops=half"}, "bops"),
        ({"budget": "speed=1"}, "speed"),
        ({"budget": "eer>=0.1"}, "eer"),
        ({"candidates": ["W8"]}, "W8"),
        ({"metric": "guess"}, "unknown sensitivity 'guess'"),
        ({"allocation": "guess"}, "allocation"),
        ({"search": "guess"}, "guess"),
        ({"target": "guess"}, "guess"),
        ({"weight_scheme": "guess"}, "guess"),
        ({"ranges": "guess"}, "guess"),
        ({"rounding": "guess"}, "rounding"),
        ({"equalise": "guess"}, "equalise"),
        ({"images": 0}, "images"),
        ({"check_images": 0}, "check_images"),
        ({"sensitivity_images": 0}, "allocation.sensitivity.sqnr.images"),
        ({"bugdet": "bops=0.5"}, "bugdet"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict, named: str) -> None:
    with pytest.raises(VeriQuantError) as raised:
        load_recipe("mixed", overrides=settings)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_image_is_too_few() -> None:
    with pytest.raises(VeriQuantError, match="at least 2 are needed"):
        load_recipe("mixed", overrides=FEW).apply(NETWORK, pictures(1))


def test_the_shipped_budget_reads_back() -> None:
    budget = load_recipe("mixed").settings()["allocation"]["budget"]
    assert str(parse_budget(budget)) == budget
