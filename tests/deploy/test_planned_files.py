"""A network under a plan as a file: every scheme at every width, in stock ONNX Runtime, against the simulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from hand_made import (
    DIM,
    NETWORKS,
    SIDE,
    Sketch,
    cosines,
    fitted,
    in_onnxruntime,
    pixels,
    residual_concat,
)
from packed_parts import file_parts

from veriquant.deploy.pack import pack_planned
from veriquant.errors import VeriQuantError
from veriquant.schemes import SCHEMES
from veriquant.simulation import Precision, QuantizerCache

IMAGES = pixels(16, seed=5)
#: Bits of activations; 32 is floating point.
ACTIVATIONS = (4, 6, 8, 16, 32)
SCHEMES_AND_WIDTHS = [
    (name, bits) for name in SCHEMES if SCHEMES.get(name).fit_weight for bits in SCHEMES.get(name).widths
]
INTEGERS = "onnxruntime-x86"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made() -> QuantizerCache:
    """The network that holds all at once; what is fitted once serves all tests."""
    return fitted(residual_concat(), ranges="minmax")


def both(made: QuantizerCache, precision: Precision, scheme: str = "symmetric") -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of the file and of the simulation, every group at one precision."""
    plan = made.plan(dict.fromkeys(made.simulation.groups, precision))
    for group in plan.groups.values():
        group.scheme = scheme
    simulated = made.simulation.embed(IMAGES, made.planned(plan))
    return in_onnxruntime(pack_planned(made.simulation, made, plan), IMAGES), simulated


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize(("scheme", "bits"), SCHEMES_AND_WIDTHS)
def test_the_file_computes_what_was_simulated(made: QuantizerCache, scheme: str, bits: int, activations: int) -> None:
    found, simulated = both(made, Precision(bits, activations), scheme)
    assert cosines(found, simulated).min() >= 0.9999
    if scheme != "kmeans" and bits <= 8 and activations <= 8:
        # Sums of codes are exact: the same codes come out of every layer.
        np.testing.assert_allclose(found, simulated, rtol=1e-5, atol=1e-5 * np.abs(simulated).max())


@pytest.mark.parametrize("precision", ["W8A8", "W4A8", "W4A4", "W2A6", "W3A16", "W8A32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_structure_survives_packing(name: str, precision: str) -> None:
    made = fitted(NETWORKS[name](), ranges="minmax")
    found, simulated = both(made, Precision.parse(precision))
    assert cosines(found, simulated).min() >= 0.9999
    full = in_onnxruntime(NETWORKS[name](), IMAGES)
    assert np.abs(found - full).max() > 10 * np.abs(found - simulated).max()


def gemm_with_factors(alpha: float, beta: float, turned: int) -> bytes:
    net = Sketch()
    net.op("Relu", [net.conv("image", "c1", 3, 4)], "r1")
    net.op("Flatten", ["r1"], "flat")
    rows, outputs = 4 * SIDE * SIDE, 10
    shape = (outputs, rows) if turned else (rows, outputs)
    weight = net.constant("g_w", net.draw.standard_normal(shape) * 0.1)
    bias = net.constant("g_b", net.draw.standard_normal(outputs))
    net.op("Gemm", ["flat", weight, bias], "g1", alpha=alpha, beta=beta, transB=turned)
    net.op("Relu", ["g1"], "r2")
    net.op("Gemm", ["r2", net.weight("e_w", DIM, outputs)], "embedding", transB=1)
    return net.bytes()


@pytest.mark.parametrize("target", ["generic", INTEGERS])
@pytest.mark.parametrize("precision", ["W8A8", "W4A16", "W8A32"])
@pytest.mark.parametrize(("alpha", "beta", "turned"), [(0.5, 1.0, 1), (1.0, 3.0, 0), (0.25, 2.0, 0), (1.0, 1.0, 0)])
def test_factors_and_layouts_of_a_gemm_survive_packing(
    alpha: float, beta: float, turned: int, precision: str, target: str
) -> None:
    made = fitted(gemm_with_factors(alpha, beta, turned), target, ranges="minmax")
    found, simulated = both(made, Precision.parse(precision))
    scale = np.abs(simulated).max()
    np.testing.assert_allclose(found, simulated, atol=0.03 * scale if target == INTEGERS else 1e-3 * scale)


@pytest.mark.parametrize("name", ["plain", "residual", "concat", "residual_concat"])
@pytest.mark.parametrize("precision", ["W8A8", "W4A8"])
def test_files_for_integer_kernels_run_in_them_and_are_near(name: str, precision: str, tmp_path) -> None:
    import onnxruntime as ort

    made = fitted(NETWORKS[name](), INTEGERS, ranges="minmax")
    precisions = {
        group: Precision.parse(precision)
        for group, members in made.simulation.groups.items()
        if Precision.parse(precision) in members.candidates
    }
    plan = made.plan(precisions)
    content = pack_planned(made.simulation, made, plan)
    simulated = made.simulation.embed(IMAGES, made.planned(plan))
    assert cosines(in_onnxruntime(content, IMAGES), simulated).min() >= 0.999
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node)
    assert kinds["QLinearConv"] + kinds["QGemm"] >= 1


def test_mixed_widths_and_schemes_in_one_file(made: QuantizerCache) -> None:
    widths = [Precision.parse(text) for text in ("W8A8", "W4A8", "W6A6", "W3A4", "FP32", "W8A16", "W2A8")]
    groups = list(made.simulation.groups)
    for shift in range(len(widths)):
        plan = made.plan({name: widths[(i + shift) % len(widths)] for i, name in enumerate(groups)})
        plan.groups[groups[shift % len(groups)]].scheme = "kmeans" if shift % 2 else "asymmetric"
        if plan.groups[groups[shift % len(groups)]].precision().weight_bits == 16:
            continue
        simulated = made.simulation.embed(IMAGES, made.planned(plan))
        found = in_onnxruntime(pack_planned(made.simulation, made, plan), IMAGES)
        assert cosines(found, simulated).min() >= 0.9999


def test_a_plan_of_nothing_is_the_network_itself(made: QuantizerCache) -> None:
    content = pack_planned(made.simulation, made, made.plan({}))
    full = in_onnxruntime(residual_concat(), IMAGES)
    np.testing.assert_allclose(in_onnxruntime(content, IMAGES), full, rtol=1e-4, atol=1e-5)


def test_a_group_switched_off_is_left_in_float(made: QuantizerCache) -> None:
    plan = made.plan(dict.fromkeys(made.simulation.groups, Precision(4, 4)))
    plan.groups["c4"].enabled = False
    content = pack_planned(made.simulation, made, plan)
    simulated = made.simulation.embed(IMAGES, made.planned(plan))
    assert cosines(in_onnxruntime(content, IMAGES), simulated).min() >= 0.9999
    parts = file_parts(content)
    assert parts.numbers > 4 * made.simulation.weighted("c4").weight.numel()


def test_fewer_bits_are_smaller_files_that_hold_their_codes(made: QuantizerCache) -> None:
    simulation = made.simulation
    count = sum(simulation.weighted(name).weight.numel() for g in simulation.groups.values() for name in g.weights)
    sizes = {}
    for bits in (8, 4, 2, 1):
        scheme = "kmeans" if bits == 1 else "symmetric"
        plan = made.plan(dict.fromkeys(simulation.groups, Precision(bits, 32)))
        for group in plan.groups.values():
            group.scheme = scheme
        parts = file_parts(pack_planned(simulation, made, plan))
        sizes[bits] = parts.codes
        assert parts.codes >= count * bits / 8
    assert sizes[8] > sizes[4] > sizes[2]
    assert sizes[8] == pytest.approx(count, rel=0.1)
    assert sizes[4] == pytest.approx(count / 2, rel=0.15)


def test_the_same_plan_gives_the_same_bytes() -> None:
    one, other = fitted(residual_concat()), fitted(residual_concat())
    precisions = dict.fromkeys(one.simulation.groups, Precision(4, 6))
    first = pack_planned(one.simulation, one, one.plan(precisions))
    assert first == pack_planned(other.simulation, other, other.plan(precisions))


def test_the_file_runs_one_image_and_many(made: QuantizerCache) -> None:
    plan = made.plan(dict.fromkeys(made.simulation.groups, Precision(4, 8)))
    content = pack_planned(made.simulation, made, plan)
    onnx.checker.check_model(onnx.load_model_from_string(content))
    many = in_onnxruntime(content, IMAGES)
    alone = np.concatenate([in_onnxruntime(content, IMAGES[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(many[:3], alone, rtol=1e-6, atol=1e-6)


def test_an_activation_scheme_without_uniform_levels_is_one_line() -> None:
    made = fitted(residual_concat(), activation_scheme="kmeans")
    with pytest.raises(VeriQuantError, match="kmeans") as raised:
        pack_planned(made.simulation, made, made.plan({"c1": Precision(8, 8)}))
    assert "\n" not in str(raised.value)
