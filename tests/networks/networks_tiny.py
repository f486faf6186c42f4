"""Small ONNX models and small PyTorch networks for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from veriquant.networks.mobilefacenet import MobileFaceNet

Node = tuple[str, list[float]]


def tiny_onnx(
    shape: Sequence[int | str] = ("n", 3, 16, 16),
    first: Sequence[Node] = (),
    nhwc: bool = False,
    constants_as_nodes: bool = False,
    element: int = TensorProto.FLOAT,
    outputs: int = 1,
    flat: bool = True,
    dim: int = 4,
) -> onnx.ModelProto:
    """Return a small embedding network: arithmetic of `first`, Transpose if `nhwc`, Conv, average, Flatten."""
    rng = np.random.default_rng(0)
    nodes, weights, name = [], [], "image"
    for i, (kind, values) in enumerate(first):
        inputs = [name]
        for j, value in enumerate(values if kind == "BatchNormalization" else [values]):
            array = np.full(3, value, np.float32) if kind == "BatchNormalization" else np.float32(value)
            if array.size == 3 and kind != "BatchNormalization":
                array = array.reshape((1, 1, 1, 3) if nhwc else (1, 3, 1, 1))
            elif array.size == 1 and kind != "BatchNormalization":
                array = array.reshape(())
            tensor = numpy_helper.from_array(np.asarray(array), f"c{i}{j}")
            if constants_as_nodes:
                nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
            else:
                weights.append(tensor)
            inputs.append(tensor.name)
        nodes.append(helper.make_node(kind, inputs, [f"t{i}"]))
        name = f"t{i}"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [name], ["nchw"], perm=[0, 3, 1, 2]))
        name = "nchw"
    if element != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [name], ["cast"], to=TensorProto.FLOAT))
        name = "cast"
    weights.append(numpy_helper.from_array(rng.normal(size=(dim, 3, 3, 3)).astype(np.float32), "kernel"))
    nodes.append(helper.make_node("Conv", [name, "kernel"], ["maps"], strides=[2, 2]))
    nodes.append(helper.make_node("GlobalAveragePool", ["maps"], ["pooled" if flat else "embedding"]))
    if flat:
        nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"]))
    given = [helper.make_tensor_value_info("image", element, shape)]
    taken = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dim] if flat else ["n", dim, 1, 1])]
    if outputs == 2:
        taken.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", dim, "h", "w"]))
    graph = helper.make_graph(nodes, "tiny", given, taken, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(path: Path, model: onnx.ModelProto) -> Path:
    """Write `model` to `path` and return `path`."""
    path.write_bytes(model.SerializeToString())
    return path


def unlike_any_other(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and statistic a value of its own, so that a mix-up of two shows; return it evaluating."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                noise = torch.rand(2, *tensor.shape, generator=generator) - 0.5
                tensor *= 1 + 0.2 * noise[0]
                tensor += 0.01 * noise[1]
    return module.eval()


def small_mobilefacenet(embedding: int = 32, size: int = 112, width: float = 0.125) -> MobileFaceNet:
    """Return a MobileFaceNet of few channels with weights unlike each other."""
    module = MobileFaceNet(embedding=embedding, size=size, width=width)
    unlike_any_other(module)
    return module
