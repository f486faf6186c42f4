"""Full precision: the network untouched, and the network in an equal, faster form."""

from __future__ import annotations

from typing import Any

from veriquant.baselines.baseline import BASELINES, Baseline
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.equality import check_equal, precision_notes
from veriquant.calibration.result import QuantizationResult
from veriquant.config import NoSettings
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.inspection import inspect_onnx
from veriquant.onnxgraph.rewrites import fold_batchnorm, fold_constants, merge_clips, rewrite_prelu
from veriquant.results import Layer, remark


def full_precision_layers(onnx: bytes) -> list[Layer]:
    """Return the layers of a network that is not quantized."""
    return [
        layer.model_copy(update={"weight_bits": 32 if layer.parameters else None, "activation_bits": 32})
        for layer in inspect_onnx(onnx).layers
    ]


def rewritten(network: Network) -> tuple[Graph, list[str]]:
    """Return the network's graph with every exact rewrite applied, and a note on each; checked against the original."""
    graph = Graph.from_bytes(network.onnx)
    fold_constants(graph)
    counts = {
        "batch normalisations folded": fold_batchnorm(graph),
        "pairs of Clips merged": merge_clips(graph),
        "PReLUs rewritten as convolution and addition": rewrite_prelu(graph),
    }
    check_equal(network, graph)
    return graph, [*precision_notes(graph), *(f"{count} {what}" for what, count in counts.items() if count)]


def _untouched(network: Network, config: Any, calibration: Any, context: QuantizationContext) -> QuantizationResult:
    return QuantizationResult(network.onnx, full_precision_layers(network.onnx))


def _faster(network: Network, config: Any, calibration: Any, context: QuantizationContext) -> QuantizationResult:
    graph, notes = rewritten(network)
    records = [remark("prepare", note) for note in notes or ["nothing to rewrite"]]
    return QuantizationResult(graph.to_bytes(), full_precision_layers(network.onnx), records)


BASELINES.add(
    "fp32", Baseline("fp32", "full precision, the network untouched", NoSettings, _untouched, takes_quantized=True)
)
BASELINES.add(
    "fp32-fast",
    Baseline("fp32-fast", "full precision in an equal form that the runtime computes faster", NoSettings, _faster),
)
