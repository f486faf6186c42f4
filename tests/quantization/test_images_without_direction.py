"""Images that a network gives zeros or NaN for: left out and counted, or one clear line; never a figure that is NaN."""

from __future__ import annotations

import io
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from veriquant.allocation.sensitivity import noise_ratios, sqnr_db
from veriquant.calibration.equality import check_equal
from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import InputSpec
from veriquant.networks.onnx_file import network_of_onnx
from veriquant.onnxgraph.graph import Graph
from veriquant.recipes import load_recipe

SIDE = 16
SPEC = InputSpec(size=(SIDE, SIDE), mean=(0, 0, 0), std=(255, 255, 255))
#: As little work as each recipe lets itself be told to do.
SHORT = {
    "qat-w4a8": {"epochs": 1, "batch_size": 2},
    "iterative-2bit": {"first_epochs": 1, "epochs": 1, "last_epochs": 1, "stop_after": 1, "batch_size": 2},
    "mixed": {"budget": "bops=0.5"},
    "fixed": {"precision": "W4A8"},
    "int8": {},
    "int8-static": {},
}
WITH_IMAGES = list(SHORT)


def network(kind: str):
    """A convolution and a linear layer without biases; what follows (or precedes) fails on some images.

    'relu': all zero where the linear layer is below a threshold; 'unit': divided by its length, 0/0 for a black image;
    'contrast': the image is divided by its deviation first, 0/0 for one without contrast; 'plain': zeros for black.
    """
    draw = np.random.default_rng(0)
    weights, nodes, source = [], [], "image"

    def constant(name, value):
        weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    if kind == "contrast":
        node("ReduceMean", ["image"], "mean", axes=[1, 2, 3])
        node("Sub", ["image", "mean"], "centred")
        node("Mul", ["centred", "centred"], "squared")
        node("ReduceMean", ["squared"], "variance", axes=[1, 2, 3])
        node("Sqrt", ["variance"], "deviation")
        source = node("Div", ["centred", "deviation"], "standardised")
    node("Conv", [source, constant("w1", draw.normal(size=(8, 3, 3, 3)) / 5)], "c1", strides=[2, 2], pads=[1] * 4)
    node("Relu", ["c1"], "r1")
    node("Flatten", ["r1"], "flat")
    last = "embedding" if kind in ("plain", "contrast") else "linear"
    node("Gemm", ["flat", constant("w2", draw.normal(size=(8, 512)) / 20)], last, transB=1)
    if kind == "relu":
        node("Add", ["linear", constant("down", np.full(8, -0.2))], "lower")
        node("Relu", ["lower"], "embedding")
    if kind == "unit":
        node("ReduceL2", ["linear"], "length", axes=[1])
        node("Div", ["linear", "length"], "embedding")
    ends = [("image", ["n", 3, SIDE, SIDE]), ("embedding", ["n", 8])]
    inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in ends)
    graph = helper.make_graph(nodes, kind, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return network_of_onnx(model.SerializeToString(), SPEC, name=kind, source=f"{kind}.onnx")


def images(*kinds: str) -> Calibration:
    """Pictures, each 'drawn', or of one colour: 'black' or 'grey'."""
    samples = []
    for number, kind in enumerate(kinds):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        colour = {"black": 0, "grey": 128}.get(kind)
        pixels = coarse if colour is None else np.full_like(coarse, colour)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(buffer, "PNG")
        samples.append(Sample(f"{kind}-{number}", content=buffer.getvalue()))
    return Calibration("drawn", tuple(samples), 0, "0" * 64, len(samples), len(samples))


def told(made) -> str:
    return "\n".join([*made.notes, *(layer.reason for layer in made.layers)])


@pytest.mark.parametrize("kind", ["relu", "unit", "contrast", "plain"])
@pytest.mark.parametrize("name", WITH_IMAGES)
def test_such_images_are_left_out_counted_and_named(name, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path))
    calibration = images(*["drawn"] * 6, *["black"] * 3)
    recipe = load_recipe(name, overrides=SHORT[name])
    made = recipe.apply(network(kind), calibration)
    assert "3 of 9 calibration images left out" in made.notes[0]
    assert "black-6, black-7, black-8" in made.notes[0]
    assert not re.search(r"\b(nan|inf)\b", told(made), re.IGNORECASE)
    assert made.allocation is None or "NaN" not in made.allocation.model_dump_json()


@pytest.mark.parametrize("name", WITH_IMAGES)
@pytest.mark.parametrize("kinds", [["grey"] * 6, ["black"] * 5 + ["drawn"]], ids=["none", "one"])
def test_where_nothing_is_left_it_is_one_line(name, kinds, tmp_path, monkeypatch):
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path))
    recipe = load_recipe(name, overrides=SHORT[name])
    if len(set(kinds)) > 1 and name == "int8-static":  # one image is enough for this one
        assert "5 of 6 calibration images left out" in told(recipe.apply(network("contrast"), images(*kinds)))
        return
    with pytest.raises(VeriQuantError, match=r"can be used|that the network gives no direction for|tensor '") as caught:
        recipe.apply(network("contrast"), images(*kinds))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_images_of_one_colour_are_no_trouble_where_the_network_has_none(name, tmp_path, monkeypatch):
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path))
    made = load_recipe(name, overrides=SHORT[name]).apply(network("plain"), images(*["grey"] * 6))
    assert not any("left out" in note for note in made.notes)
    assert not re.search(r"\b(nan|inf)\b", told(made), re.IGNORECASE)


def test_noise_of_what_is_lost_is_that_of_the_opposite():
    full = np.array([[1, 2], [3, 4], [0, 0], [np.nan, 1]], "f")
    ratios = noise_ratios(full, np.array([[1, 2], [np.nan, 0], [1, 1], [1, 1]], "f"))
    assert ratios.tolist() == [1e-14, 4.0]
    assert np.isfinite(sqnr_db(ratios))
    with pytest.raises(VeriQuantError, match="no signal"):
        noise_ratios(full[2:], full[:2])


def test_a_rewrite_must_fail_where_the_network_fails():
    found = network("relu")
    dark = Graph.from_bytes(found.onnx)
    check_equal(found, dark)
    for bias in (np.full(8, -9.0), np.full(8, np.nan)):
        other = Graph.from_bytes(found.onnx)
        other.constants["down"] = bias.astype(np.float32)
        with pytest.raises(VeriQuantError, match="rewriting changed"):
            check_equal(found, other)
