"""A packed ONNX file computes what was simulated, in the size that its bits say."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from packed_network import (
    CASES,
    WEIGHTED,
    codebook,
    compute,
    cosines,
    images,
    levels,
    network,
    outputs_first,
    run,
    session,
    symmetric,
    weights,
)
from packed_parts import file_parts

from veriquant.deploy.pack import PackedActivation, PackedWeight, pack_onnx
from veriquant.deploy.pack.integer import bias_codes, integer_weight
from veriquant.onnxgraph.graph import Graph
from veriquant.schemes.codes import Codes

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8)
OPSETS = {1: 18, 2: 25, 3: 25, 4: 21, 5: 21, 6: 25, 7: 25, 8: 17, 12: 21, 16: 17}


def optimized(content: bytes, folder: Path) -> onnx.GraphProto:
    """Return what ONNX Runtime makes of a model when it loads it."""
    file = folder / "optimized.onnx"
    session(content, str(file))
    return onnx.load(file).graph


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_weights_of_any_width_and_kind_are_loaded_as_what_they_decode_to(kind: str, bits: int, tmp_path: Path) -> None:
    graph, x = network(), images()
    packed = weights(graph, kind, bits)
    content = pack_onnx(graph, packed, {})
    np.testing.assert_allclose(run(content, x), compute(graph, x, packed, {}), rtol=2e-4, atol=2e-4)
    # Nothing is left to do at each inference: the kernels stand as in the float network, on ordinary initializers.
    loaded, plain = optimized(content, tmp_path), optimized(graph.to_bytes(), tmp_path)
    assert Counter(n.op_type for n in loaded.node) == Counter(n.op_type for n in plain.node)
    kernels = [n for n in loaded.node if n.op_type.removeprefix("Fused") in ("Conv", "Gemm", "MatMul")]
    for name, node in zip(WEIGHTED, kernels, strict=True):
        stored = next(i for i in loaded.initializer if i.name == node.input[1])
        values = onnx.numpy_helper.to_array(stored)
        decoded = packed[name].codes.decode().numpy()
        np.testing.assert_array_equal(values, decoded if values.shape == decoded.shape else decoded.T)


@pytest.mark.parametrize("activation_bits", [4, 6, 8, 12, 16])
@pytest.mark.parametrize("bits", [1, 3, 4, 8])
@pytest.mark.parametrize("kind", ["symmetric", "asymmetric", "codebook"])
def test_activations_are_quantized_as_simulated(kind: str, bits: int, activation_bits: int) -> None:
    graph, x = network(), images()
    packed = weights(graph, kind, bits)
    quantized = levels(graph, packed, activation_bits)
    expected = compute(graph, x, packed, quantized)
    assert cosines(run(pack_onnx(graph, packed, quantized), x), expected).min() > 0.9999
    assert cosines(compute(graph, x, packed, {}), expected).min() < 0.99999999


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kind", ["symmetric", "whole"])
def test_integer_kernels_are_exact_up_to_the_rounding_of_the_bias(kind: str, bits: int, tmp_path: Path) -> None:
    graph, x = network(), images()
    packed = weights(graph, kind, bits, integer=True)
    quantized = levels(graph, packed, 8)
    content = pack_onnx(graph, packed, quantized)
    kinds = Counter(n.op_type for n in optimized(content, tmp_path).node)
    assert (kinds["QLinearConv"], kinds["QGemm"], kinds["MatMulIntegerToFloat"]) == (2, 2, 1)
    expected = compute(_bias_on_steps(graph, packed, quantized), x, packed, quantized)
    assert cosines(run(content, x), expected).min() > 0.9999


@pytest.mark.parametrize("activation_bits", [3, 4, 6])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integer_kernels_take_activations_of_fewer_bits(bits: int, activation_bits: int) -> None:
    graph, x = network(), images(60)
    packed = weights(graph, "symmetric", bits, integer=True)
    quantized = levels(graph, packed, activation_bits)
    actual = run(pack_onnx(graph, packed, quantized), x)
    on_steps = compute(_bias_on_steps(graph, packed, quantized), x, packed, quantized)
    simulated, exact = compute(graph, x, packed, quantized), compute(graph, x, packed, {})
    noise = ((simulated - exact) ** 2).sum()
    assert ((actual - on_steps) ** 2).sum() < 0.001 * noise
    # The rounded bias takes a few values over half a level, where the next tensor rounds them the other way: another
    # embedding, as near to the one without quantized activations.
    assert ((actual - simulated) ** 2).sum() < 0.25 * noise
    assert cosines(actual, exact).mean() == pytest.approx(cosines(simulated, exact).mean(), abs=0.003)


def test_weights_of_8_bits_do_not_saturate() -> None:
    """Codes at both ends of their ranges: two products of 255 · 127 are more than 16 bits hold."""
    graph = network()
    largest = torch.full((16, 8, 3, 3), 255, dtype=torch.int32)
    codes = Codes(largest, 8, torch.ones(16) / 127, torch.full((16,), 128), axis=0)
    packed = {"conv": PackedWeight(codes, integer=True)}
    quantized = {"x": PackedActivation(1 / 255, 0, 8), "conv_y": PackedActivation(72 / 255, 0, 8)}
    x = np.ones((1, 8, 10, 10), np.float32)
    np.testing.assert_allclose(
        run(pack_onnx(graph, packed, quantized), x), compute(graph, x, packed, quantized), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_an_operation_that_stays_in_float_is_not_quantized_by_the_runtime(bits: int, tmp_path: Path) -> None:
    graph = network()
    quantized = levels(graph, {}, bits)
    content = pack_onnx(graph, {}, quantized)
    assert not {"QLinearConv", "QGemm", "ConvInteger"} & {n.op_type for n in optimized(content, tmp_path).node}
    assert cosines(run(content, images()), compute(graph, images(), {}, quantized)).min() > 0.9999


def test_nodes_of_the_bypass_read_the_tensor_in_float() -> None:
    graph, x = network(), images()
    quantized = {name: each for name, each in levels(graph, {}, 3).items() if name == "prelu_y"}
    results = {}
    for bypass in ((), ("add",), ("depthwise", "add")):
        results[bypass] = compute(graph, x, {}, quantized, bypass)
        assert cosines(run(pack_onnx(graph, {}, quantized, bypass=bypass), x), results[bypass]).min() > 0.999999
    assert cosines(results[()], results["add",]).min() < 0.9999
    np.testing.assert_array_equal(results["depthwise", "add"], compute(graph, x, {}, {}))


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_input_and_output_can_be_quantized_and_keep_names_and_type(bits: int) -> None:
    graph, x = network(), images()
    result = compute(graph, x, {}, {})
    scale = float(np.float32((result.max() - result.min()) / ((1 << bits) - 1)))
    quantized = {
        "x": PackedActivation(8 / ((1 << bits) - 1), 1 << bits - 1, bits),
        "matmul_y": PackedActivation(scale, round(-result.min() / scale), bits),
    }
    content = pack_onnx(graph, {}, quantized)
    opened = session(content)
    assert [(t.name, t.type) for t in (*opened.get_inputs(), *opened.get_outputs())] == [
        ("x", "tensor(float)"),
        ("matmul_y", "tensor(float)"),
    ]
    actual = run(content, x)
    np.testing.assert_allclose(actual, compute(graph, x, {}, quantized), atol=1.01 * scale)
    assert len(np.unique(actual)) <= 1 << bits


@pytest.mark.parametrize("bits", OPSETS)
def test_the_opset_is_raised_no_further_than_needed_and_the_file_is_valid(bits: int) -> None:
    graph = network()
    model = onnx.load_model_from_string(pack_onnx(graph, weights(graph, "symmetric", bits), {}))
    assert model.opset_import[0].version == OPSETS[bits]
    onnx.checker.check_model(model, full_check=True)
    quantized = onnx.load_model_from_string(pack_onnx(graph, {}, levels(graph, {}, 16)))
    assert quantized.opset_import[0].version == 21


@pytest.mark.parametrize("bits", [*WIDTHS, 12])
def test_codes_take_their_bits_and_no_more(bits: int) -> None:
    graph = network()
    one = {"gemm_plain": PackedWeight(symmetric(outputs_first(graph, "gemm_plain"), bits))}
    parts = file_parts(pack_onnx(graph, one, {}))
    stored = 48 * 40 * bits / 8
    # Besides codes, integers are the shape and the places of single bits, 33 bytes at most.
    assert stored <= parts.codes <= stored + 33
    kept = file_parts(graph.to_bytes())
    assert parts.numbers - (kept.numbers - 48 * 40 * 4) <= 40 * 4 + 3 * 4


def test_a_weight_that_two_operations_share_is_stored_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "w"], ["y"], "second"),
    ]
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
    model = helper.make_graph(nodes, "twice", info[:1], info[1:], [onnx.numpy_helper.from_array(weight, "w")])
    graph = Graph(helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    codes = codebook(torch.tensor(weight.T.copy()), 4)
    # Also when the operation that comes later is named first.
    content = pack_onnx(graph, {name: PackedWeight(codes) for name in ("second", "first")}, {})
    assert file_parts(content).codes == 64 * 64 // 2
    onnx.checker.check_model(content)  # also: what is made stands before what uses it
    x = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    value = codes.decode().numpy().T
    np.testing.assert_allclose(run(content, x), np.maximum(x @ value, 0) @ value, rtol=1e-4, atol=1e-4)


def test_biases_of_the_caller_replace_the_networks() -> None:
    graph, x = network(), images()
    packed = weights(graph, "symmetric", 4)
    biases = {"conv": np.linspace(-1, 1, 16, dtype=np.float32), "pointwise": np.ones(16, np.float32)}
    expected = graph.copy()
    for node in expected.nodes:
        if node.name in biases:
            expected.set_weight(node, 2, biases[node.name])
    actual = run(pack_onnx(graph, packed, {}, biases=biases), x)
    assert cosines(actual, compute(expected, x, packed, {})).min() > 0.999999
    assert cosines(actual, compute(graph, x, packed, {})).min() < 0.9999


def test_halves_shrink_what_is_not_codes_and_hardly_change_the_embedding() -> None:
    graph, x = network(), images()
    packed = weights(graph, "symmetric", 4)
    full, halved = pack_onnx(graph, packed, {}), pack_onnx(graph, packed, {}, halves=True)
    assert len(halved) < len(full)
    assert cosines(run(halved, x), run(full, x)).min() > 0.99999


def test_numbers_that_float16_holds_are_stored_so_unasked_and_unchanged() -> None:
    graph, x = network(), images()
    codes = symmetric(outputs_first(graph, "gemm"), 4)
    exact = {"gemm": PackedWeight(dataclasses.replace(codes, scale=codes.scale.half().float()))}
    plain, small = (file_parts(pack_onnx(graph, each, {})) for each in ({"gemm": PackedWeight(codes)}, exact))
    assert plain.numbers - small.numbers == 48 * 2
    np.testing.assert_allclose(run(pack_onnx(graph, exact, {}), x), compute(graph, x, exact, {}), rtol=2e-4, atol=2e-4)


def test_a_scale_too_small_for_float16_stays_float32() -> None:
    graph, x = network(), images()
    codes = symmetric(outputs_first(graph, "gemm"), 4)
    packed = {"gemm": PackedWeight(dataclasses.replace(codes, scale=codes.scale * 1e-7))}
    biases = {"gemm": np.zeros(48, np.float32), "gemm_plain": np.zeros(40, np.float32)}
    expected = run(pack_onnx(graph, packed, {}, biases=biases), x)
    assert cosines(run(pack_onnx(graph, packed, {}, biases=biases, halves=True), x), expected).min() > 0.99999


def test_what_has_no_integer_kernel_computes_in_float(tmp_path: Path) -> None:
    graph, x = network(), images()
    for kind, bits, activation_bits in (("asymmetric", 4, 8), ("codebook", 4, 8), ("symmetric", 8, 16)):
        packed = weights(graph, kind, bits, integer=True)
        quantized = levels(graph, packed, activation_bits)
        content = pack_onnx(graph, packed, quantized)
        assert not {"QLinearConv", "QGemm"} & {n.op_type for n in optimized(content, tmp_path).node}
        assert cosines(run(content, x), compute(graph, x, packed, quantized)).min() > 0.9999


def test_a_bias_beyond_32_bits_keeps_its_operation_in_float() -> None:
    graph, x = network(), images()
    packed = weights(graph, "symmetric", 4, integer=True)
    tiny = packed["conv"].codes.scale.clone()
    tiny[0] = 1e-12
    packed["conv"] = PackedWeight(dataclasses.replace(packed["conv"].codes, scale=tiny), integer=True)
    quantized = levels(graph, packed, 8)
    assert cosines(run(pack_onnx(graph, packed, quantized), x), compute(graph, x, packed, quantized)).min() > 0.999


def test_names_and_shapes_that_do_not_fit_are_refused() -> None:
    graph = network()
    packed = weights(graph, "symmetric", 4)
    with pytest.raises(ValueError, match="add is no Conv"):
        pack_onnx(graph, {"add": packed["conv"]}, {})
    with pytest.raises(ValueError, match=r"conv: codes of shape \(48, 32\)"):
        pack_onnx(graph, {"conv": packed["gemm"]}, {})
    with pytest.raises(ValueError, match="no tensor"):
        pack_onnx(graph, {}, {"nowhere": PackedActivation(1.0, 0, 8)})
    with pytest.raises(ValueError, match="zero point"):
        PackedActivation(1.0, 16, 4)


def test_operations_keep_their_names_and_the_graph_given_is_not_changed() -> None:
    graph = network()
    before = graph.to_bytes()
    packed = weights(graph, "symmetric", 3, integer=True)
    model = onnx.load_model_from_string(pack_onnx(graph, packed, levels(graph, packed, 4)))
    assert {node.name for node in graph.nodes} <= {node.name for node in model.graph.node}
    assert {node.name for node in model.graph.node} == {node.name for node in graph.nodes} | {""}
    assert graph.to_bytes() == before


def _bias_on_steps(graph: Graph, packed: dict[str, PackedWeight], quantized: dict[str, PackedActivation]) -> Graph:
    """Return the network with the biases of its integer kernels rounded to what they are stored as."""
    reads = {"conv": "x", "depthwise": "prelu_y", "gemm": "pool_y", "gemm_plain": "gemm_y"}
    rounded = graph.copy()
    for node in rounded.nodes:
        if node.name in reads:
            form = integer_weight(packed[node.name].codes, exact=True)
            step, bias = quantized[reads[node.name]].scale, graph.weight(node, 2)
            assert form is not None
            assert bias is not None
            rounded.set_weight(node, 2, bias_codes(bias, form, step) * (np.float32(step) * form.scale))
    return rounded
