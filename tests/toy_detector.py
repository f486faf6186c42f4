"""A network with YuNet's ends that calls every bright spot a face: tests align by it, the real file being no part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Where the five points stand around a spot's middle, in strides of 8 pixels.
AROUND = np.array([(-2, -2), (2, -2), (0, 0), (-1.5, 2), (1.5, 2)], dtype=np.float32)


def toy_yunet(path: Path) -> Path:
    """Write a detector whose cells of 8 pixels are faces where they are bright; coarser cells find nothing."""
    nodes, weights, outputs = [], [], []

    def constant(name: str, values: object) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    constant("grey", np.full((1, 3, 1, 1), 1 / (3 * 255), np.float32))
    for stride in (8, 16, 32):
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["input"], [f"mean_{stride}"], **pool))
        nodes.append(helper.make_node("Conv", [f"mean_{stride}", "grey"], [f"bright_{stride}"]))
        steep, far = (40.0, 0.75) if stride == 8 else (0.0, 1.0)
        nodes.append(helper.make_node("Mul", [f"bright_{stride}", constant(f"k_{stride}", np.float32(steep))], [f"m_{stride}"]))  # fmt: skip  # noqa: E501
        shift = -steep * far if steep else -20.0
        nodes.append(helper.make_node("Add", [f"m_{stride}", constant(f"b_{stride}", np.float32(shift))], [f"l_{stride}"]))  # fmt: skip  # noqa: E501
        nodes.append(helper.make_node("Sigmoid", [f"l_{stride}"], [f"p_{stride}"]))
        constant(f"flat_{stride}", np.array([1, -1, 1], np.int64))
        nodes.append(helper.make_node("Reshape", [f"p_{stride}", f"flat_{stride}"], [f"cls_{stride}"]))
        nodes.append(helper.make_node("Identity", [f"cls_{stride}"], [f"obj_{stride}"]))
        for kind, values in (
            ("bbox", np.array([0.5, 0.5, np.log(6), np.log(6)], np.float32)),
            ("kps", (AROUND + 0.5).ravel()),
        ):
            nodes.append(helper.make_node("Mul", [f"cls_{stride}", constant(f"0{kind}{stride}", np.zeros((1, 1, len(values)), np.float32))], [f"z{kind}{stride}"]))  # fmt: skip  # noqa: E501
            nodes.append(helper.make_node("Add", [f"z{kind}{stride}", constant(f"c{kind}{stride}", values.reshape(1, 1, -1))], [f"{kind}_{stride}"]))  # fmt: skip  # noqa: E501
    for kind, length in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            shape = [1, f"n{stride}", length]
            outputs.append(helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "toy", [image], outputs, weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path
