"""ONNX files that claim what they do not hold, or take what no network needs: one line, at once, and no memory."""

from __future__ import annotations

import resource
import time

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from veriquant import onnx_trial
from veriquant.errors import VeriQuantError
from veriquant.networks import load_network
from veriquant.networks.onnx_sizes import sizes_are_known

TEN = 10**10


def integers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], output, **attributes)


def model(*more: onnx.NodeProto, constants: tuple[TensorProto, ...] = (), last: str = "", size: object = 16):
    """Global pooling and a matrix; then `more` nodes on what they make, `e0` (n, 8), averaged and added to it."""
    nodes = [
        node("GlobalAveragePool", ["x"], "pooled"),
        node("Flatten", ["pooled"], "flat"),
        node("Gemm", ["flat", "w"], "e0" if more else "e"),
        *more,
    ]
    if last:
        nodes += [node("ReduceMean", [last], "mean", keepdims=0), node("Add", ["e0", "mean"], "e")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(np.ones((3, 8), np.float32), "w"), *constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def bomb(op: str, *inputs: str, constants: tuple[TensorProto, ...] = (), **attributes: object) -> onnx.ModelProto:
    return model(node(op, list(inputs), "big", **attributes), constants=constants, last="big")


def doubling() -> onnx.ModelProto:
    nodes = [node("Concat", [f"e{i}", f"e{i}"], f"e{i + 1}", axis=1) for i in range(60)]
    return model(*nodes, last="e60")


def outer(times: int) -> onnx.ModelProto:
    tall = numpy_helper.from_array(np.ones((30_000, 1), np.float32), "tall")
    wide = numpy_helper.from_array(np.ones((1, 30_000), np.float32), "wide")
    nodes = [node("MatMul", ["tall", "wide"], "square")]
    nodes += [node("MatMul", ["square" if i == 0 else f"p{i - 1}", "square"], f"p{i}") for i in range(times)]
    return model(*nodes, constants=(tall, wide), last=f"p{times - 1}" if times else "square")


def loop(count: int) -> onnx.ModelProto:
    ends = [("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, []), ("a", TensorProto.FLOAT, None)]
    body = helper.make_graph(
        [node("Identity", ["c"], "again"), node("Add", ["a", "a"], "more")],
        "body",
        [helper.make_tensor_value_info(*each) for each in ends],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
        ],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    return model(node("Loop", ["count", "yes", "e0"], "e", body=body), constants=(integers("count", count), yes))


def calling(depth: int, *, itself: bool = False) -> onnx.ModelProto:
    found = model(node("F0", ["e0"], "e"))
    found.graph.node[-1].domain = "my"
    found.opset_import.append(helper.make_opsetid("my", 1))
    for i in range(depth):
        inner = f"F{i}" if itself else f"F{i + 1}"
        calls = [helper.make_node(inner, ["a"], ["b"], domain="my"), helper.make_node(inner, ["b"], ["c"], domain="my")]
        end = [helper.make_node("Identity", ["a"], ["c"])]
        sets = [helper.make_opsetid("", 13), helper.make_opsetid("my", 1)]
        found.functions.append(
            helper.make_function("my", f"F{i}", ["a"], ["c"], calls if itself or i + 1 < depth else end, sets)
        )
    return found


def changed(change) -> onnx.ModelProto:
    found = model()
    change(found)
    return found


def weight(**fields: object):
    def change(found: onnx.ModelProto) -> None:
        tensor = found.graph.initializer[0]
        for name, value in fields.items():
            if name == "dims":
                tensor.dims[:] = value
            else:
                setattr(tensor, name, value)

    return change


def attribute(index: int, **fields: object):
    return lambda found: found.graph.node[index].attribute.append(AttributeProto(**fields))


def name_that_is_no_text(found: onnx.ModelProto) -> None:
    found.graph.node[0].MergeFromString(b"\x1a\x02\xff\xfe")


def sparse(found: onnx.ModelProto) -> None:
    values, places = numpy_helper.from_array(np.ones(1, np.float32), "w"), integers("", 0)
    del found.graph.initializer[0]
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [TEN, 8]))


def circle(found: onnx.ModelProto) -> None:
    found.graph.node.insert(0, node("Identity", ["x"], "x"))


HOSTILE = {
    "ConstantOfShape": bomb("ConstantOfShape", "s", constants=(integers("s", TEN),)),
    "Expand": bomb("Expand", "e0", "s", constants=(integers("s", 10**6, 10**6, 1, 1),)),
    "Tile": bomb("Tile", "e0", "s", constants=(integers("s", 1, TEN),)),
    "Range": bomb("Range", "a", "b", "c", constants=tuple(
        numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("a", 0), ("b", TEN), ("c", 1)))),
    "Pad": bomb("Pad", "e0", "s", constants=(integers("s", 0, 0, 0, TEN),)),
    "RandomNormal": bomb("RandomNormal", shape=[10**5, 10**5]),
    "OneHot": bomb("OneHot", "i", "d", "v", constants=(
        integers("i", 1, 2), integers("d", TEN), numpy_helper.from_array(np.float32([0, 1]), "v"))),
    "Resize": bomb("Resize", "x", "", "s", constants=(numpy_helper.from_array(np.float32([1, 1, 1e5, 1e5]), "s"),)),
    "ConvTranspose": bomb("ConvTranspose", "x", "k", strides=[10**5, 10**5], constants=(
        numpy_helper.from_array(np.ones((3, 1, 1, 1), np.float32), "k"),)),
    "Concat, again and again": doubling(),
    "outer product": outer(0),
    "products of outer products": outer(3),
    "Loop": loop(2**62),
    "functions that double": calling(26),
    "function that calls itself": calling(1, itself=True),
    "input": model(size=10**6),
    "weights that are not there": changed(weight(raw_data=b"")),
    "weights of another length": changed(weight(raw_data=bytes(95))),
    "weights of an impossible shape": changed(weight(dims=[2**62, 2**62])),
    "weights of a negative shape": changed(weight(dims=[-3, -8])),
    "weights of no type": changed(weight(data_type=0)),
    "weights of an unknown type": changed(weight(data_type=12345)),
    "weights of text": changed(weight(data_type=TensorProto.STRING)),
    "sparse weights": changed(sparse),
    "text for a number": changed(attribute(2, name="alpha", type=AttributeProto.STRING, s=b"1")),
    "number for text": changed(attribute(0, name="auto_pad", type=AttributeProto.INT, i=1)),
    "attribute of no type": changed(attribute(2, name="alpha", f=1.0)),
    "attribute of an unknown type": changed(attribute(2, name="alpha", type=3, s=b"\xff")),
    "name that is no text": changed(name_that_is_no_text),
    "circle": changed(circle),
    "name of a million letters": changed(lambda m: setattr(m.graph.node[1], "name", "n" * 10**6)),
}  # fmt: skip


@pytest.mark.parametrize("found", HOSTILE.values(), ids=HOSTILE)
def test_a_file_of_a_few_bytes_takes_nothing(tmp_path, monkeypatch, found):
    monkeypatch.setattr(onnx_trial, "_SECONDS", 2)
    path = tmp_path / "h.onnx"
    path.write_bytes(found.SerializeToString())
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(VeriQuantError) as caught:
        load_network(path)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10
    assert time.monotonic() - begun < 30


def test_a_network_whose_needs_nobody_knows_is_tried_and_runs(tmp_path):
    found = loop(3)
    assert not sizes_are_known(found, "x", (1, 3, 16, 16), "h.onnx")
    (tmp_path / "h.onnx").write_bytes(found.SerializeToString())
    assert load_network(tmp_path / "h.onnx").dim == 8


def test_what_fails_in_the_trial_is_told(tmp_path):
    found = loop(3)
    found.graph.node[-1].input[0] = "nothing"
    (tmp_path / "h.onnx").write_bytes(found.SerializeToString())
    with pytest.raises(VeriQuantError, match="does not run in ONNX Runtime"):
        load_network(tmp_path / "h.onnx")


def test_memory_that_only_running_shows_is_not_given(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_trial, "_ROOM", 1 << 30)
    size = helper.make_node("Cast", ["many"], ["size"], to=TensorProto.INT64)
    many = numpy_helper.from_array(np.float32([3e9]), "factor")
    found = model(
        node("ReduceSum", ["x"], "sum", keepdims=0),
        node("Mul", ["sum", "zero"], "nothing"),
        node("Add", ["nothing", "factor"], "many"),
        size,
        node("ConstantOfShape", ["size"], "big"),
        constants=(many, numpy_helper.from_array(np.float32(0), "zero")),
        last="big",
    )
    (tmp_path / "h.onnx").write_bytes(found.SerializeToString())
    with pytest.raises(VeriQuantError, match=r"h\.onnx: "):
        load_network(tmp_path / "h.onnx")


def test_an_ordinary_network_needs_no_trial(tmp_path):
    assert sizes_are_known(model(), "x", (1, 3, 16, 16), "h.onnx")
    (tmp_path / "h.onnx").write_bytes(model().SerializeToString())
    assert load_network(tmp_path / "h.onnx").dim == 8
