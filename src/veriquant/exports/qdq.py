"""Handing a float graph and its ranges to ONNX Runtime's quantization tool: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from veriquant.deploy.pack.float_islands import hold_in_float
from veriquant.errors import VeriQuantError
from veriquant.exports.histograms import Range
from veriquant.exports.saturation import paired_scales
from veriquant.onnxgraph.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnxruntime.quantization.calibrate import TensorsData

Type = Literal["QInt8", "QUInt8"]


@dataclass(frozen=True)
class Kernels:
    """The integer types of activations and weights, on which it depends which kernel a runtime takes.

    `weight_levels`: 'full' takes all 8 bits; 'reduced' 7 bits, the tool's `reduce_range`; 'paired' all 8 bits as far as
    the channel's neighbouring weights allow (`saturation.py`).
    """

    activations: Type = "QUInt8"
    weights: Type = "QInt8"
    weight_levels: Literal["full", "reduced", "paired"] = "full"

    @property
    def name(self) -> str:
        """The short name, such as U8S8."""
        short = {"QInt8": "S8", "QUInt8": "U8"}
        extra = {"full": "", "reduced": " with 7-bit weights", "paired": " with weights scaled pair by pair"}
        return short[self.activations] + short[self.weights] + extra[self.weight_levels]


def insert_qdq(
    graph: Graph,
    ranges: Mapping[str, Range] | TensorsData,
    kernels: Kernels,
    *,
    per_channel: bool = True,
    keep_float: Collection[str] = (),
    fused_outputs: bool = False,
) -> bytes:
    """Return `graph` with quantizers around every node that the tool can quantize, serialised.

    `ranges`: (low, high) of each activation, or what a calibrator of the tool computed. `keep_float`: names of nodes
    to leave in floating point. `fused_outputs`: quantize only what layers with weights read, not what they write, for a
    runtime that carries the activation function into the layer's kernel and needs no quantizer in between.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    if not isinstance(ranges, TensorsData):
        measured = {
            name: TensorData(lowest=np.array(low, dtype=np.float32), highest=np.array(high, dtype=np.float32))
            for name, (low, high) in ranges.items()
        }
        ranges = TensorsData(CalibrationMethod.MinMax, measured)
    # Unsigned weights lie around 128: left to itself the tool gives every channel a zero point of its own, for which
    # ONNX Runtime has no integer convolution.
    options: dict[str, object] = {"WeightSymmetric": True}
    if fused_outputs:
        options |= {"OpTypesToExcludeOutputQuantization": ["Conv", "Gemm"], "QuantizeBias": False}
    if kernels.weight_levels == "paired":
        options["TensorQuantOverrides"] = paired_scales(graph, QuantType[kernels.weights], keep_float)
    with quiet_tool():
        quantizer = QDQQuantizer(
            graph.to_model(),
            per_channel,
            kernels.weight_levels == "reduced",
            QuantType[kernels.weights],
            QuantType[kernels.activations],
            ranges,
            [],
            sorted(keep_float),
            quantizable_operations(),
            options,
        )
        quantizer.quantize_model()
        # The tool appends its nodes at the end; a file that the ONNX checker accepts has them in order.
        quantizer.model.topological_sort()
    quantized = Graph(quantizer.model.model, own_names=True)
    hold_in_float(quantized, keep_float)
    return quantized.to_bytes()


def quantizable_operations() -> list[str]:
    """Return the operators that the tool's static quantization knows."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})


@contextmanager
def quiet_tool() -> Iterator[None]:
    """Silence the tool's advice on the root logger, and numpy's: what a user must know stands in the notes.

    What the tool fails on, it tells by whatever exception its code met; here it is one line.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    except VeriQuantError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise VeriQuantError(
            f"ONNX Runtime's quantization tool cannot quantize this network ({type(error).__name__}: {reason}); take "
            "recipe int8, mixed or fixed, or other calibration images where a range is to blame"
        ) from error
    finally:
        logging.disable(before)
