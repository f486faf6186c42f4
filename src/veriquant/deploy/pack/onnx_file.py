"""`pack_onnx`: a float graph and its codes -> a standard ONNX file that is as small as its bits say."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, version_converter
from torch import Tensor

from veriquant.deploy.pack.activations import hold_in_float, write_activations
from veriquant.deploy.pack.levels import ActivationLevels, PackedWeight
from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.deploy.pack.storage import opset
from veriquant.deploy.pack.weights import fits_integer, write_float, write_integer
from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import OPSET, WEIGHTED, Graph, attribute

#: The format of the file that first carried an opset, as ONNX's table of versions says.
_IR_VERSIONS = {17: 8, 18: 8, 21: 10, 25: 13}
_LARGEST_INT32 = 2**31 - 1
_ACTIVATION_FUNCTIONS = ("Relu", "Clip")


def pack_onnx(
    graph: Graph,
    weights: Mapping[str, PackedWeight],
    activations: Mapping[str, ActivationLevels],
    *,
    biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
    bypass: Collection[str] = (),
    exact: bool = True,
) -> bytes:
    """Return `graph`, float with its constants folded, as a serialised ONNX model with weights stored as codes.

    `weights`: codes of a Conv, Gemm or MatMul (2-D), by the node's name; the others keep theirs. `activations`: levels
    by tensor name; all who read the tensor read it quantized, except the nodes named in `bypass`. `biases`: biases to
    take instead of the graph's, by node name (Conv, Gemm). `exact`: in integer kernels, never take weights of which
    products may saturate on a processor without VNNI. The opset is raised to the least one that stores the codes.
    """
    graph = _raised(graph, _opset(weights.values(), activations.values()))
    by_name = {node.name: node for node in graph.nodes}
    _check_names(graph, by_name, weights, activations)
    for name, bias in (biases or {}).items():
        graph.set_weight(by_name[name], 2, bias)
    integers = {
        name for name, packed in weights.items() if _runs_in_integers(graph, by_name[name], packed, activations, bypass)
    }
    pool = Pool(graph)
    chains: dict[tuple[object, ...], str] = {}
    for name, packed in weights.items():
        _write_weight(graph, by_name[name], packed, name in integers, activations, exact, pool, chains)
    write_activations(graph, activations, bypass, pool)
    hold_in_float(graph, set(by_name) - integers)
    model = graph.to_model()
    del model.graph.value_info[:]
    content: bytes = model.SerializeToString()
    return content


def _opset(weights: Collection[PackedWeight], activations: Collection[ActivationLevels]) -> int:
    needed = [opset(packed.codes.bits) for packed in weights]
    needed += [21 for levels in activations if levels.bits > 8]
    return max(needed, default=OPSET)


def _raised(graph: Graph, version: int) -> Graph:
    """Return a copy of `graph` of at least opset `version`."""
    model = graph.to_model()
    present = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if present < version:
        try:
            model = version_converter.convert_version(model, version)
        except Exception as error:  # the converter raises whatever its C++ side met
            reason = str(error).strip().splitlines()[0][:200]
            raise VeriQuantError(
                f"the network's opset {present} cannot be converted to {version}, which codes of these widths need "
                f"({reason}); take 8-bit weights, or export it with opset {version}"
            ) from error
        model.ir_version = max(model.ir_version, _IR_VERSIONS[version])
    return Graph(model)


def _check_names(
    graph: Graph,
    by_name: Mapping[str, NodeProto],
    weights: Mapping[str, PackedWeight],
    activations: Mapping[str, ActivationLevels],
) -> None:
    for name, packed in weights.items():
        node = by_name.get(name)
        stored = None if node is None else graph.weight(node)
        if node is None or stored is None or node.op_type not in WEIGHTED:
            raise ValueError(f"{name} is no Conv, Gemm or MatMul with a constant weight")
        shape = stored.shape[::-1] if _is_transposed(node) else stored.shape
        if tuple(packed.codes.values.shape) != shape:
            raise ValueError(f"{name}: codes of shape {tuple(packed.codes.values.shape)} for a weight of {shape}")
    known = {graph.input, *graph.producers()}
    for tensor in activations:
        if tensor not in known:
            raise ValueError(f"{tensor} is no tensor of the network")


def _is_transposed(node: NodeProto) -> bool:
    """Return whether the node's weight is (inputs, outputs)."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))


def _runs_in_integers(
    graph: Graph,
    node: NodeProto,
    packed: PackedWeight,
    activations: Mapping[str, ActivationLevels],
    bypass: Collection[str],
) -> bool:
    source = activations.get(node.input[0])
    if not packed.integer or not fits_integer(packed.codes) or node.name in bypass:
        return False
    if source is None or source.bits > 8:
        return False
    if node.op_type == "Conv" and not _writes_integers(graph, node.output[0], activations):
        return False
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        if not plain or attribute(node, "transA", 0):
            return False
    bias = graph.weight(node, 2)
    if bias is None:
        return not (len(node.input) > 2 and node.input[2])
    return bool(np.abs(bias / _bias_scale(source, packed)).max() < _LARGEST_INT32) and bias.ndim == 1


def _writes_integers(graph: Graph, tensor: str, activations: Mapping[str, ActivationLevels]) -> bool:
    levels = activations.get(tensor)
    if levels is not None:
        return levels.bits <= 8
    users = graph.consumers().get(tensor, [])
    return (
        len(users) == 1
        and users[0].op_type in _ACTIVATION_FUNCTIONS
        and _writes_integers(graph, users[0].output[0], activations)
    )


def _bias_scale(source: ActivationLevels, packed: PackedWeight) -> npt.NDArray[np.float32]:
    scale: npt.NDArray[np.float32] = np.float32(source.scale) * packed.codes.scale.detach().numpy()
    return scale


def _write_weight(
    graph: Graph,
    node: NodeProto,
    packed: PackedWeight,
    integer: bool,
    activations: Mapping[str, ActivationLevels],
    exact: bool,
    pool: Pool,
    chains: dict[tuple[object, ...], str],
) -> None:
    """Let `node` read its weight from codes; a weight that another node stores alike is not stored again."""
    parts = Parts(node.name, pool)
    codes = packed.codes
    transposed = _is_transposed(node)
    contents = (_content(t) for t in (codes.values, codes.scale, codes.zero_point, codes.levels))
    key = (integer, transposed, codes.bits, *contents)
    if key not in chains:
        write = write_integer(parts, codes, transposed, exact) if integer else write_float(parts, codes, transposed)
        chains[key] = write
    node.input[1] = chains[key]
    bias = graph.weight(node, 2)
    if integer and bias is not None:
        node.input[2] = _write_bias(parts, bias, activations[node.input[0]], packed)
    graph.replace(node, [*parts.nodes, node])


def _content(tensor: Tensor | None) -> object:
    return None if tensor is None else (tuple(tensor.shape), tensor.numpy().tobytes())


def _write_bias(parts: Parts, bias: npt.NDArray[np.float32], source: ActivationLevels, packed: PackedWeight) -> str:
    """Write a bias as the int32 of an integer kernel's sum; its scale, the product of two, is left to the runtime."""
    scale = _bias_scale(source, packed)
    codes = np.round(bias.astype(np.float64) / scale).astype(np.int32)
    step = parts.constant(np.array(source.scale, np.float32), "step")
    weight = parts.constant(packed.codes.scale.numpy(), "scale")
    product = parts.add("Mul", [step, weight], "scale")
    return parts.add("DequantizeLinear", [parts.constant(codes, "bias"), product], "bias", axis=0)
