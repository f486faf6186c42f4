"""An ONNX model opened for editing, what is inside it, and exact rewrites of it."""

from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.inspection import NetworkInfo, inspect_onnx

__all__ = ["Graph", "NetworkInfo", "inspect_onnx"]
