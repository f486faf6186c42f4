"""A small network with what makes quantization hard: PReLU of every slope, depth-wise layers, uneven channels."""

from __future__ import annotations

import io

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from veriquant.data.calibration import Calibration
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import ARCFACE, InputSpec
from veriquant.networks.network import Network

SIDE = 32
SPEC = InputSpec(size=(SIDE, SIDE), mean=ARCFACE.mean, std=ARCFACE.std, origin="the tests")


def hard_model(slopes: str = "any", seed: int = 0, uneven: float = 30.0) -> bytes:
    """Return conv-BN-PReLU, depth-wise-PReLU, 1×1-PReLU, a residual block that begins with BN, depth-wise, Gemm.

    `slopes`: 'any' reach beyond ±1, 'inside' do not. `uneven`: ratio of the widest channel to the narrowest.
    """
    draw = np.random.default_rng(seed)
    weights: list[TensorProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def kernel(name: str, *shape: int) -> str:
        scale = np.geomspace(1, uneven, shape[0]).reshape(-1, *[1] * (len(shape) - 1)) / np.sqrt(uneven)
        return constant(name, draw.standard_normal(shape) * scale / np.sqrt(np.prod(shape[1:])))

    def norm(name: str, count: int) -> list[str]:
        values = draw.uniform(0.5, 1.5, (4, count))
        values[1:3] -= 1.0
        return [constant(f"{name}.{i}", v) for i, v in enumerate(values)]

    def slope(name: str, count: int) -> str:
        edge = 2.0 if slopes == "any" else 0.95
        return constant(name, draw.uniform(-edge, edge, (count, 1, 1)))

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], output, **attributes)

    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["image", kernel("w1", 16, 3, 3, 3)], "c1", strides=[2, 2], **same),
        node("BatchNormalization", ["c1", *norm("n1", 16)], "n1"),
        node("PRelu", ["n1", slope("s1", 16)], "p1"),
        node(
            "Conv", ["p1", kernel("w2", 16, 1, 3, 3), constant("b2", draw.standard_normal(16))], "c2", group=16, **same
        ),
        node("PRelu", ["c2", slope("s2", 16)], "p2"),
        node("Conv", ["p2", kernel("w3", 32, 16, 1, 1), constant("b3", draw.standard_normal(32))], "c3"),
        node("PRelu", ["c3", slope("s3", 32)], "p3"),
        node("BatchNormalization", ["p3", *norm("n4", 32)], "n4"),
        node("Conv", ["n4", kernel("w4", 32, 32, 3, 3)], "c4", **same),
        node("Add", ["c4", "p3"], "a4"),
        node("Clip", ["a4", constant("low", np.array(-6.0)), ""], "l4"),
        node("Clip", ["l4", "", constant("high", np.array(6.0))], "l5"),
        node("Conv", ["l5", kernel("w6", 32, 1, 16, 16)], "c6", group=32),
        node("Flatten", ["c6"], "flat"),
        node(
            "Gemm",
            ["flat", constant("w7", draw.standard_normal((8, 32)) / 6), constant("b7", np.zeros(8))],
            "g7",
            transB=1,
        ),
        node("BatchNormalization", ["g7", *norm("n7", 8)], "embedding"),
    ]
    graph = helper.make_graph(
        nodes,
        "hard",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 8])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def network(content: bytes) -> Network:
    """Return a Network around a model of this module."""
    return Network(name="hard", source="hard.onnx", spec=SPEC, onnx=content, dim=8, digest="0" * 64)


def pictures(count: int, seed: int = 0) -> Calibration:
    """Return smooth coloured pictures: neighbouring pixels agree, as in photographs."""
    draw = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        coarse = draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
        samples.append(Sample(f"picture-{index}", content=buffer.getvalue()))
    return Calibration("drawn", tuple(samples), seed, "0" * 64, count, count)


def inputs(count: int, seed: int = 7) -> np.ndarray:
    """Return a network-ready batch of such pictures."""
    from veriquant.frontends.images import image_batches

    return np.concatenate(list(image_batches(pictures(count, seed).samples, SPEC, 8)))
