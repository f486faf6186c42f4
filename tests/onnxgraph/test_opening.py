"""Opening a model for editing: any opset, functions, other floating-point types, constants of every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx_pieces import images, model_of, run

from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import OPSET, Graph
from veriquant.onnxgraph.walk import captured

draw = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return draw.standard_normal(shape).astype(np.float32)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def assert_same(model: onnx.ModelProto, x: np.ndarray, tolerance: float = 1e-5) -> Graph:
    graph = Graph(model)
    assert graph.opset >= OPSET
    expected, found = run(model, x), run(graph.to_model(), x)
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    return graph


NORM = {"a": normal(4), "b": normal(4), "c": normal(4), "d": np.abs(normal(4)) + 1}
#: Operators whose form changed with the opsets: (first opset, last opset) -> nodes, constants.
OLD: dict[str, tuple[int, int, list[NodeProto], dict[str, np.ndarray]]] = {
    "BatchNormalization, spatial": (7, 8, [node("BatchNormalization", "x a b c d", "y", spatial=1)], NORM),
    "BatchNormalization": (9, 16, [node("BatchNormalization", "x a b c d", "y")], NORM),
    "Dropout": (7, 11, [node("Dropout", "x", "y mask", ratio=0.4)], {}),
    "Upsample, attribute": (7, 8, [node("Upsample", "x", "y", scales=[1.0, 1.0, 2.0, 2.0])], {}),
    "Upsample, linear": (9, 9, [node("Upsample", "x s", "y", mode="linear")], {"s": np.float32([1, 1, 2, 2])}),
    "Resize, linear": (10, 10, [node("Resize", "x s", "y", mode="linear")], {"s": np.float32([1, 1, 2, 3])}),
    "Resize, nearest": (10, 10, [node("Resize", "x s", "y")], {"s": np.float32([1, 1, 1.5, 0.5])}),
    "Slice": (7, 9, [node("Slice", "x", "y", axes=[2], starts=[1], ends=[-1])], {}),
    "Pad": (7, 10, [node("Pad", "x", "y", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5)], {}),
    "Clip": (7, 10, [node("Clip", "x", "y", max=0.5)], {}),
    "Squeeze": (7, 12, [node("Unsqueeze", "x", "t", axes=[0]), node("Squeeze", "t", "y", axes=[0])], {}),
    "ReduceSum": (7, 12, [node("ReduceSum", "x", "y", axes=[2])], {}),
    "Softmax": (7, 12, [node("Softmax", "x", "y", axis=2)], {}),
    "Hardmax": (7, 12, [node("Hardmax", "x", "y")], {}),
    "Split": (7, 12, [node("Split", "x", "p q", axis=1, split=[1, 3]), node("Mul", "p q", "y")], {}),
    "TopK": (7, 9, [node("TopK", "x", "y places", k=3)], {}),
    "ThresholdedRelu": (7, 16, [node("ThresholdedRelu", "x", "y", alpha=0.3)], {}),
    "LayerNormalization of ONNX Runtime": (9, 16, [node("LayerNormalization", "x w", "y")], {"w": normal(8)}),
    "GroupNormalization": (18, 20, [node("GroupNormalization", "x w b", "y", num_groups=2)],
                           {"w": normal(2), "b": normal(2)}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "opset"), [(name, opset) for name in OLD for opset in sorted({*OLD[name][:2]})])
def test_an_operator_of_any_opset_keeps_its_meaning(name: str, opset: int) -> None:
    nodes, constants = OLD[name][2:]
    assert_same(model_of(nodes, constants, opset=opset), images())


@pytest.mark.parametrize("opset", [8, 17])
def test_initializers_among_the_inputs(opset: int) -> None:
    model = model_of([node("PRelu", "x w", "t"), node("Mul", "t s", "y")],
                     {"w": normal(4, 1, 1), "s": np.float32(2)}, opset=opset)  # fmt: skip
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    model.ir_version = 3
    graph = assert_same(model, images())
    assert graph.ir_version >= 8
    assert [entry.name for entry in graph.to_model().graph.input] == ["x"]


def act(own: int) -> onnx.FunctionProto:
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    return helper.make_function("pkg", "Act", ["a"], ["b"], body, [helper.make_opsetid("", own)])


def call(kind: str, x: str, y: str) -> NodeProto:
    return helper.make_node(kind, [x], [y], domain="pkg")


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
@pytest.mark.parametrize("own", [9, 13, 17, 21])
def test_functions_are_put_in_place_whatever_their_opset(opset: int, own: int) -> None:
    calls = [node("Relu", "x", "r"), call("Act", "r", "t"), call("Act", "t", "y")]
    graph = assert_same(model_of(calls, opset=opset, functions=[act(own)], domains=["pkg"]), images())
    assert [n.op_type for n in graph.nodes] == ["Relu", *["Sigmoid", "Mul"] * 2]
    assert graph.opset == max(OPSET, opset, own)


@pytest.mark.parametrize("opset", [9, 17, 21])
def test_functions_that_call_functions_are_put_in_place(opset: int) -> None:
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("pkg", 1)]
    twice = helper.make_function("pkg", "Twice", ["a"], ["c"], [call("Act", "a", "b"), call("Act", "b", "c")], sets)
    calls = [call("Twice", "x", "t"), call("Act", "t", "y")]
    graph = assert_same(model_of(calls, opset=opset, functions=[act(opset), twice], domains=["pkg"]), images())
    assert [n.op_type for n in graph.nodes] == ["Sigmoid", "Mul"] * 3


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_floating_point_types_become_float32(kind: int) -> None:
    other = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        node("Cast", "x", "h", to=kind),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.array(3, other))),
        node("Mul", "h k", "m"),
        node("Max", "m lowest", "n"),
        node("Cast", "n", "y", to=TensorProto.FLOAT),
    ]
    lowest = np.array(np.finfo(np.float64).min if kind == TensorProto.DOUBLE else -2.0, other)
    graph = Graph(model_of(nodes, {"lowest": lowest}))
    assert {value.dtype for value in graph.constants.values()} == {np.dtype(np.float32)}
    x = images()
    found = run(graph.to_model(), x)
    np.testing.assert_allclose(found, np.maximum(3 * x, np.float64(lowest)), rtol=1e-6)


def test_constants_of_every_form_are_taken_out_of_the_nodes() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_float=2.0),
        helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["c"], value_int=0),
        helper.make_node("Constant", [], ["d"], value_ints=[0, 1]),
        node("Gather", "x d", "pair", axis=3),
        node("Mul", "pair b", "scaled"),
        node("Gather", "scaled c", "first", axis=2),
        node("Mul", "first a", "y"),
    ]
    graph = assert_same(model_of(nodes), images())
    assert "Constant" not in {n.op_type for n in graph.nodes}
    assert set(graph.constants) == {"a", "b", "c", "d"}


def test_what_leads_to_no_output_is_left_out() -> None:
    graph = Graph(model_of([node("Relu", "x", "y"), node("Abs", "x", "aside"), node("Neg", "aside", "further")]))
    assert [n.op_type for n in graph.nodes] == ["Relu"]


def branch(name: str, nodes: list[NodeProto], output: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def test_what_a_branch_takes_from_outside_is_kept_and_renamed() -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("ReduceMean", "x", "m", keepdims=0),
        node("Greater", "m nought", "c"),
        helper.make_node(
            "If", ["c"], ["y"],
            then_branch=branch("then", [node("Mul", "r k", "a")], "a"),
            else_branch=branch("else", [node("Sub", "r k", "b")], "b"),
        ),
    ]  # fmt: skip
    graph = assert_same(model_of(nodes, {"k": np.float32(2), "nought": np.float32(0)}), images())
    assert captured(graph.nodes[-1]) == ["r", "k"]
    assert {n.op_type for n in graph.consumers()["r"]} == {"If"}
    graph.nodes.insert(1, node("Identity", "r", "r2"))
    graph.rename_uses("r", "r2")
    graph.nodes[1].input[0] = "r"
    np.testing.assert_array_equal(
        run(graph.to_model(), images()), run(Graph(model_of(nodes, graph.constants)).to_model(), images())
    )


def test_an_opset_that_cannot_be_raised_is_told() -> None:
    model = model_of([node("Scan", "x", "y", num_scan_inputs=1)], opset=8)
    with pytest.raises(VeriQuantError, match="cannot be converted to 17") as caught:
        Graph(model)
    assert "\n" not in str(caught.value)
