from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from quantization_networks import hard_model, inputs, network, pictures

from veriquant.calibration.equality import check_equal
from veriquant.deploy.sessions import embeddings_of
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites import fold_batchnorm, merge_clips, rewrite_prelu
from veriquant.recovery.equalise_activations import equalise_activations


def kinds(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def assert_same_function(graph: Graph, content: bytes, tolerance: float = 2e-5) -> None:
    batch = inputs(6)
    before, after = embeddings_of(content, batch), embeddings_of(graph.to_bytes(), batch)
    assert np.abs(before - after).max() <= tolerance * np.abs(before).max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slopes", ["any", "inside"])
def test_all_rewrites_together_keep_the_function(slopes: str, seed: int) -> None:
    content = hard_model(slopes, seed)
    graph = Graph.from_bytes(content)
    assert fold_batchnorm(graph) == 3
    assert merge_clips(graph) == 1
    assert equalise_activations(graph, inputs(4)) > 0
    assert rewrite_prelu(graph) == 3
    assert not {"BatchNormalization", "PRelu"} & set(kinds(graph))
    assert_same_function(graph, content)


def test_batchnorm_with_no_layer_before_it_becomes_a_depthwise_convolution() -> None:
    graph = Graph.from_bytes(hard_model())
    fold_batchnorm(graph)
    parts = [node for node in graph.nodes if node.name == "n4::scale"]
    assert [node.op_type for node in parts] == ["Conv"]
    assert_same_function(graph, hard_model())


def test_prelu_slopes_beyond_one_are_brought_inside_where_the_neighbours_allow() -> None:
    graph = Graph.from_bytes(hard_model("any"))
    fold_batchnorm(graph)
    rewrite_prelu(graph)
    names = {node.name for node in graph.nodes}
    # p1 and p2 lie between convolutions alone; p3 feeds an addition as well, and needs the second convolution.
    assert "p1::turn" not in names
    assert "p2::turn" not in names
    assert "p3::turn" in names
    assert_same_function(graph, hard_model("any"))


@pytest.mark.parametrize(
    ("inner", "outer"), [((0.0, np.inf), (-np.inf, 6.0)), ((-1.0, 2.0), (3.0, 5.0)), ((0.0, 1.0), (-1.0, 0.5))]
)
def test_merged_clips_clip_alike(inner: tuple[float, float], outer: tuple[float, float]) -> None:
    from onnx import TensorProto, helper, numpy_helper

    def clip(x: str, y: str, bounds: tuple[float, float]) -> tuple[object, list[TensorProto]]:
        names = [f"{y}.{i}" if np.isfinite(b) else "" for i, b in enumerate(bounds)]
        given = [numpy_helper.from_array(np.float32(b).reshape(()), n) for n, b in zip(names, bounds, strict=True) if n]
        return helper.make_node("Clip", [x, *names], [y], y), given

    first, a = clip("x", "m", inner)
    second, b = clip("m", "y", outer)
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1])] for name in "xy"]
    model = helper.make_model(
        helper.make_graph([first, second], "clips", ends[0], ends[1], a + b),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    graph = Graph(model)
    assert merge_clips(graph) == 1
    values = np.linspace(-9, 9, 73, dtype=np.float32).reshape(-1, 1)
    expected = np.clip(np.clip(values, *inner), *outer)
    assert np.array_equal(embeddings_of(graph.to_bytes(), values), expected)


def test_equalising_narrows_the_spread_of_channels() -> None:
    content = hard_model(uneven=300.0)
    graph = Graph.from_bytes(content)
    fold_batchnorm(graph)
    batch = inputs(8)

    def spread(g: Graph) -> float:
        value = embeddings_tensor(g, "n1", batch)
        widths = np.abs(value).max(axis=(0, 2, 3))
        return float(widths.max() / np.median(widths))

    before = spread(graph)
    equalise_activations(graph, batch)
    assert spread(graph) < before / 3
    assert_same_function(graph, content)


def embeddings_tensor(graph: Graph, name: str, batch: np.ndarray) -> np.ndarray:
    from veriquant.deploy.sessions import watch

    return np.concatenate([values[name] for values in watch(graph, [name], batch)])


def test_a_weight_behind_a_transpose_is_found_and_quantized() -> None:
    from veriquant.recipes import load_recipe

    graph = Graph.from_bytes(hard_model())
    node = next(n for n in graph.nodes if n.name == "g7")
    weight = graph.weight(node)
    assert weight is not None
    graph.constants["turned"] = np.ascontiguousarray(weight.T)
    node.input[1] = "w7.back"
    graph.replace(node, [helper.make_node("Transpose", ["turned"], ["w7.back"], "turn", perm=[1, 0]), node])
    hidden = graph.to_bytes()
    assert_same_function(graph, hard_model())
    made = load_recipe("int8-static", overrides={"images": 4}).apply(network(hidden), pictures(4))
    assert {i.data_type for i in onnx.load_model_from_string(made.onnx).graph.initializer if i.dims == [8, 32]} == {3}


def test_a_rewrite_that_changed_the_function_would_be_refused() -> None:
    from veriquant.errors import VeriQuantError

    content = hard_model()
    graph = Graph.from_bytes(content)
    fold_batchnorm(graph)
    node = next(n for n in graph.nodes if n.name == "c4")
    weight = graph.weight(node)
    assert weight is not None
    graph.set_weight(node, 1, weight * 1.01)
    with pytest.raises(VeriQuantError, match="rewriting changed the embeddings"):
        check_equal(network(content), graph)
