"""Runtimes, one file each, behind one `Embedder` face; importing this package registers them."""

from veriquant.deploy.runtimes import onnxruntime, openvino, pytorch
from veriquant.deploy.runtimes.choice import RuntimeChoice, choose_runtime
from veriquant.deploy.runtimes.runtime import RUNTIMES, Runtime, open_embedder

__all__ = [
    "RUNTIMES",
    "Runtime",
    "RuntimeChoice",
    "choose_runtime",
    "onnxruntime",
    "open_embedder",
    "openvino",
    "pytorch",
]
