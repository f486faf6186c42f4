"""Networks of a few layers as ONNX files, and the batches that they take."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from veriquant.frontends.spec import ARCFACE, InputSpec
from veriquant.networks.network import Network
from veriquant.simulation.simulation import Simulation, simulate

SIDE = 12
Node = tuple[str, list[str], str, dict[str, object]]


def model(nodes: list[Node], constants: dict[str, np.ndarray], axes: int = 2) -> bytes:
    """Return a network from `image`, (n, 3, SIDE, SIDE), to the last node's output of so many axes."""
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], made, **settings) for kind, given, made, settings in nodes],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, [f"a{i}" for i in range(axes)])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = made.SerializeToString()
    onnx.checker.check_model(content)
    return content


def every_layer(seed: int = 0) -> bytes:
    """Return convolutions with groups, strides, dilation and uneven padding, a depth-wise one, a Gemm and a MatMul."""
    draw = np.random.default_rng(seed)

    def kernel(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))

    constants = {
        "w1": kernel(8, 3, 3, 3),
        "b1": draw.standard_normal(8),
        "w2": kernel(8, 4, 3, 2),
        "b2": draw.standard_normal(8),
        "w3": kernel(8, 1, 3, 3),
        "b3": draw.standard_normal(8),
        "s3": draw.uniform(-0.5, 0.5, (8, 1, 1)),
        "w4": kernel(6, 8, 1, 1),
        "w5": kernel(10, 6 * 7 * 10),
        "b5": draw.standard_normal(10),
        "w6": kernel(10, 7),
    }
    nodes: list[Node] = [
        ("Conv", ["image", "w1", "b1"], "c1", {"pads": [1, 0, 2, 1], "strides": [1, 1]}),
        ("Relu", ["c1"], "r1", {}),
        ("Conv", ["r1", "w2", "b2"], "c2", {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1], "dilations": [1, 3]}),
        ("Conv", ["c2", "w3", "b3"], "c3", {"group": 8, "pads": [1, 1, 1, 1]}),
        ("PRelu", ["c3", "s3"], "p3", {}),
        ("Conv", ["p3", "w4"], "c4", {"pads": [0, 0, 0, 0]}),
        ("Flatten", ["c4"], "f4", {}),
        ("Gemm", ["f4", "w5", "b5"], "g5", {"transB": 1}),
        ("MatMul", ["g5", "w6"], "embedding", {}),
    ]
    return model(nodes, constants)


def simulation(content: bytes) -> Simulation:
    """Return a network of this module simulated."""
    spec = InputSpec(size=(SIDE, SIDE), mean=ARCFACE.mean, std=ARCFACE.std, origin="the tests")
    return simulate(Network(name="small", source="small.onnx", spec=spec, onnx=content, dim=7, digest="0" * 64))


def batch(count: int, seed: int = 1) -> np.ndarray:
    """Return images in which neighbours agree and channels have means, float32."""
    draw = np.random.default_rng(seed)
    rough = draw.standard_normal((count, 3, SIDE, SIDE)) + draw.standard_normal((count, 3, 1, 1)) + 0.5
    smooth = rough + np.roll(rough, 1, axis=2) + np.roll(rough, 1, axis=3)
    return smooth.astype(np.float32)
