"""`pack_onnx`: a float graph and its codes -> a standard ONNX file that is as small as its bits say."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, version_converter
from torch import Tensor

from veriquant.deploy.pack.arrays import to_array
from veriquant.deploy.pack.compact import shorten_names, store_halves, take_names
from veriquant.deploy.pack.float_islands import hold_in_float
from veriquant.deploy.pack.integer import write_bias, write_integer_weight
from veriquant.deploy.pack.integer_kernels import IntegerKernel, integer_kernels, levels_read
from veriquant.deploy.pack.masked_planes import planes_opset
from veriquant.deploy.pack.packed_tensors import PackedActivation, PackedWeight
from veriquant.deploy.pack.parts import Parts, Pool
from veriquant.deploy.pack.products import computes_codes, write_product
from veriquant.deploy.pack.storage import opset
from veriquant.deploy.pack.weights import write_weight
from veriquant.deploy.pack.write_activations import write_activations
from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import OPSET, WEIGHTED, Graph, is_transposed
from veriquant.schemes.codes import Codes

#: The format of the file that first carried an opset, as ONNX's table of versions says.
_IR_VERSIONS = {17: 8, 18: 8, 21: 10, 25: 13}


def pack_onnx(
    graph: Graph,
    weights: Mapping[str, PackedWeight],
    activations: Mapping[str, PackedActivation],
    *,
    biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
    bypass: Collection[str] = (),
    exact: bool = True,
    halves: bool = False,
) -> bytes:
    """Return `graph`, float with its constants folded, as a serialised ONNX model with weights stored as codes.

    `weights`: codes of a Conv, Gemm or MatMul (2-D), by the node's name; the others keep theirs. `activations`: levels
    by tensor name; all who read the tensor read it quantized, except the nodes named in `bypass`. `biases`: biases to
    take instead of the graph's, by node name (Conv, Gemm). `exact`: in integer kernels, never take weights of which
    products may saturate on a processor without VNNI. `halves`: round biases, slopes and scales to float16; otherwise
    only those are stored so that lose nothing by it. The opset is raised to the least one that stores the codes.
    Operations keep their names; the tensors between them do not, and what is added has none.
    """
    graph = _raised(graph, _opset(weights.values(), activations.values()))
    by_name = {node.name: node for node in graph.nodes}
    _check_names(graph, by_name, weights, activations)
    for name, bias in (biases or {}).items():
        graph.set_weight(by_name[name], 2, bias)
    integer = integer_kernels(graph, weights, activations, bypass, exact)
    # A kernel in integers needs its quantizer right in front; to quantize to the same levels again changes nothing.
    activations = {**{by_name[name].input[0]: kernel.reads for name, kernel in integer.items()}, **activations}
    pool = Pool(graph)
    written: dict[tuple[object, ...], str] = {}
    exactly = _exactly(graph, weights, activations, bypass, integer)
    for node in [node for node in graph.nodes if node.name in weights and node.name not in exactly]:
        _write_weight(graph, node, weights[node.name].codes, integer.get(node.name), pool, written)
    write_activations(graph, activations, bypass, pool)
    for name, reads in exactly.items():
        write_product(graph, by_name[name], weights[name], reads, is_transposed(by_name[name]), pool)
    if activations:
        every = any(packed.exact for packed in weights.values())
        hold_in_float(graph, set(by_name) - set(integer) - set(exactly), every=every)
    store_halves(graph, pool, halves)
    model = graph.to_model()
    del model.graph.value_info[:]
    shorten_names(model)
    take_names(model, keep=by_name)
    content: bytes = model.SerializeToString()
    return content


def _exactly(
    graph: Graph,
    weights: Mapping[str, PackedWeight],
    activations: Mapping[str, PackedActivation],
    bypass: Collection[str],
    integer: Collection[str],
) -> dict[str, PackedActivation]:
    """Return the operations that are written as products of codes, with the levels that they read."""
    found = {}
    for node in graph.nodes:
        if node.name not in weights or node.name in integer or node.name in bypass:
            continue
        reads = levels_read(graph, node.input[0], activations, bypass)
        if reads is not None and computes_codes(graph, node, weights[node.name], reads):
            found[node.name] = reads
    return found


def _opset(weights: Collection[PackedWeight], activations: Collection[PackedActivation]) -> int:
    needed = [_opset_of(packed.codes) for packed in weights]
    needed += [21 for levels in activations if levels.bits > 8]
    return max(needed, default=OPSET)


def _opset_of(codes: Codes) -> int:
    return opset(codes.bits) if codes.widths is None else planes_opset(to_array(codes.widths))


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
    return Graph(model, own_names=True)


def _check_names(
    graph: Graph,
    by_name: Mapping[str, NodeProto],
    weights: Mapping[str, PackedWeight],
    activations: Mapping[str, PackedActivation],
) -> None:
    for name, packed in weights.items():
        node = by_name.get(name)
        stored = None if node is None else graph.weight(node)
        if node is None or stored is None or node.op_type not in WEIGHTED:
            raise ValueError(f"{name} is no Conv, Gemm or MatMul with a constant weight")
        shape = stored.shape[::-1] if is_transposed(node) else stored.shape
        if tuple(packed.codes.values.shape) != shape:
            raise ValueError(f"{name}: codes of shape {tuple(packed.codes.values.shape)} for a weight of {shape}")
    known = {graph.input, *graph.producers()}
    for tensor in activations:
        if tensor not in known:
            raise ValueError(f"{tensor} is no tensor of the network")


def _write_weight(
    graph: Graph,
    node: NodeProto,
    codes: Codes,
    kernel: IntegerKernel | None,
    pool: Pool,
    written: dict[tuple[object, ...], str],
) -> None:
    """Let `node` read its weight from codes; a weight in `written`, by its content, is not stored again."""
    parts = Parts(node.name, pool)
    transposed = is_transposed(node)
    told = codes.values, codes.scale, codes.zero_point, codes.levels, codes.widths, codes.exponents
    key = (kernel is None, transposed, codes.bits, *(_content(tensor) for tensor in told))
    if key not in written:
        written[key] = (
            write_weight(parts, codes, transposed)
            if kernel is None
            else write_integer_weight(parts, kernel.weight, transposed)
        )
    node.input[1] = written[key]
    if kernel is not None and kernel.bias is not None:
        node.input[2] = write_bias(parts, kernel.bias, kernel.weight, kernel.reads.scale)
    graph.replace(node, [*parts.nodes, node])


def _content(tensor: Tensor | None) -> object:
    return None if tensor is None else (tuple(tensor.shape), hashlib.sha256(to_array(tensor).tobytes()).digest())
