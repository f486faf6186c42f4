"""Runtimes behind `Embedder`, latency and the machine."""

from veriquant.deploy.embedder import Embedder
from veriquant.deploy.environment import has_integer_dot_product, instruction_sets, machine, versions
from veriquant.deploy.latency import measure_latency
from veriquant.deploy.profiling import Profile, profile
from veriquant.deploy.runtimes import RUNTIMES, RuntimeChoice, choose_runtime, open_embedder

__all__ = [
    "RUNTIMES",
    "Embedder",
    "Profile",
    "RuntimeChoice",
    "choose_runtime",
    "has_integer_dot_product",
    "instruction_sets",
    "machine",
    "measure_latency",
    "open_embedder",
    "profile",
    "versions",
]
