"""INT8 by ONNX Runtime's static quantization, as its users run it: QDQ, calibrated ranges, all that it knows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from veriquant.baselines.baseline import BASELINES, Baseline
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.input_batches import input_batches
from veriquant.calibration.layer_records import quantized_layers
from veriquant.calibration.result import QuantizationResult
from veriquant.config import Config
from veriquant.data.calibration import Calibration
from veriquant.exports.qdq import Kernels, Type, insert_qdq, quantizable_operations, quiet_tool
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites import fold_batchnorm, fold_constants
from veriquant.progress import track
from veriquant.results import remark

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

#: Images whose activations the tool holds in memory at once before it adds them to its histograms.
_SLICE = 16


class StaticConfig(Config):
    """The settings of the source report, all open: MinMax ranges, QUInt8 activations, QInt8 weights per channel.

    `calibration`: how the tool turns calibration images into ranges. `percentile` counts for that method alone.
    """

    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    percentile: float = Field(default=99.99, gt=50, le=100)
    activations: Type = "QUInt8"
    weights: Type = "QInt8"
    per_channel: bool = True
    reduce_range: bool = False
    images: int = Field(default=500, ge=1)


def _run(
    network: Network, settings: StaticConfig, calibration: Calibration | None, target: QuantizationContext
) -> QuantizationResult:
    assert calibration is not None
    graph = Graph.from_bytes(network.onnx)
    fold_constants(graph)
    fold_batchnorm(graph)
    ranges = _tool_ranges(graph, network, settings, calibration)
    kernels = Kernels(settings.activations, settings.weights, "reduced" if settings.reduce_range else "full")
    content = insert_qdq(graph, ranges, kernels, per_channel=settings.per_channel)
    known = set(quantizable_operations())
    kept = {n.name: "the tool has no quantizer for it" for n in graph.nodes if n.op_type not in known}
    notes = [f"kernels {kernels.name}, ranges by {settings.calibration} over {calibration.note}"]
    return QuantizationResult(
        content, quantized_layers(network.onnx, graph, kept), [remark("prepare", note) for note in notes]
    )


class _Reader:
    """The tool's calibration reader, over batches that are at hand."""

    def __init__(self, name: str, batches: Iterator[npt.NDArray[np.float32]]) -> None:
        self._name = name
        self._batches = batches

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _tool_ranges(graph: Graph, network: Network, settings: StaticConfig, calibration: Calibration) -> TensorsData:
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    method, options = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "percentile": (CalibrationMethod.Percentile, {"percentile": settings.percentile, "symmetric": False}),
        "entropy": (CalibrationMethod.Entropy, {"symmetric": False}),
    }[settings.calibration]
    with tempfile.TemporaryDirectory() as folder, quiet_tool():
        path = Path(folder) / "float.onnx"
        path.write_bytes(graph.to_bytes())
        calibrator = create_calibrator(
            path,
            quantizable_operations(),
            augmented_model_path=str(Path(folder) / "watched.onnx"),
            calibrate_method=method,
            extra_options=options,
        )
        batches = input_batches(calibration, network, settings.images, _SLICE)
        total = -(-min(settings.images, len(calibration.samples)) // _SLICE)
        for batch in track(batches, f"calibrating by {settings.calibration}", total=total):
            calibrator.collect_data(_Reader(graph.input, iter([batch])))
        ranges: Any = calibrator.compute_data()
    return ranges


BASELINES.add(
    "int8-static",
    Baseline(
        "int8-static",
        "ONNX Runtime's static quantization: QDQ, calibrated ranges, weights per channel",
        StaticConfig,
        _run,
        lambda settings: settings.images,
    ),
)
