"""`Net`: a small ONNX embedding network written down operator by operator, in any opset, type and form of file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import FunctionProto, TensorProto, ValueInfoProto, helper, numpy_helper

#: Side of an image and length of an embedding, unless a network says otherwise.
SIDE, DIM = 32, 16

Act = Callable[["Net", str, int], str]


class Net:
    """Nodes and weights, one after the other. Weights are drawn from `seed`."""

    def __init__(self, seed: int = 0, dtype: type = np.float32, *, weight_nodes: bool = False) -> None:
        self.draw = np.random.default_rng(seed)
        self.dtype, self.weight_nodes = dtype, weight_nodes
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.count = 0

    def const(self, value: Any, dtype: type | None = None) -> str:
        """Put down a constant, in the network's type where it has none of its own."""
        array = np.asarray(value, dtype=dtype)
        if dtype is None and array.dtype.kind == "f":
            array = array.astype(self.dtype)
        self.count += 1
        name = f"w{self.count}"
        if self.weight_nodes:
            self.nodes.append(
                helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, f"{name}_v"))
            )
        else:
            self.constants.append(numpy_helper.from_array(array, name))
        return name

    def whole(self, *numbers: int) -> str:
        return self.const(np.array(numbers, np.int64), np.int64)

    def number(self, value: float, dtype: type | None = None) -> str:
        return self.const(np.array(value), dtype or self.dtype)

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.const(self.draw.standard_normal(shape) * scale)

    def op(
        self, kind: str, *inputs: str, out: str | None = None, outputs: int = 1, domain: str = "", **more: Any
    ) -> str:
        self.count += 1
        names = [out or f"t{self.count}", *(f"t{self.count}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}_{self.count}", domain=domain, **more))
        return names[0]

    def conv(self, x: str, cin: int, cout: int, k: int = 3, s: int = 1, g: int = 1, bias: bool = True) -> str:
        weights = [self.normal(cout, cin // g, k, k, scale=(2 / (cin // g * k * k)) ** 0.5)]
        weights += [self.normal(cout, scale=0.1)] if bias else []
        return self.op("Conv", x, *weights, kernel_shape=[k, k], strides=[s, s], pads=[k // 2] * 4, group=g)

    def bn(self, x: str, c: int, **more: Any) -> str:
        parts = [1 + 0.2 * self.draw.standard_normal(c), *(0.2 * self.draw.standard_normal(c) for _ in range(2))]
        parts.append(np.abs(1 + 0.2 * self.draw.standard_normal(c)))
        return self.op("BatchNormalization", x, *map(self.const, parts), epsilon=1e-5, **more)

    def prelu(self, x: str, c: int, shape: Sequence[int] | None = None) -> str:
        return self.op("PRelu", x, self.const(np.abs(self.draw.standard_normal(c) * 0.3).reshape(shape or (c, 1, 1))))

    def gemm(self, x: str, cin: int, cout: int, out: str | None = None) -> str:
        return self.op(
            "Gemm", x, self.normal(cout, cin, scale=cin**-0.5), self.normal(cout, scale=0.1), out=out, transB=1
        )

    def body(self, x: str = "image", act: Act | None = None, cin: int = 3, c: int = 8) -> str:
        """Convolutions, a residual block, a depth-wise one: (n, cin, 32, 32) -> (n, 2c, 4, 4)."""
        act = act or (lambda net, y, width: net.prelu(y, width))
        x = act(self, self.bn(self.conv(x, cin, c, s=2, bias=False), c), c)
        x = self.op("Add", x, self.conv(act(self, self.conv(x, c, c), c), c, c))
        x = act(self, self.conv(x, c, c, s=2, g=c), c)
        return act(self, self.conv(x, c, 2 * c, s=2), 2 * c)

    def head(self, x: str, c: int = 16, side: int = 4, out: str = "embedding", dim: int = DIM) -> str:
        return self.gemm(self.op("Flatten", x), c * side * side, dim, out)

    def model(
        self,
        shape: Sequence[int | str] = ("n", 3, SIDE, SIDE),
        out: str = "embedding",
        out_shape: Sequence[int | str] | None = ("n", DIM),
        *,
        opset: int = 17,
        ir: int = 8,
        kind: int = TensorProto.FLOAT,
        out_kind: int | None = None,
        image: str = "image",
        more_outputs: Sequence[ValueInfoProto] = (),
        initializers_as_inputs: bool = False,
        functions: Sequence[FunctionProto] = (),
        domains: Sequence[str] = (),
    ) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(image, kind, shape)]
        if initializers_as_inputs:
            inputs += [helper.make_tensor_value_info(c.name, c.data_type, list(c.dims)) for c in self.constants]
        ends = [helper.make_tensor_value_info(out, out_kind or kind, out_shape), *more_outputs]
        graph = helper.make_graph(self.nodes, "sketch", inputs, ends, self.constants)
        sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=sets, ir_version=ir, functions=functions)


def plain(seed: int = 0) -> onnx.ModelProto:
    """Return an ordinary network."""
    net = Net(seed)
    net.head(net.body())
    return net.model()


def run_alone(content: bytes | onnx.ModelProto, images: np.ndarray, output: str | None = None) -> np.ndarray:
    """Return what ONNX Runtime gives for each image alone, a row each; with a fixed batch, for full ones."""
    if isinstance(content, onnx.ModelProto):
        content = content.SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    size = entry.shape[0] if len(entry.shape) == 4 and isinstance(entry.shape[0], int) else 1
    rows = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        batch = filled if len(entry.shape) == 4 else filled[0]
        found = session.run([output] if output else None, {entry.name: batch})[0]
        rows.append(np.asarray(found, np.float32).reshape(size, -1)[: len(images) - start])
    return np.concatenate(rows)
