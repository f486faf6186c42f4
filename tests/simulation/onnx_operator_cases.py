"""A small network or more for every ONNX operator that can be simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

draw = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return draw.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return draw.uniform(0.5, 1.5, shape).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def one(value: float, kind: type = np.float32) -> np.ndarray:
    return np.array(value, kind)


#: Tensors that a case may name as inputs, computed from the network's input "x".
HELPERS = {
    "other": ("Neg", ["x"], {}),
    "size": ("Abs", ["x"], {}),
    "turned": ("Transpose", ["x"], {"perm": [0, 1, 3, 2]}),
    "shape": ("Shape", ["x"], {}),
    "batch": ("Shape", ["x"], {"start": 0, "end": 1}),
    "count": ("Squeeze", ["batch"], {}),
    "mask": ("Greater", ["x", "nought"], {}),
    "mask2": ("Less", ["x", "nought"], {}),
}


@dataclass
class Case:
    """A network of one operator. Inputs: "x", one of `HELPERS`, "" for none, or a constant."""

    inputs: tuple[Any, ...] = ("x",)
    attributes: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (4, 6, 8)
    kind: str | None = None
    opset: int = 17
    outputs: int = 1

    def model(self, operator: str, output: int = 0) -> onnx.ModelProto:
        constants = {"nought": one(0)}
        names = []
        for i, given in enumerate(self.inputs):
            if isinstance(given, str):
                names.append(given)
            else:
                constants[f"constant.{i}"] = given
                names.append(f"constant.{i}")
        nodes = [helper.make_node(operator, names, [f"y{i}" for i in range(self.outputs)], "it", **self.attributes)]
        wanted = list(names)
        for name in wanted:
            if name in HELPERS:
                kind, sources, attributes = HELPERS[name]
                wanted.extend(sources)
                nodes = [node for node in nodes if node.name != f"h_{name}"]
                nodes.insert(0, helper.make_node(kind, sources, [name], f"h_{name}", **attributes))
        # Whatever the type is, the network's output is float32.
        nodes.append(helper.make_node("Cast", [f"y{output}"], ["end"], "end", to=TensorProto.FLOAT))
        return network(nodes, constants, self.shape, self.opset)


def network(
    nodes: list[NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[int, ...] = (4, 6, 8),
    opset: int = 17,
    batch: str | int = "n",
    output: str = "end",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def batch_norm(*, shape: int = 4) -> Case:
    return Case(("x", normal(shape), normal(shape), normal(shape), positive(shape)), {"epsilon": 1e-3})


def reductions() -> list[Case]:
    """Return both forms of the axes, kept and dropped, and a reduction over everything."""
    return [
        Case(attributes={"axes": [2, 3]}),
        Case(attributes={"axes": [-1], "keepdims": 0}),
        Case(("x", whole(1, -1)), opset=18),
        Case(attributes={"keepdims": 0}),
        Case(("x",), {"noop_with_empty_axes": 1}, opset=18),
    ]


ARITHMETIC = [
    Case(("x", "other")),
    Case(("x", "x")),
    Case(("x", normal(4, 1, 1)), kind="computing"),
    Case(("x", one(2.5)), kind="computing"),
    Case((normal(1), "x"), kind="computing"),
    Case(("shape", "shape"), kind="silent"),
    Case(("shape", one(3, np.int64)), kind="silent"),
]
#: Signs differ, so that rounding towards zero and downwards differ.
DIVISION = [
    Case(("x", "other")),
    Case((one(2), "x"), kind="computing"),
    Case(("x", positive(8)), kind="computing"),
    Case(("shape", whole(-3, 3, 4, 7)), kind="silent"),
    Case(("shape", one(-4, np.int64)), kind="silent"),
]
SEVERAL = [
    Case(("x", "other", normal(8))),
    Case(("x",), kind="computing"),
    Case(("x", one(0.25)), kind="computing"),
]
WINDOWS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 1, 2]},
    {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [2, 1, 2, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "strides": [1, 1], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "strides": [2, 3], "auto_pad": "VALID"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
]
POOLS = [Case(attributes=windows) for windows in WINDOWS]
COMPARISONS = [Case(("x", one(0.1)), kind="computing"), Case(("x", "size"), kind="joining")]
LOGIC = [Case(("mask", "mask2"))]
LSTM = ("x", normal(1, 20, 3), normal(1, 20, 5))
LSTM2 = ("x", normal(2, 20, 3), normal(2, 20, 5), normal(2, 40), "", normal(2, 1, 5), normal(2, 1, 5))

CASES: dict[str, list[Case]] = {
    "Abs": [Case()],
    "Add": ARITHMETIC,
    "And": LOGIC,
    "ArgMax": [Case(attributes={"axis": 1}), Case(attributes={"axis": -1, "keepdims": 0})],
    "AveragePool": [
        *POOLS,
        *[Case(attributes={**windows, "count_include_pad": 1}) for windows in WINDOWS],
        Case(attributes={"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, shape=(4, 9)),
    ],
    "BatchNormalization": [batch_norm(), Case(batch_norm().inputs, shape=(4,))],
    "Cast": [
        Case(attributes={"to": TensorProto.FLOAT}),
        Case(attributes={"to": TensorProto.INT64}, kind="silent"),
        Case(("shape",), {"to": TensorProto.FLOAT}, kind="silent"),
        Case(("mask",), {"to": TensorProto.FLOAT}, kind="silent"),
    ],
    "Ceil": [Case()],
    "Celu": [Case(attributes={"alpha": 0.5})],
    "Clip": [
        Case(("x", one(-0.5), one(0.7))),
        Case(("x", one(0))),
        Case(("x", "", one(0.3))),
        Case(("x",)),
        Case(("shape", one(2, np.int64), one(5, np.int64)), kind="silent"),
    ],
    "Concat": [
        Case(("x", normal(5, 4, 6, 8)), {"axis": 0}, kind="computing"),
        Case(("x", "other"), {"axis": 1}),
        Case(("shape", whole(3, 4)), {"axis": 0}, kind="silent"),
    ],
    "ConstantOfShape": [
        Case(("shape",)),
        Case(("batch",), {"value": numpy_helper.from_array(whole(3))}),
        Case(("shape",), {"value": numpy_helper.from_array(np.array([0.5], np.float32))}),
    ],
    "Conv": [
        Case(("x", normal(5, 4, 3, 2), normal(5)), {"strides": [2, 1], "pads": [1, 0, 1, 0]}),
        Case(("x", normal(4, 1, 3, 3)), {"group": 4, "pads": [0, 1, 2, 3], "dilations": [2, 1]}),
        Case(("x", normal(6, 2, 3, 3)), {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        Case(("x", normal(6, 4, 2, 2)), {"auto_pad": "SAME_LOWER"}),
        Case(("x", normal(6, 4, 2, 2)), {"auto_pad": "VALID"}),
        Case(("x", normal(5, 4, 3), normal(5)), {"strides": [2], "pads": [1, 2]}, shape=(4, 9)),
    ],
    "Cos": [Case()],
    "DepthToSpace": [
        Case(attributes={"blocksize": 2}, shape=(12, 3, 2)),
        Case(attributes={"blocksize": 2, "mode": "CRD"}, shape=(12, 3, 2)),
    ],
    "Div": DIVISION,
    "Dropout": [Case(), Case(("x", one(0.5), np.array(False)))],
    "Einsum": [Case(("x", "other"), {"equation": "nchw,ncvw->nhv"})],
    "Elu": [Case(attributes={"alpha": 0.7})],
    "Equal": [Case(("shape", whole(1, 4, 8, 8))), Case(("mask", "mask2"))],
    "Erf": [Case()],
    "Exp": [Case()],
    "Expand": [
        Case(("x", whole(2, 1, 4, 1, 8)), shape=(1, 6, 1)),
        Case(("count", "batch"), kind="silent"),
        Case(("x", "shape")),
    ],
    "Flatten": [Case(), Case(attributes={"axis": 2}), Case(attributes={"axis": 0}), Case(attributes={"axis": -1})],
    "Floor": [Case()],
    "GRU": [
        Case(
            ("x", normal(1, 15, 3), normal(1, 15, 5), normal(1, 30)),
            {"hidden_size": 5, "linear_before_reset": 1},
            (2, 3),
        ),
        Case(
            ("x", normal(2, 15, 3), normal(2, 15, 5), normal(2, 30), "", normal(2, 2, 5)),
            {"hidden_size": 5, "linear_before_reset": 1, "direction": "bidirectional"},
            (2, 3),
            outputs=2,
        ),
    ],
    "Gather": [
        Case(("x", one(2, np.int64)), {"axis": 1}),
        Case(("x", one(-1, np.int64)), {"axis": 2}),
        Case(("x", whole(1, 2)), {"axis": 3}),
        Case(("x", whole(2, -1, 0)), {"axis": -2}),
        Case(("x", whole(0, 3, 1, 1).reshape(2, 2)), {"axis": 1}),
        Case(("shape", one(-1, np.int64)), kind="silent"),
        Case(("shape", whole(3, 0)), kind="silent"),
    ],
    "Gelu": [Case(opset=20), Case(attributes={"approximate": "tanh"}, opset=20)],
    "Gemm": [
        Case(("x", normal(6, 5)), shape=(6,)),
        Case(("x", normal(5, 6), normal(5)), {"transB": 1, "alpha": 0.5, "beta": 2.0}, shape=(6,)),
        Case(("x", normal(6, 5), normal(1, 5)), shape=(6,)),
        Case(("x", normal(6, 5), one(0.5)), shape=(6,)),
        Case(("x", "other"), {"transB": 1, "alpha": 0.5}, shape=(6,), kind="joining"),
        Case(("x", "other", normal(6, 6)), {"transA": 1, "beta": 0.5}, shape=(6,), kind="joining"),
    ],
    "GlobalAveragePool": [Case(), Case(shape=(4, 7))],
    "GlobalMaxPool": [Case(), Case(shape=(4, 7))],
    "Greater": [Case(("x", one(0.1))), Case(("x", "other"))],
    "GreaterOrEqual": [Case(("x", "other")), Case(("shape", whole(2, 4, 6, 9)))],
    "GroupNormalization": [Case(("x", normal(4), normal(4)), {"num_groups": 2}, opset=21)],
    "HardSigmoid": [
        Case(),
        Case(attributes={"alpha": 1 / 6, "beta": 0.5}),
        Case(attributes={"alpha": 0.3, "beta": 0.4}),
    ],
    "HardSwish": [Case()],
    "Identity": [Case()],
    "InstanceNormalization": [Case(("x", normal(4), normal(4)), {"epsilon": 1e-3})],
    "LRN": [Case(attributes={"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5})],
    "LSTM": [
        Case(LSTM, {"hidden_size": 5}, (2, 3), outputs=3),
        Case(LSTM2, {"hidden_size": 5, "direction": "bidirectional"}, (1, 3), outputs=3),
    ],
    "LayerNormalization": [
        Case(("x", normal(8), normal(8)), {"epsilon": 1e-3}),
        Case(("x", normal(6, 8)), {"axis": 2}),
        Case(("x", normal(8), normal(8)), {"axis": -2}),
    ],
    "LeakyRelu": [Case(), Case(attributes={"alpha": 0.3})],
    "Less": [Case(("x", one(0.1))), Case(("shape", one(5, np.int64)))],
    "LessOrEqual": [Case(("x", "other"))],
    "Log": [Case(("size",))],
    "LogSoftmax": [Case(), Case(attributes={"axis": 1})],
    "LpNormalization": [Case(), Case(attributes={"axis": 1, "p": 1})],
    "MatMul": [
        Case(("x", normal(8, 5))),
        Case(("x", "turned"), kind="joining"),
        Case(("x", normal(4, 8, 5)), kind="computing"),
        Case((normal(5, 6), "x"), kind="computing"),
    ],
    "Max": SEVERAL,
    "MaxPool": [
        *POOLS,
        Case(attributes={"kernel_shape": [2, 2], "dilations": [2, 2]}),
        Case(attributes={"kernel_shape": [3], "strides": [2], "pads": [1, 0]}, shape=(4, 9)),
    ],
    "Mean": SEVERAL,
    "Min": SEVERAL,
    "Mish": [Case(opset=18)],
    "Mod": [
        Case(("x", positive(8)), {"fmod": 1}, kind="computing"),
        Case(("shape", one(4, np.int64)), kind="silent"),
        Case(("shape", whole(-3, 3, 4, -5)), kind="silent"),
    ],
    "Mul": ARITHMETIC,
    "Neg": [Case()],
    "Not": [Case(("mask",))],
    "Or": LOGIC,
    "PRelu": [
        Case(("x", normal(4, 1, 1))),
        Case(("x", normal(1, 4, 1, 1))),
        Case(("x", normal(1))),
        Case(("x", normal(4, 6, 8))),
        Case(("x", normal(8))),
        Case(("x", normal(6)), shape=(6,)),
        Case(("x", normal(4, 1)), shape=(4, 7)),
        Case(("x", "other")),
    ],
    "Pad": [
        Case(("x", whole(0, 0, 1, 2, 0, 1, 0, 3))),
        Case(("x", whole(0, 0, 1, 2, 0, 0, 0, -1), one(0))),
        Case(("x", whole(0, 0, 1, 2, 0, 0, 0, 3), one(0.5)), kind="computing"),
        Case(("x", whole(0, 0, 1, 2, 0, 0, 0, 3)), {"mode": "reflect"}),
        Case(("x", whole(0, 2, 1, 2, 0, 0, 0, 3)), {"mode": "edge"}),
        Case(("x", whole(1, 2), "", whole(-1)), opset=18),
        Case(("x", whole(1, 2, 1, 0), "", whole(1, 3)), {"mode": "wrap"}, opset=19),
    ],
    "Pow": [Case(("size", "x")), Case(("x", one(2)), kind="computing"), Case(("size", normal(8)), kind="computing")],
    "Range": [Case((one(0, np.int64), "count", one(1, np.int64)))],
    "Reciprocal": [Case(("size",))],
    "ReduceL1": reductions(),
    "ReduceL2": reductions(),
    "ReduceLogSumExp": reductions(),
    "ReduceMax": reductions(),
    "ReduceMean": reductions(),
    "ReduceMin": reductions(),
    "ReduceProd": [*reductions(), Case(("shape",), {"keepdims": 0}, kind="silent")],
    "ReduceSum": [
        Case(("x", whole(2, 3))),
        Case(("x", whole(-1)), {"keepdims": 0}),
        Case(),
        Case(attributes={"noop_with_empty_axes": 1}),
    ],
    "ReduceSumSquare": reductions(),
    "Relu": [Case()],
    "Reshape": [
        Case(("x", whole(-1, 192))),
        Case(("x", whole(0, 6, -1))),
        Case(("x", whole(0, 0, 48))),
        Case(("x", "shape")),
        Case(("shape", whole(2, 2)), kind="silent"),
    ],
    "Resize": [
        Case(
            ("x", "", np.array([1, 1, 2, 3], np.float32)),
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        ),
        Case(("x", "", np.array([1, 1, 2, 3], np.float32))),
        Case(("x", "", np.array([1, 1, 2, 1.5], np.float32)), {"mode": "linear"}),
        Case(
            ("x", "", np.array([1, 1, 2, 2], np.float32)),
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        ),
        Case(("x", "", "", "shape"), {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ],
    "Round": [Case()],
    "Selu": [Case(), Case(attributes={"alpha": 1.5, "gamma": 2.0})],
    "Shape": [Case(), Case(attributes={"start": 1, "end": -1})],
    "Sigmoid": [Case()],
    "Sign": [Case()],
    "Sin": [Case()],
    "Size": [Case()],
    "Slice": [
        Case(("x", whole(1), whole(3), whole(1))),
        Case(("x", whole(-5, 7), whole(2**62, -(2**62)), whole(2, -1), whole(2, -3))),
        Case(("x", whole(0, 1), whole(1, -1))),
        Case(("shape", whole(1), whole(3)), kind="silent"),
        Case(("x", whole(0), "batch", whole(3))),
    ],
    "Softmax": [Case(), Case(attributes={"axis": 1})],
    "Softplus": [Case()],
    "Softsign": [Case()],
    "SpaceToDepth": [Case(attributes={"blocksize": 2})],
    "Split": [
        Case(("x", whole(1, 3)), {"axis": 1}, outputs=2),
        Case(attributes={"axis": -1}, outputs=4),
        Case(attributes={"axis": 3, "num_outputs": 3}, opset=18, outputs=3),
        Case(("shape", whole(1, 3)), outputs=2, kind="silent"),
    ],
    "Sqrt": [Case(("size",))],
    "Squeeze": [
        Case(("x", whole(1, 3)), shape=(1, 6, 1)),
        Case(("x", whole(-1)), shape=(1, 6, 1)),
        Case(("batch",), kind="silent"),
    ],
    "Sub": ARITHMETIC,
    "Sum": SEVERAL,
    "Tanh": [Case()],
    "Tile": [Case(("x", whole(1, 2, 1, 3))), Case(("x", "shape"), shape=(2, 1))],
    "Transpose": [Case(attributes={"perm": [0, 2, 3, 1]}), Case()],
    "Unsqueeze": [Case(("x", whole(1))), Case(("x", whole(-1, 0))), Case(("count", whole(0)), kind="silent")],
    "Where": [
        Case(("mask", "x", "other")),
        Case(("mask", "x", one(-1)), kind="computing"),
        Case(("mask", one(1), one(0)), kind="silent"),
    ],
    "Xor": LOGIC,
}
