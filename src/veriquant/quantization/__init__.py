"""From a network and settings to a quantized ONNX file: one file a method."""

from veriquant.quantization.method import METHODS, Method, Quantized, Settings, Target

__all__ = ["METHODS", "Method", "Quantized", "Settings", "Target"]
