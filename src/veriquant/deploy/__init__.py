"""Runtimes behind `Embedder`, latency, the machine, and what is inside an ONNX file."""

from veriquant.deploy.embedder import Embedder
from veriquant.deploy.environment import has_integer_dot_product, instruction_sets, machine, versions
from veriquant.deploy.inspection import NetworkInfo, inspect_onnx
from veriquant.deploy.latency import measure_latency
from veriquant.deploy.profiling import Profile, profile
from veriquant.deploy.runtimes import RUNTIMES, RuntimeChoice, choose_runtime, open_embedder

__all__ = [
    "RUNTIMES",
    "Embedder",
    "NetworkInfo",
    "Profile",
    "RuntimeChoice",
    "choose_runtime",
    "has_integer_dot_product",
    "inspect_onnx",
    "instruction_sets",
    "machine",
    "measure_latency",
    "open_embedder",
    "profile",
    "versions",
]
