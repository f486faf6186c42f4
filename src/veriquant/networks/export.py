"""A PyTorch module becomes ONNX bytes."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import onnx

from veriquant.frontends.spec import InputSpec
from veriquant.networks.input_stamp import stamp_input

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 17
INPUT = "input"
OUTPUT = "embedding"


def export_onnx(module: nn.Module, spec: InputSpec) -> bytes:
    """Return `module` as an ONNX model that takes batches of any length, with `spec` in its metadata.

    Input and output are called `INPUT` and `OUTPUT`; initializers carry the names of the module's parameters, and
    batch-norms stand as they are: folding them is the quantizer's business and a runtime's. The module is exported as
    it evaluates, and left in the mode it was in. The same weights give the same bytes.
    """
    import torch

    height, width = spec.size
    image = torch.zeros(2, 3, height, width, device=next(module.parameters()).device)
    was_training = module.training
    module.eval()
    try:
        model = exported(module, image, outputs=(OUTPUT,))
    finally:
        module.train(was_training)
    stamp_input(model, spec)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def exported(
    module: nn.Module, example: Tensor, any_number: bool = True, outputs: Sequence[str] = ()
) -> onnx.ModelProto:
    """Return `module`, in the mode that it is in, as an ONNX model that takes images of the shape of `example`.

    With `any_number` the length of the batch is open. Weights that the exporter renamed have their names back.
    """
    import torch

    target = io.BytesIO()
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    try:
        exporter_log.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                target,  # type: ignore[arg-type]  # the stub tells of the newer exporter only
                input_names=[INPUT],
                output_names=list(outputs) or None,
                dynamic_axes={name: {0: "n"} for name in (INPUT, *outputs)} if any_number else None,
                opset_version=OPSET,
                dynamo=False,  # needs no further package, and writes the same bytes each time
                training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fold batch-norms and lose parameters' names
            )
    finally:
        exporter_log.setLevel(level)
    model = onnx.load_from_string(target.getvalue())
    _inline_shared_weights(model.graph)
    _name_weights(model.graph)
    return model


def _inline_shared_weights(graph: onnx.GraphProto) -> None:
    """Let nodes use initializers directly where the exporter put an Identity between (it merges equal weights)."""
    weights = {tensor.name for tensor in graph.initializer}
    source = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.input[0] in weights}
    kept = [node for node in graph.node if not (node.op_type == "Identity" and node.output[0] in source)]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = source.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def _name_weights(graph: onnx.GraphProto) -> None:
    """Give weights that the exporter transposed or reshaped, and so renamed, the name of their module's parameter."""
    taken = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        for name in node.input[1:]:
            parameter = f"{_module_name(node.name)}.weight"
            if name.startswith("onnx::") and name in taken and name not in names and parameter not in taken:
                names[name] = parameter
                taken.add(parameter)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _module_name(node: str) -> str:
    """Return the module that a node's name tells of: ``/layer2/layer2.0/prelu/PRelu`` is of ``layer2.0.prelu``."""
    parts = node.strip("/").split("/")[:-1]
    return ".".join(a for a, b in pairwise([*parts, ""]) if not b.startswith(f"{a}."))
