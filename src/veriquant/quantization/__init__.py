"""From a network and settings to a quantized ONNX file: one file a method; importing this package registers them."""

from veriquant.quantization import int8, reference, tool_dynamic, tool_static
from veriquant.quantization.method import METHODS, Method, Quantized, Settings, Target

__all__ = [
    "METHODS",
    "Method",
    "Quantized",
    "Settings",
    "Target",
    "int8",
    "reference",
    "tool_dynamic",
    "tool_static",
]
