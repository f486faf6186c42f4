"""Mixtures of widths as bytes: the round trip, the size, what is damaged, and the planes for stock runtimes."""

from __future__ import annotations

import math
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from scipy.special import gammaln

from veriquant.deploy.pack.masked import decode, encode, entropy_bytes
from veriquant.deploy.pack.masked_planes import plane_bytes, planes_opset, write_masked
from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.deploy.pack.weights import write_codes
from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import Graph
from veriquant.schemes import DorefaQuantizer
from veriquant.schemes.mixed_step import MixedStepQuantizer

HEAD = 6


def mixture(count: int, among: tuple[int, ...] = (2, 4, 8), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the widths and codes of normal weights under DoReFa, the wide ones the large ones."""
    weight = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    place = weight.abs().argsort().argsort() * len(among) // count
    widths = torch.tensor(among, dtype=torch.uint8)[place]
    return widths.numpy(), DorefaQuantizer(widths).own_codes(weight).numpy()


def learned_bytes(symbols: np.ndarray, size: int) -> float:
    """Return what symbols cost under counts of all that came before each and a half (Krichevsky and Trofimov)."""
    counts = np.bincount(symbols, minlength=size)
    total = gammaln(len(symbols) + size / 2) - gammaln(size / 2) - (gammaln(counts + 0.5) - gammaln(0.5)).sum()
    return float(total) / math.log(2) / 8


shapes = st.lists(st.integers(0, 7), min_size=0, max_size=4).map(tuple)


@settings(max_examples=80, deadline=None)
@given(shapes, st.lists(st.integers(1, 8), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_what_is_decoded_is_what_was_encoded(shape: tuple[int, ...], among: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    widths = draw.choice(np.array(among, np.uint8), size=shape).astype(np.uint8).reshape(shape)
    codes = (draw.integers(0, 256, size=shape) % (1 << widths.astype(np.int64))).astype(np.uint8).reshape(shape)
    content = encode(widths, codes)
    for found, expected in zip(decode(content, shape), (widths, codes), strict=True):
        assert found.dtype == np.uint8
        assert found.shape == shape
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("among", [(2, 4, 8), (2,), (2, 4), (8,), (2, 3, 6)])
@pytest.mark.parametrize("count", [500, 20_000, 300_000])
def test_the_size_is_that_of_the_best_adaptive_code(count: int, among: tuple[int, ...]) -> None:
    widths, codes = mixture(count, among)
    ideal = learned_bytes(np.searchsorted(among, widths), len(among)) if len(among) > 1 else 0.0
    ideal += sum(learned_bytes(codes[widths == width], 1 << width) for width in among)
    size = len(encode(widths, codes))
    assert size <= 1.003 * ideal + HEAD + 12
    assert size >= entropy_bytes(widths, codes)


@pytest.mark.parametrize("among", [(2, 4, 8), (2, 4), (2,)])
def test_a_large_tensor_comes_within_a_half_per_cent_of_its_entropy(among: tuple[int, ...]) -> None:
    widths, codes = mixture(300_000, among)
    entropy = entropy_bytes(widths, codes)
    assert entropy < len(encode(widths, codes)) < 1.005 * entropy


def test_entropy_is_that_of_the_pair() -> None:
    widths = np.array([2, 2, 8, 8] * 50, np.uint8)
    assert entropy_bytes(widths, np.array([0, 1, 0, 1] * 50, np.uint8)) == pytest.approx(200 * 2 / 8)
    assert entropy_bytes(widths, np.zeros(200, np.uint8)) == pytest.approx(200 * 1 / 8)
    assert entropy_bytes(np.zeros(0, np.uint8), np.zeros(0, np.uint8)) == 0


def test_one_width_and_one_code_cost_next_to_nothing() -> None:
    widths = np.full(100_000, 2, np.uint8)
    assert len(encode(widths, np.zeros_like(widths))) < HEAD + 12


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_in_one_line(data: st.DataObject) -> None:
    widths, codes = mixture(400)
    content = bytearray(encode(widths, codes))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VeriQuantError) as error:
        decode(bytes(content), widths.shape)
    assert "\n" not in str(error.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_give_a_clear_error_or_weights_that_were_meant(content: bytes, count: int) -> None:
    for head in (b"", b"\x01\x8a"):
        try:
            widths, codes = decode(head + content, (count,))
        except VeriQuantError:
            continue
        assert encode(widths, codes) == head + content


@pytest.mark.parametrize("shape", [(399,), (401,), (0,), (20, 21)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    widths, codes = mixture(400)
    content = encode(widths, codes)
    assert decode(content, (20, 20))[0].shape == (20, 20)
    with pytest.raises(VeriQuantError, match="damaged"):
        decode(content, shape)


def test_another_version_is_named() -> None:
    content = encode(*mixture(10))
    with pytest.raises(VeriQuantError, match="version 9, expected 1"):
        decode(b"\x09" + content[1:], (10,))


@pytest.mark.parametrize(
    ("widths", "codes"),
    [([2], [4]), ([0], [0]), ([9], [0]), ([2, 2], [1])],
)
def test_codes_beyond_their_width_are_the_callers_mistake(widths: list[int], codes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"width|shape"):
        encode(np.array(widths, np.uint8), np.array(codes, np.uint8))


def test_without_the_coder_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(*mixture(10))
    monkeypatch.setitem(sys.modules, "constriction", None)
    for attempt in (lambda: encode(*mixture(10)), lambda: decode(content, (10,))):
        with pytest.raises(VeriQuantError, match=r"pip install 'veriquant\[train\]'"):
            attempt()


# --- planes ----------------------------------------------------------------------------------------------------------


def graph_of(weight: torch.Tensor, quantizer: DorefaQuantizer) -> Graph:
    """Return a graph whose output is the input plus the weight in whole numbers, stored in planes."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, list(weight.shape))
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, list(weight.shape))
    start = helper.make_graph([helper.make_node("Identity", ["image"], ["sum"], "sum")], "g", [image], [output])
    opset = max(planes_opset(quantizer.widths.numpy()), 17)
    graph = Graph(helper.make_model(start, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))
    parts = Parts("sum", Pool(graph))
    codes = quantizer.own_codes(weight).numpy()
    made = write_masked(parts, quantizer.widths.numpy(), codes, quantizer.levels_by_width())
    parts.add("Add", ["image", made], "add", "sum")
    graph.replace(graph.nodes[0], parts.nodes)
    return graph


def session_of(graph: Graph, optimized: str | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = optimized
    return ort.InferenceSession(graph.to_model().SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("among", [(2, 4, 8), (2, 4), (4,), (8,), (2, 3, 6), (2, 3, 4, 6, 8)])
def test_onnxruntime_puts_planes_together_as_whole_numbers(among: tuple[int, ...], tmp_path) -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    picks = np.random.default_rng(0).choice(among, size=weight.shape)
    quantizer = DorefaQuantizer(torch.from_numpy(picks.astype(np.uint8)))
    where = tmp_path / "optimized.onnx"
    session = session_of(graph_of(weight, quantizer), str(where))
    found = session.run(None, {"image": np.zeros(weight.shape, np.float32)})[0]
    np.testing.assert_array_equal(found, quantizer.integers(weight).numpy())
    # All of it is computed on loading: what is left adds two tensors.
    assert [node.op_type for node in onnx.load(where).graph.node] == ["Add"]


@pytest.mark.parametrize("among", [(2, 4, 8), (2, 4), (2,)])
def test_the_planes_take_as_many_bytes_as_is_said(among: tuple[int, ...]) -> None:
    weight = torch.randn(40_000, generator=torch.Generator().manual_seed(0)).reshape(200, 200)
    widths, _ = mixture(40_000, among)
    quantizer = DorefaQuantizer(torch.from_numpy(widths.reshape(200, 200)))
    said = plane_bytes(widths)
    mask = {1: 0, 2: 1, 3: 2}[len(among)]
    assert said == pytest.approx(40_000 * (mask + widths.mean()) / 8, abs=4)
    held = len(graph_of(weight, quantizer).to_model().SerializeToString())
    assert said < held < said + 4000
    assert len(encode(widths, quantizer.own_codes(weight).numpy().ravel())) < said


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("among", [(2, 4, 8), (2, 4), (4, 8), (8,), (2,)])
def test_onnxruntime_puts_grids_of_their_own_together_when_it_loads_the_file(
    among: tuple[int, ...], transposed: bool, tmp_path
) -> None:
    weight = torch.randn(6, 45, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 6)[:, None]
    picks = torch.from_numpy(np.random.default_rng(0).choice(among, size=weight.shape).astype(np.uint8))
    codes = MixedStepQuantizer(weight, picks).codes(weight)
    shape = weight.T.shape if transposed else weight.shape
    image, output = (helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("image", "sum"))
    start = helper.make_graph([helper.make_node("Identity", ["image"], ["sum"], "sum")], "g", [image], [output])
    opset = max(planes_opset(picks.numpy()), 17)
    graph = Graph(helper.make_model(start, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))
    parts = Parts("sum", Pool(graph))
    parts.add("Add", ["image", write_codes(parts, codes, transposed)], "add", "sum")
    graph.replace(graph.nodes[0], parts.nodes)
    where = tmp_path / "optimized.onnx"
    found = session_of(graph, str(where)).run(None, {"image": np.zeros(shape, np.float32)})[0]
    expected = codes.integers().numpy()
    np.testing.assert_array_equal(found, expected.T if transposed else expected)
    assert [node.op_type for node in onnx.load(where).graph.node] == ["Add"]
