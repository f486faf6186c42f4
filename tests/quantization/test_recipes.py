from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from quantization_networks import hard_model, inputs, network, pictures

from veriquant.baselines import BASELINES
from veriquant.calibration.context import QuantizationContext
from veriquant.data.calibration import Calibration
from veriquant.data.training_set import from_calibration
from veriquant.deploy.runtimes import open_embedder
from veriquant.deploy.sessions import embeddings_of
from veriquant.errors import VeriQuantError
from veriquant.exports.qdq import Kernels, insert_qdq
from veriquant.metrics.directions import mean_cosine
from veriquant.networks.input_stamp import read_stamp
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites import fold_batchnorm
from veriquant.recipes import load_recipe, shipped_recipes

#: The least mean cosine to full precision that each recipe must keep on the hard network of these tests.
FAITHFUL = {
    "fp32": 1 - 1e-7,
    "fp32-fast": 1 - 1e-6,
    "int8-dynamic": 0.8,
    "int8-static": 0.8,
    "int8": 0.99,
    "fixed": 0.98,
    "mixed": 0.98,
    "mixed-adaround": 0.98,
    # One batch of 27 images trains these, or the names of two people who do not exist: that they run is what is tested.
    "mixed-qat": 0.99,
    "qat-w4a8": 0.9,
    "qat-w2a8": 0.4,
    "iterative-2bit": 0.0,
    "kolf-iterative": 0.0,
    "kolf-fixed-w8a8": 0.6,
    "kolf-fixed-w6a6": 0.6,
    "kolf-fixed-w4a4": 0.5,
}


def known_people(images: Calibration) -> QuantizationContext:
    """Return where the file will run, with the images' people, two of them, for recipes that need to know."""
    plain = from_calibration(images)
    labels = np.arange(len(plain), dtype=np.int64) % 2
    return QuantizationContext(training_set=replace(plain, labels=labels, classes=2))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Training goes on where an earlier run stopped: each test has to train for itself."""
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_makes_a_file_that_runs_and_keeps_the_embeddings(name: str) -> None:
    content = hard_model(uneven=4.0)
    images = pictures(40)
    made = load_recipe(name).apply(network(content), images, known_people(images))
    onnx.checker.check_model(onnx.load_model_from_string(made.onnx))
    batch = inputs(16)
    assert mean_cosine(embeddings_of(content, batch), embeddings_of(made.onnx, batch)) > FAITHFUL[name]
    assert {layer.name for layer in made.layers} >= {"c1", "p1", "c6", "g7"}
    stamped = read_stamp(onnx.load_model_from_string(made.onnx), "made")
    assert stamped is not None
    assert stamped.size == (32, 32)


# int8 chooses among kernels by measured time; what it builds from a choice is tested below.
@pytest.mark.parametrize("name", sorted(shipped_recipes().keys() - {"int8"}))
def test_a_recipe_gives_the_same_file_twice(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content, images = hard_model(), pictures(12)
    recipe = load_recipe(name)
    first = recipe.apply(network(content), images, known_people(images)).onnx
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "another cache"))
    assert recipe.apply(network(content), images, known_people(images)).onnx == first


def test_int8_with_chosen_kernels_gives_the_same_file_twice() -> None:
    content = hard_model()
    recipe = load_recipe("int8", overrides={"kernels": ["U8U8"], "images": 16, "check_images": 8})
    assert recipe.apply(network(content), pictures(24)).onnx == recipe.apply(network(content), pictures(24)).onnx


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "entropy"])
def test_static_calibrates_by_each_of_the_tools_methods(calibration: str) -> None:
    content = hard_model(uneven=2.0)
    recipe = load_recipe("int8-static", overrides={"calibration": calibration, "images": 20})
    made = recipe.apply(network(content), pictures(20))
    batch = inputs(8)
    assert mean_cosine(embeddings_of(content, batch), embeddings_of(made.onnx, batch)) > 0.8


def test_int8_leaves_the_most_harmful_operations_in_float_and_no_more() -> None:
    content = hard_model(uneven=4.0)
    settings = {"kernels": ["U8U8"], "target_cosine": 0.9994, "most_in_float": 0.7, "images": 32, "check_images": 16}
    made = load_recipe("int8", overrides=settings).apply(network(content), pictures(48))
    measured = sorted((layer for layer in made.layers if layer.error is not None), key=lambda layer: -layer.error)
    kept = [layer.name for layer in measured if layer.kept_float]
    assert 0 < len(kept) < len(measured)
    assert set(kept) == {layer.name for layer in measured[: len(kept)]}
    assert all(layer.reason for layer in made.layers if layer.kept_float)
    easy = load_recipe("int8", overrides={**settings, "target_cosine": 0.5}).apply(network(content), pictures(48))
    batch = inputs(32)
    reference = embeddings_of(content, batch)
    with_float, without = (embeddings_of(file.onnx, batch) for file in (made, easy))
    assert not any(layer.kept_float for layer in easy.layers)
    assert mean_cosine(reference, with_float) > mean_cosine(reference, without)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_laid_out_for_the_runtime_that_it_is_for(runtime: str) -> None:
    pytest.importorskip(runtime)
    content = hard_model()
    made = load_recipe("int8").apply(network(content), pictures(40), QuantizationContext(runtime))
    kinds = [node.op_type for node in onnx.load_model_from_string(made.onnx).graph.node]
    assert ("PRelu" in kinds) == (runtime == "openvino")
    batch = inputs(16)
    embedder = open_embedder(made.onnx, network(content).spec, runtime=runtime)
    assert mean_cosine(embeddings_of(content, batch), embedder(batch)) > 0.98


@pytest.mark.parametrize("exact", [False, True])
def test_int8_never_chooses_weights_that_could_saturate(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    monkeypatch.setattr("veriquant.exports.runtime_kernels.has_integer_dot_product", lambda: exact)
    made = load_recipe("int8").apply(network(hard_model("inside", uneven=1.5)), pictures(40))
    note = next(note for note in made.notes if note.startswith("kernels "))
    assert note.startswith(("kernels U8S8 with weights scaled pair by pair,", "kernels U8U8,"))
    assert ("U8S8: cosine" in note) != exact


def test_int8_says_for_which_runtimes_it_knows_kernels() -> None:
    with pytest.raises(VeriQuantError, match="no kernels of pytorch; there are: onnxruntime, openvino"):
        load_recipe("int8").apply(network(hard_model()), pictures(8), QuantizationContext("pytorch"))


def test_a_layer_kept_in_float_is_computed_in_float() -> None:
    """ONNX Runtime would quantize it itself, per tensor, between its quantized neighbours."""
    content = hard_model("inside", uneven=300.0)
    graph = Graph.from_bytes(content)
    fold_batchnorm(graph)
    batch = inputs(24)
    names = {t for n in graph.nodes for t in (*n.input, *n.output) if t and t not in graph.constants}
    from veriquant.deploy.sessions import watch

    spans: dict[str, tuple[float, float]] = {}
    for values in watch(graph, sorted(names - {graph.input, graph.output}), batch):
        for name, value in values.items():
            low, high = spans.get(name, (0.0, 0.0))
            spans[name] = min(low, float(value.min())), max(high, float(value.max()))
    output = embeddings_of(content, batch)
    spans[graph.input], spans[graph.output] = (-1.0, 1.0), (float(output.min()), float(output.max()))
    kept = insert_qdq(graph, spans, Kernels("QUInt8", "QUInt8"), keep_float={"c2"})
    as_deployed = embeddings_of(kept, batch)
    as_written = embeddings_of(kept, batch, integers=False)
    assert mean_cosine(as_written, as_deployed) > 0.999


def test_calibration_is_asked_for_where_it_is_needed() -> None:
    with pytest.raises(VeriQuantError, match="needs calibration images"):
        load_recipe("int8").apply(network(hard_model()), None)
    load_recipe("fp32").apply(network(hard_model()), None)


def test_a_single_calibration_image_is_too_few_for_int8() -> None:
    with pytest.raises(VeriQuantError, match="at least 2"):
        load_recipe("int8").apply(network(hard_model()), pictures(1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x\nmethod: int8\nsettings: {targt_cosine: 0.9}", "targt_cosine"),
        ("name: x\nmethod: int9", "unknown method 'int9'"),
        ("name: x\nmethod: int8\nsetings: {}", "setings"),
        ("name: [", "not YAML"),
        ("name: x\nmethod: int8-static\nsettings: {images: 0}", "images"),
    ],
)
def test_a_wrong_recipe_file_is_answered_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(VeriQuantError, match=expected) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)


def test_every_baseline_has_a_shipped_recipe() -> None:
    shipped = [recipe.baseline_parts for recipe in shipped_recipes().values()]
    assert {parts[0].name for parts in shipped if parts is not None} == set(BASELINES)


def test_unknown_kernels_are_named() -> None:
    with pytest.raises(VeriQuantError, match="unknown integer kernels 'U4U4'"):
        load_recipe("int8", overrides={"kernels": ["U4U4"], "images": 8, "check_images": 4})


def test_the_tools_own_weights_are_int8_per_channel() -> None:
    made = load_recipe("int8-static", overrides={"images": 8}).apply(network(hard_model()), pictures(8))
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load_model_from_string(made.onnx).graph.initializer}
    codes = [v for v in stored.values() if v.dtype == np.int8 and v.ndim == 4]
    assert len(codes) >= 5
    assert any(v.ndim == 1 and v.dtype == np.float32 and len(v) == 32 for v in stored.values())
