"""A small network with every operator that is packed, its codes, and what PyTorch computes of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from veriquant.deploy.pack import PackedActivation, PackedWeight
from veriquant.onnxgraph.graph import Graph, attribute, groups
from veriquant.schemes.codes import Codes

WEIGHTED = ("conv", "depthwise", "pointwise", "gemm", "gemm_plain", "matmul")
#: Tensors that a plan would quantize: what kernels read and write.
TENSORS = ("x", "conv_y", "prelu_y", "depthwise_y", "pointwise_y", "add_y", "concat_y", "pool_y", "gemm_y", "relu2_y")


def network(seed: int = 0) -> Graph:
    """Convolution, depth-wise, point-wise, Add, Concat, pooling, Gemm in both layouts, MatMul, PReLU and ReLU."""
    rng = np.random.default_rng(seed)

    def constant(name: str, *shape: int, gain: float = 1.0) -> TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) * gain).astype(np.float32), name)

    def node(kind: str, inputs: str, name: str, **attributes: object) -> object:
        return helper.make_node(kind, inputs.split(), [f"{name}_y"], name, **attributes)

    nodes = [
        node("Conv", "x conv_w conv_b", "conv", pads=[1] * 4, kernel_shape=[3, 3]),
        node("PRelu", "conv_y slope", "prelu"),
        node("Conv", "prelu_y depthwise_w depthwise_b", "depthwise", pads=[1] * 4, group=16, kernel_shape=[3, 3]),
        node("Relu", "depthwise_y", "relu"),
        node("Conv", "relu_y pointwise_w", "pointwise", kernel_shape=[1, 1]),
        node("Add", "pointwise_y prelu_y", "add"),
        node("Concat", "add_y relu_y", "concat", axis=1),
        node("GlobalAveragePool", "concat_y", "pool"),
        node("Flatten", "pool_y", "flatten"),
        node("Gemm", "flatten_y gemm_w gemm_b", "gemm", transB=1),
        node("Gemm", "gemm_y gemm_plain_w gemm_plain_b", "gemm_plain"),
        node("Relu", "gemm_plain_y", "relu2"),
        node("MatMul", "relu2_y matmul_w", "matmul"),
    ]
    weights = [
        constant("conv_w", 16, 8, 3, 3, gain=0.15),
        constant("conv_b", 16, gain=0.1),
        numpy_helper.from_array(rng.uniform(0.1, 0.4, (16, 1, 1)).astype(np.float32), "slope"),
        constant("depthwise_w", 16, 1, 3, 3, gain=0.4),
        constant("depthwise_b", 16, gain=0.1),
        constant("pointwise_w", 16, 16, 1, 1, gain=0.3),
        constant("gemm_w", 48, 32, gain=0.5),
        constant("gemm_b", 48),
        constant("gemm_plain_w", 48, 40, gain=0.2),
        constant("gemm_plain_b", 40, gain=0.1),
        constant("matmul_w", 40, 27, gain=0.2),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 10, 10])],
        [helper.make_tensor_value_info("matmul_y", TensorProto.FLOAT, ["batch", 27])],
        weights,
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def images(count: int = 6, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8, 10, 10)).astype(np.float32)


def outputs_first(graph: Graph, name: str) -> Tensor:
    node = next(n for n in graph.nodes if n.name == name)
    weight = graph.weight(node)
    assert weight is not None
    return torch.tensor(weight.T.copy() if _inputs_first(node) else weight)


def symmetric(weight: Tensor, bits: int) -> Codes:
    """Per channel, zero at 2**(bits − 1): what a sign bit stores."""
    half = 1 << bits - 1
    scale = weight.flatten(1).abs().amax(1) / max(half - 1, 1)
    codes = torch.round(weight / _along(scale, weight)).clamp(-half, half - 1) + half
    return Codes(codes.int(), bits, scale, torch.full((len(weight),), half, dtype=torch.int32), None, 0)


def asymmetric(weight: Tensor, bits: int) -> Codes:
    """Per channel, each with a zero point of its own."""
    low, high = weight.flatten(1).amin(1).clamp(max=0), weight.flatten(1).amax(1).clamp(min=0)
    scale = (high - low) / ((1 << bits) - 1)
    zero = torch.round(-low / scale)
    codes = (torch.round(weight / _along(scale, weight)) + _along(zero, weight)).clamp(0, (1 << bits) - 1)
    return Codes(codes.int(), bits, scale, zero.int(), None, 0)


def whole(weight: Tensor, bits: int) -> Codes:
    """One scale and zero point for the whole tensor, off the middle of the codes."""
    row = asymmetric(weight.reshape(1, -1), bits)
    assert row.zero_point is not None
    return Codes(row.values.reshape(weight.shape), bits, row.scale[0], row.zero_point[0])


def codebook(weight: Tensor, bits: int) -> Codes:
    """One set of levels for all channels, a scale for each."""
    scale = weight.flatten(1).abs().amax(1)
    levels = torch.linspace(-1, 1, 1 << bits).sign() * torch.linspace(-1, 1, 1 << bits).abs() ** 1.5
    return Codes(_nearest(weight / _along(scale, weight), levels), bits, scale, None, levels, 0)


def single_codebook(weight: Tensor, bits: int) -> Codes:
    """One set of levels, one scale."""
    scale = weight.abs().max()
    levels = torch.linspace(-1, 1, 1 << bits) ** 3 if bits > 1 else torch.tensor([-0.4, 0.5])
    return Codes(_nearest(weight / scale, levels), bits, scale, None, levels)


def channel_codebooks(weight: Tensor, bits: int) -> Codes:
    """Levels of its own for every channel: quantiles of its weights."""
    flat = weight.flatten(1)
    levels = torch.quantile(flat, (torch.arange(1 << bits) + 0.5) / (1 << bits), dim=1).T.contiguous()
    codes = torch.stack([_nearest(row, own) for row, own in zip(flat, levels, strict=True)]).reshape(weight.shape)
    return Codes(codes, bits, torch.linspace(0.9, 1.1, len(weight)), None, levels, 0)


KINDS = {kind.__name__: kind for kind in (symmetric, asymmetric, whole, codebook, single_codebook, channel_codebooks)}

#: Every kind in every width that it makes sense in: nobody has codebooks of more than 256 levels.
CASES = [(kind, bits) for kind in KINDS for bits in (*range(1, 9), *(() if "codebook" in kind else (12, 16)))]


def weights(graph: Graph, kind: str, bits: int, integer: bool = False) -> dict[str, PackedWeight]:
    return {name: PackedWeight(KINDS[kind](outputs_first(graph, name), bits), integer) for name in WEIGHTED}


def levels(graph: Graph, packed: Mapping[str, PackedWeight], bits: int) -> dict[str, PackedActivation]:
    """Levels over the range of each tensor of `TENSORS` when weights are quantized and activations are not."""
    kept: dict[str, Tensor] = {}
    compute(graph, images(seed=7), packed, {}, kept=kept)
    found = {}
    for name in TENSORS:
        low, high = min(float(kept[name].min()), 0.0), float(kept[name].max())
        scale = float(np.float32((high - low) / ((1 << bits) - 1)))
        found[name] = PackedActivation(scale, min(max(round(-low / scale), 0), (1 << bits) - 1), bits)
    return found


def compute(
    graph: Graph,
    x: np.ndarray,
    packed: Mapping[str, PackedWeight],
    activations: Mapping[str, PackedActivation],
    bypass: Collection[str] = (),
    kept: dict[str, Tensor] | None = None,
) -> np.ndarray:
    """Compute the network in PyTorch with the packed weights' values and simulated activations."""
    exact = {graph.input: torch.tensor(x)}
    for node in graph.nodes:
        inputs = []
        for name in node.input:
            if name in graph.constants:
                inputs.append(torch.tensor(graph.constants[name]))
            elif name in activations and node.name not in bypass:
                inputs.append(_simulated(exact[name], activations[name]))
            else:
                inputs.append(exact[name])
        if node.name in packed:
            values = packed[node.name].codes.decode()
            inputs[1] = values.T if _inputs_first(node) else values
        exact[node.output[0]] = _step(node, inputs)
    if kept is not None:
        kept.update(exact)
    result = exact[graph.output]
    return (_simulated(result, activations[graph.output]) if graph.output in activations else result).numpy()


def session(content: bytes, optimized: str | None = None) -> ort.InferenceSession:
    """Open a model in ONNX Runtime, one thread, all optimizations; `optimized`: where to write what became of it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        # The layouts of the last level are for one machine; the kernels are chosen before.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = optimized
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(content: bytes, x: np.ndarray) -> np.ndarray:
    opened = session(content)
    return opened.run(None, {opened.get_inputs()[0].name: x})[0]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def _simulated(x: Tensor, by: PackedActivation) -> Tensor:
    code = (torch.round(x / np.float32(by.scale)) + by.zero_point).clamp(0, (1 << by.bits) - 1)
    return (code - by.zero_point) * np.float32(by.scale)


def _step(node: object, inputs: list[Tensor]) -> Tensor:
    match node.op_type:
        case "Conv":
            pads = attribute(node, "pads", [0] * 4)
            return F.conv2d(inputs[0], inputs[1], *inputs[2:], padding=pads[0], groups=groups(node))
        case "Gemm":
            return inputs[0] @ (inputs[1].T if attribute(node, "transB", 0) else inputs[1]) + inputs[2]
        case "MatMul":
            return inputs[0] @ inputs[1]
        case "PRelu":
            return F.prelu(inputs[0], inputs[1].flatten())
        case "Relu":
            return F.relu(inputs[0])
        case "Add":
            return inputs[0] + inputs[1]
        case "Concat":
            return torch.cat(inputs, dim=attribute(node, "axis"))
        case "GlobalAveragePool":
            return inputs[0].mean((2, 3), keepdim=True)
        case "Flatten":
            return inputs[0].flatten(1)
        case other:
            raise AssertionError(other)


def _inputs_first(node: object) -> bool:
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))


def _along(value: Tensor, weight: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (weight.ndim - 1))


def _nearest(weight: Tensor, own: Tensor) -> Tensor:
    if len(own) <= 256:
        return (weight.unsqueeze(-1) - own).abs().argmin(-1).int()
    return torch.bucketize(weight, (own[1:] + own[:-1]) / 2).int()
