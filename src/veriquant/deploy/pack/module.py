"""A network under a plan as a safetensors file that loads as a PyTorch module: no ONNX runtime is needed to run it.

Beside the codes of the weights (`safetensors_pack`) the file holds the network's graph, an ONNX model without the
quantized weights, as bytes under ``::graph``, and in its metadata the plan, the levels of the activations and the input
specification. Nothing in it is executed on loading.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from veriquant.deploy.pack.arrays import laid_out, to_array
from veriquant.deploy.pack.planned import planned_parts
from veriquant.deploy.pack.safetensors_pack import Pack, load_pack, save_pack
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.network import Network, network_digest
from veriquant.networks.onnx_bytes import parse_onnx
from veriquant.networks.onnx_ends import image_input
from veriquant.networks.onnx_sizes import sizes_are_known
from veriquant.networks.onnx_structure import check_structure
from veriquant.onnxgraph.graph import Array, Graph, is_transposed
from veriquant.schemes import AffineQuantizer, CodebookQuantizer, Codes, Quantizer
from veriquant.schemes.dorefa import MixedWidths
from veriquant.schemes.mixed_levels import MixedLevels
from veriquant.simulation import TARGETS, Plan, QuantizerCache, Simulation, simulate_graph
from veriquant.simulation.quantizer_cache import RoundedWeight, like
from veriquant.simulation.steps import QuantizationConfig

_KIND = "module"
_GRAPH = "its graph"


class PackedModule(nn.Module):
    """A quantized network in PyTorch: standardised images float32 (n, 3, height, width) -> embeddings (n, dim).

    It computes what the ONNX file of the same plan computes, to the last bit. For inference on the CPU.
    """

    def __init__(self, simulation: Simulation, change: QuantizationConfig, plan: Plan) -> None:
        super().__init__()
        self.spec = simulation.spec
        self.plan = plan
        self._simulation = simulation
        self._change = change

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings of a batch; `spec` says how its images are standardised."""
        with torch.inference_mode():
            return self._simulation.steps.run(images, self._change)


def save_module(path: str | os.PathLike[str], simulation: Simulation, fitted: QuantizerCache, plan: Plan) -> None:
    """Write a simulated network under `plan` atomically, its weights as codes in their own bits."""
    parts = planned_parts(simulation, fitted, plan)
    skeleton = _without(simulation.graph, parts.codes, parts.biases)
    metadata = {
        "kind": _KIND,
        "name": simulation.name,
        "spec": simulation.spec.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json", exclude_none=True),
        "levels": {tensor: [each.scale, each.zero_point, each.bits] for tensor, each in parts.levels.items()},
    }
    biases = {_bias(name): bias for name, bias in parts.biases.items()}
    save_pack(path, parts.codes, biases, metadata, blobs={"graph": skeleton})


def load_module(path: str | os.PathLike[str]) -> PackedModule:
    """Read what `save_module` wrote; raise `VeriQuantError` for any other file."""
    pack = load_pack(path)
    if pack.metadata.get("kind") != _KIND or "graph" not in pack.blobs:
        raise VeriQuantError(f"{path} holds weights alone, not a network: give a file that `veriquant quantize` wrote")
    try:
        spec = InputSpec.model_validate(pack.metadata["spec"])
        plan = Plan.model_validate(pack.metadata["plan"])
        simulation = _simulation(pack, spec, plan)
        fitted = QuantizerCache(
            simulation, {}, weight_scheme=plan.weight_scheme, activation_scheme=plan.activation_scheme
        )
        _fill(fitted, pack, plan)
        module = PackedModule(simulation, fitted.planned(plan), plan)
        module(torch.zeros(spec.batch_shape(1)))  # whatever does not fit shows here
    except VeriQuantError as error:
        raise VeriQuantError(f"{path}: {error}") from error
    except Exception as error:  # PyTorch and NumPy raise almost anything where forged parts do not fit
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise VeriQuantError(f"{path} is damaged ({reason}); write it again") from error
    return module


def _without(graph: Graph, codes: Mapping[str, Codes], biases: Mapping[str, Tensor]) -> bytes:
    """Return the graph's model without the weights that are codes, and without the biases that stand beside them."""
    model = graph.to_model()
    left_out: set[str] = set()
    read: set[str] = set()
    for node in graph.nodes:
        for place, name in enumerate(node.input):
            told = (place == 1 and node.name in codes) or (place == 2 and node.name in biases)
            (left_out if told else read).add(name)
    left_out -= read
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in left_out]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    content: bytes = model.SerializeToString()
    return content


def _simulation(pack: Pack, spec: InputSpec, plan: Plan) -> Simulation:
    content = pack.blobs["graph"]
    model = parse_onnx(content, _GRAPH)
    check_structure(model, _GRAPH)
    there = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        arrays: dict[int, Array] = {}
        if node.name in pack.codes:
            arrays[1] = laid_out(to_array(pack.codes[node.name].decode()), is_transposed(node))
        if _bias(node.name) in pack.parameters:
            arrays[2] = to_array(pack.parameters[_bias(node.name)])
        for place, array in arrays.items():
            if node.input[place] not in there:
                there.add(node.input[place])
                model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), node.input[place]))
    name = str(pack.metadata["name"])
    sizes_are_known(model, image_input(model, _GRAPH).name, spec.batch_shape(2), _GRAPH)
    whole = model.SerializeToString()
    network = Network(name, name, spec, whole, 0, network_digest(whole, spec))
    return simulate_graph(Graph(model, own_names=True), network, TARGETS.get(plan.target))


def _bias(operation: str) -> str:
    return f"bias of {operation}"


def _fill(fitted: QuantizerCache, pack: Pack, plan: Plan) -> None:
    simulation = fitted.simulation
    for name, settings in plan.groups.items():
        for operation in simulation.groups[name].weights:
            if operation in pack.codes:
                codes = pack.codes[operation]
                weight = like(codes.decode(), simulation.weighted(operation).weight)
                rounded = RoundedWeight(_quantizer(codes), weight, pack.parameters.get(_bias(operation)))
                fitted.hold_weight(operation, rounded, rounded.quantizer.bits, settings.scheme)
    for tensor, (scale, zero_point, bits) in pack.metadata["levels"].items():
        zero = torch.tensor(int(zero_point), dtype=torch.int32)
        fitted.hold_activation(tensor, AffineQuantizer(torch.tensor(float(scale)), zero, int(bits)))


def _quantizer(codes: Codes) -> Quantizer:
    if codes.widths is not None and codes.exponents is not None:
        return MixedLevels(codes.scale, codes.widths, codes.exponents)
    if codes.widths is not None:
        assert codes.levels is not None
        return MixedWidths(codes.levels, codes.scale, codes.bits, codes.axis, codes.widths)
    if codes.levels is not None:
        return CodebookQuantizer(codes.levels, codes.scale, codes.bits, codes.axis)
    assert codes.zero_point is not None
    return AffineQuantizer(codes.scale, codes.zero_point, codes.bits, codes.axis)
