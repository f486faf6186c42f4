"""From a network and settings to a quantized ONNX file: one file a method; importing this package registers them."""

from veriquant.quantization import fixed, int8, iterative, mixed, qat, reference, tool_dynamic, tool_static
from veriquant.quantization.method import METHODS, Method, QuantizationContext, QuantizationResult, Sampled, Settings

__all__ = [
    "METHODS",
    "Method",
    "QuantizationContext",
    "QuantizationResult",
    "Sampled",
    "Settings",
    "fixed",
    "int8",
    "iterative",
    "mixed",
    "qat",
    "reference",
    "tool_dynamic",
    "tool_static",
]
