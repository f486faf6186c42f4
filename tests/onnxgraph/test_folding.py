"""Folding what depends on no value of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from onnx_pieces import images, model_of, run

from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites import fold_constants


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def folded(model: onnx.ModelProto, *, counts: tuple[int, ...] = (1, 2, 5)) -> Graph:
    graph = Graph(model)
    fold_constants(graph)
    for count in counts:
        x = images(count)
        np.testing.assert_allclose(run(graph.to_model(), x), run(model, x), rtol=1e-5, atol=1e-5)
    return graph


def kinds(graph: Graph) -> list[str]:
    return [n.op_type for n in graph.nodes]


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_operators_that_no_simulation_knows_fold_on_constants() -> None:
    nodes = [
        node("CumSum", "ones axis", "counted"),
        node("Trilu", "counted", "lower", upper=0),
        node("Transpose", "lower", "turned"),
        node("MatMul", "x turned", "y"),
    ]
    graph = folded(model_of(nodes, {"ones": np.ones((8, 8), np.float32), "axis": np.array(1)}))
    assert kinds(graph) == ["MatMul"]
    np.testing.assert_array_equal(graph.weight(graph.nodes[0]), np.tril(np.cumsum(np.ones((8, 8)), 1)).T)


def test_a_constant_is_not_blown_up() -> None:
    graph = folded(model_of([node("Expand", "one shape", "wide"), node("Add", "x wide", "y")],
                            {"one": np.float32(1), "shape": whole(64, 4, 6, 8)}), counts=(64,))  # fmt: skip
    assert kinds(graph) == ["Expand", "Add"]


def positions() -> list[NodeProto]:
    """A position for every place, counted up from ones in the size of the image and of the batch, as EdgeNeXt does."""
    return [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n"),
        node("Gather", "shape two", "h"),
        node("Gather", "shape three", "w"),
        *(node("Unsqueeze", f"{name} axis0", f"{name}1") for name in "nhw"),
        node("Concat", "n1 h1 w1", "nhw", axis=0),
        node("ConstantOfShape", "nhw", "noughts"),
        node("Cast", "noughts", "mask", to=TensorProto.BOOL),
        node("Not", "mask", "all"),
        node("Cast", "all", "ones", to=TensorProto.FLOAT),
        node("CumSum", "ones one", "rows"),
        node("Sin", "rows", "waves"),
        node("Unsqueeze", "waves axis1", "place"),
    ]


CONSTANTS = {
    "zero": np.array(0), "one": np.array(1), "two": np.array(2), "three": np.array(3), "axis0": whole(0),
    "axis1": whole(1),
}  # fmt: skip


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_positions_that_depend_on_the_batch_become_one_row(batch: int | str) -> None:
    nodes = [*positions(), node("Add", "x place", "y")]
    counts = (1, 2, 5) if batch == "n" else (int(batch),)
    graph = folded(model_of(nodes, CONSTANTS, batch=batch), counts=counts)
    assert kinds(graph) == ["Add"]


def test_positions_joined_to_the_images_keep_their_rows() -> None:
    nodes = [*positions(), node("Concat", "x place", "y", axis=1)]
    graph = folded(model_of(nodes, CONSTANTS))
    assert "Concat" in kinds(graph)


@pytest.mark.parametrize("rest", [(-1,), (4, -1), (24, 8), (2, 2, -1, 8)])
def test_a_shape_that_repeats_the_number_of_images_becomes_a_pattern(rest: tuple[int, ...]) -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape start end", "n"),
        node("Concat", "n rest", "wanted", axis=0),
        node("Reshape", "x wanted", "y"),
    ]
    graph = folded(model_of(nodes, {"start": whole(0), "end": whole(1), "rest": whole(*rest)}))
    assert kinds(graph) == ["Reshape"]


def test_images_and_heads_on_one_axis() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape start end", "n"),
        node("Mul", "n heads", "rows"),
        node("Concat", "rows rest", "wanted", axis=0),
        node("Reshape", "x wanted", "t"),
        node("Softmax", "t", "s"),
        node("Reshape", "s shape", "y"),
    ]
    graph = folded(model_of(nodes, {"start": whole(0), "end": whole(1), "heads": whole(4), "rest": whole(6, 8)}))
    assert kinds(graph) == ["Reshape", "Softmax", "Reshape"]


def test_sizes_that_the_file_leaves_open_stay_arithmetic() -> None:
    model = model_of([node("Shape", "x", "shape"), node("Reshape", "x shape", "y")], shape=(4, "h", "w"))
    graph = Graph(model)
    assert fold_constants(graph) == 0
    assert kinds(graph) == ["Shape", "Reshape"]


def branch(name: str, nodes: list[NodeProto], output: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


@pytest.mark.parametrize("certain", [True, False])
def test_a_branch_that_sizes_decide_is_put_in_place(certain: bool) -> None:
    inside = branch("deeper", [node("Identity", "r", "again")], "again")
    nodes = [
        node("Relu", "x", "r"),
        node("Shape", "r", "shape"),
        node("Gather", "shape one", "channels"),
        node("Equal", "channels wanted", "c"),
        helper.make_node(
            "If", ["c"], ["y"], "decided",
            then_branch=branch("then", [
                helper.make_node("Constant", [], ["k"], value_float=2.0),
                node("Mul", "r k", "t"),
                helper.make_node("If", ["c"], ["a"], then_branch=inside, else_branch=inside),
                node("Add", "t a", "b"),
            ], "b"),
            else_branch=branch("else", [node("Identity", "r", "t")], "t"),
        ),
    ]  # fmt: skip
    model = model_of(nodes, {"one": np.array(1), "wanted": np.array(4 if certain else 5)})
    graph = folded(model)
    assert "If" not in kinds(graph)
    assert len({n.name for n in graph.nodes}) == len(graph.nodes)


def test_a_branch_that_values_decide_stays() -> None:
    nodes = [
        node("ReduceMean", "x", "m", keepdims=0),
        node("Greater", "m nought", "c"),
        helper.make_node(
            "If", ["c"], ["y"],
            then_branch=branch("then", [node("Mul", "x k", "a")], "a"),
            else_branch=branch("else", [node("Sub", "x k", "b")], "b"),
        ),
    ]  # fmt: skip
    assert "If" in kinds(folded(model_of(nodes, {"k": np.float32(2), "nought": np.float32(0)})))


def test_random_numbers_are_never_folded() -> None:
    graph = Graph(model_of([node("RandomNormal", "", "noise", shape=[8]), node("Mul", "x noise", "y")]))
    assert fold_constants(graph) == 0
