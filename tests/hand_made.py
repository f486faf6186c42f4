"""Small ONNX networks made by hand, each with one structure that quantizer groups and steps must get right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from veriquant.frontends.spec import InputSpec
from veriquant.networks.network import Network
from veriquant.simulation import KernelTable, QuantizerCache, Simulation, observe, simulate

SIDE = 8
DIM = 6


class Sketch:
    """Nodes and weights put down one after the other; every node is named after the tensor that it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.draw = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: object, kind: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def weight(self, name: str, *shape: int, gain: float = 1.0) -> str:
        fan = max(1.0, float(np.prod(shape[1:])))
        return self.constant(name, self.draw.standard_normal(shape) * gain * np.sqrt(2 / fan))

    def op(self, kind: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def conv(self, x: str, name: str, inputs: int, outputs: int, size: int = 3, *, group: int = 1) -> str:
        weights = self.weight(f"{name}_w", outputs, inputs // group, size, size)
        bias = self.constant(f"{name}_b", self.draw.standard_normal(outputs) * 0.1)
        pads = [size // 2] * 4
        return self.op("Conv", [x, weights, bias], name, kernel_shape=[size, size], pads=pads, group=group)

    def prelu(self, x: str, name: str, channels: int) -> str:
        return self.op("PRelu", [x, self.constant(f"{name}_s", self.draw.uniform(0.1, 0.4, (channels, 1, 1)))], name)

    def head(self, x: str, channels: int, name: str = "embedding") -> str:
        """Global average, Flatten, Gemm."""
        self.op("GlobalAveragePool", [x], "gap")
        self.op("Flatten", ["gap"], "flat")
        weight = self.weight(f"{name}_w", DIM, channels)
        return self.op("Gemm", ["flat", weight], name, transB=1)

    def bytes(self, output: str = "embedding") -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", DIM])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def plain(seed: int = 0) -> bytes:
    """conv-ReLU-conv-ReLU-maxpool-GAP-Gemm."""
    net = Sketch(seed)
    net.op("Relu", [net.conv("image", "c1", 3, 8)], "r1")
    net.op("Relu", [net.conv("r1", "c2", 8, 12)], "r2")
    net.op("MaxPool", ["r2"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    net.head("pool", 12)
    return net.bytes()


def residual(seed: int = 0) -> bytes:
    """conv-PReLU, a block conv-PReLU-depthwise-add, PReLU, 1×1 conv, GAP, Gemm."""
    net = Sketch(seed)
    net.prelu(net.conv("image", "c1", 3, 8), "p1", 8)
    net.prelu(net.conv("p1", "c2", 8, 8), "p2", 8)
    net.conv("p2", "c3", 8, 8, group=8)
    net.op("Add", ["c3", "p1"], "sum")
    net.prelu("sum", "p3", 8)
    net.conv("p3", "c4", 8, 16, 1)
    net.head("c4", 16)
    return net.bytes()


def concat(seed: int = 0) -> bytes:
    """Two branches of one convolution each, concatenated; a convolution reads the whole."""
    net = Sketch(seed)
    net.op("Relu", [net.conv("image", "stem", 3, 8)], "r0")
    net.op("Relu", [net.conv("r0", "left", 8, 4)], "r1")
    net.op("Relu", [net.conv("r0", "right", 8, 6, 1)], "r2")
    net.op("Concat", ["r1", "r2"], "both", axis=1)
    net.op("Relu", [net.conv("both", "after", 10, 8)], "r3")
    net.head("r3", 8)
    return net.bytes()


def residual_concat(seed: int = 0) -> bytes:
    """PReLU residual block, concat with its input, max-pool, GAP, Gemm: all that a packed file must hold at once."""
    net = Sketch(seed)
    net.prelu(net.conv("image", "c1", 3, 8), "p1", 8)
    net.prelu(net.conv("p1", "c2", 8, 8, group=8), "p2", 8)
    net.conv("p2", "c3", 8, 8, 1)
    net.op("Add", ["c3", "p1"], "sum")
    net.op("Concat", ["sum", "p2"], "both", axis=1)
    net.op("MaxPool", ["both"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    net.prelu(net.conv("pool", "c4", 16, 16), "p4", 16)
    net.head("p4", 16)
    return net.bytes()


def computed_shape(seed: int = 0) -> bytes:
    """The shape that a Reshape asks for is computed from the tensor itself, as exporters write ``x.view(n, -1)``."""
    net = Sketch(seed)
    net.op("Relu", [net.conv("image", "c1", 3, 4)], "r1")
    net.op("Relu", [net.conv("r1", "c2", 4, 4)], "r2")
    net.op("Shape", ["r2"], "shape")
    net.op("Gather", ["shape", net.constant("zero", 0, np.int64)], "count", axis=0)
    net.op("Unsqueeze", ["count", net.constant("axis", [0], np.int64)], "count1")
    net.op("Concat", ["count1", net.constant("rest", [-1], np.int64)], "wanted", axis=0)
    net.op("Reshape", ["r2", "wanted"], "rows")
    net.op("Gemm", ["rows", net.weight("g1_w", 10, 4 * SIDE * SIDE)], "g1", transB=1)
    net.op("Relu", ["g1"], "r3")
    net.op("Gemm", ["r3", net.weight("embedding_w", DIM, 10)], "embedding", transB=1)
    return net.bytes()


def crossed(seed: int = 0) -> bytes:
    """A product of matrices on (places, images, channels): there the images do not lie along the first axis."""
    net = Sketch(seed)
    net.op("Relu", [net.conv("image", "c1", 3, 4)], "r1")
    net.op("Reshape", ["r1", net.constant("rows", [0, 4, -1], np.int64)], "tokens")
    net.op("Transpose", ["tokens"], "crossed", perm=[2, 0, 1])
    net.op("MatMul", ["crossed", net.weight("m1_w", 4, 8)], "m1")
    net.op("Relu", ["m1"], "r2")
    net.op("MatMul", ["r2", net.weight("m2_w", 8, 8)], "m2")
    net.op("Relu", ["m2"], "r3")
    net.op("Transpose", ["r3"], "back", perm=[1, 0, 2])
    net.op("ReduceMean", ["back"], "mean", axes=[1], keepdims=0)
    net.op("Gemm", ["mean", net.weight("embedding_w", DIM, 8)], "embedding", transB=1)
    return net.bytes()


def attention(seed: int = 0) -> bytes:
    """Two projections of the same tokens multiplied with each other: a product without a constant weight."""
    net = Sketch(seed)
    net.op("Relu", [net.conv("image", "c1", 3, 8)], "r1")
    net.op("Reshape", ["r1", net.constant("rows", [0, 8, -1], np.int64)], "channels")
    net.op("Transpose", ["channels"], "tokens", perm=[0, 2, 1])
    net.op("MatMul", ["tokens", net.weight("query_w", 8, 4)], "query")
    net.op("MatMul", ["tokens", net.weight("key_w", 8, 4)], "key")
    net.op("Transpose", ["key"], "turned", perm=[0, 2, 1])
    net.op("MatMul", ["query", "turned"], "scores")
    net.op("Softmax", ["scores"], "shares", axis=-1)
    net.op("MatMul", ["shares", "tokens"], "mixed")
    net.op("ReduceMean", ["mixed"], "mean", axes=[1], keepdims=0)
    net.op("Gemm", ["mean", net.weight("embedding_w", DIM, 8)], "embedding", transB=1)
    return net.bytes()


def gated(seed: int = 0) -> bytes:
    """Squeeze and excite: a branch over a global average multiplies what it came from."""
    net = Sketch(seed)
    net.op("Relu", [net.conv("image", "c1", 3, 8)], "r1")
    net.op("GlobalAveragePool", ["r1"], "squeezed")
    net.op("Relu", [net.conv("squeezed", "c2", 8, 4, 1)], "r2")
    net.op("Sigmoid", [net.conv("r2", "c3", 4, 8, 1)], "gate")
    net.op("Mul", ["r1", "gate"], "excited")
    net.head("excited", 8)
    return net.bytes()


def normalised(seed: int = 0) -> bytes:
    """Pixels are normalised in the network, and so is the embedding: neither gets a quantizer."""
    net = Sketch(seed)
    net.op("Sub", ["image", net.constant("mean", 0.1)], "centred")
    net.op("Mul", ["centred", net.constant("gain", 1.7)], "pixels")
    net.op("Relu", [net.conv("pixels", "c1", 3, 8)], "r1")
    net.head("r1", 8, "linear")
    net.op("ReduceL2", ["linear"], "norm", axes=[1], keepdims=1)
    net.op("Div", ["linear", "norm"], "embedding")
    return net.bytes()


#: Every structure, by name.
NETWORKS: dict[str, Callable[..., bytes]] = {
    made.__name__: made
    for made in (
        plain,
        residual,
        concat,
        residual_concat,
        computed_shape,
        crossed,
        attention,
        gated,
        normalised,
    )
}


def network(content: bytes, name: str = "sketch") -> Network:
    """Return a Network around a model of this module."""
    digest = hashlib.sha256(content).hexdigest()
    spec = InputSpec(size=(SIDE, SIDE), origin="the tests")
    return Network(name=name, source=f"{name}.onnx", spec=spec, onnx=content, dim=DIM, digest=digest)


def pixels(count: int, seed: int = 1) -> torch.Tensor:
    """Return a batch in [-1, 1], smooth as photographs are."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, 4, 4), generator=draw) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")


def simulated(content: bytes, target: str | KernelTable = "generic") -> Simulation:
    """Return the simulation of a model of this module."""
    return simulate(network(content), target)


def fitted(content: bytes, target: str | KernelTable = "generic", **settings: str) -> QuantizerCache:
    """Return it with histograms over a dozen images."""
    simulation = simulated(content, target)
    return QuantizerCache(simulation, observe(simulation, pixels(12)), **settings)


def in_onnxruntime(content: bytes, images: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return what ONNX Runtime, with all its optimisations, computes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: np.asarray(images)})[0]
    return found


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    found: np.ndarray = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found
