"""From a network and settings to a quantized ONNX file: one file a method; importing this package registers them."""

from veriquant.quantization import fixed, int8, iterative, mixed, qat, reference, tool_dynamic, tool_static
from veriquant.quantization.method import METHODS, Method, Quantized, Sampled, Settings, Target

__all__ = [
    "METHODS",
    "Method",
    "Quantized",
    "Sampled",
    "Settings",
    "Target",
    "fixed",
    "int8",
    "iterative",
    "mixed",
    "qat",
    "reference",
    "tool_dynamic",
    "tool_static",
]
