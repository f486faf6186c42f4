"""INT8 by ONNX Runtime's dynamic quantization: 8-bit weights, activations quantized as they come, no calibration."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from veriquant.baselines.baseline import BASELINES, Baseline
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.layer_records import quantized_layers
from veriquant.calibration.result import QuantizationResult
from veriquant.config import Config
from veriquant.deploy.sessions import open_session
from veriquant.errors import VeriQuantError
from veriquant.exports.qdq import quiet_tool
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites import fold_batchnorm, fold_constants
from veriquant.results import remark


class DynamicConfig(Config):
    """`per_channel`: one scale per output channel of a weight instead of one per tensor."""

    per_channel: bool = False


def _run(
    network: Network, settings: DynamicConfig, calibration: Any, target: QuantizationContext
) -> QuantizationResult:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = Graph.from_bytes(network.onnx)
    fold_constants(graph)
    fold_batchnorm(graph)
    with tempfile.TemporaryDirectory() as folder, quiet_tool():
        path = Path(folder) / "dynamic.onnx"
        quantize_dynamic(graph.to_model(), path, per_channel=settings.per_channel, weight_type=QuantType.QInt8)
        content = path.read_bytes()
    notes = ["activations are quantized afresh in every call, which costs time and needs no calibration images"]
    try:
        open_session(content)
    except Exception as error:  # ONNX Runtime has a dozen types of its own
        raise VeriQuantError(
            f"{network.source}: ONNX Runtime cannot load what its own dynamic quantization wrote "
            f"({str(error).splitlines()[0][:200]}); use int8 or int8-static"
        ) from error
    written = onnx.load_model_from_string(content).graph.node
    produced = {node.name.removesuffix("_quant") for node in written}
    integer = {
        node.name.removesuffix("_quant")
        for node in written
        if node.op_type in ("ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM", "QAttention")
    }
    kept = {node.name: "no dynamic kernel" for node in graph.nodes if node.name in produced - integer}
    return QuantizationResult(
        content, quantized_layers(network.onnx, graph, kept), [remark("prepare", note) for note in notes]
    )


BASELINES.add(
    "int8-dynamic",
    Baseline(
        "int8-dynamic",
        "ONNX Runtime's dynamic quantization: QInt8 weights, activations quantized in every call",
        DynamicConfig,
        _run,
    ),
)
