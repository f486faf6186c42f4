"""VeriQuant: makes biometric embedding networks small and fast, and proves that recognition survives.

The names below are the public face; each is imported when it is first used::

    import veriquant as vq

    network = vq.load_network("face.onnx")
    result = vq.evaluate(network, vq.load_benchmark("lfw:lfw-112x112"), flip=True)
    print(result.metrics["accuracy"].value, result.metrics["accuracy"].ci95)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from veriquant.telemetry import decline

if TYPE_CHECKING:
    from veriquant.benchmarks import Benchmark, load_benchmark
    from veriquant.deploy.embedder import Embedder
    from veriquant.deploy.pack import load_module
    from veriquant.deploy.runtimes import open_embedder
    from veriquant.errors import VeriQuantError
    from veriquant.evaluation import evaluate
    from veriquant.frontends.spec import InputSpec
    from veriquant.networks import Network, load_network
    from veriquant.recipes import Recipe, load_recipe
    from veriquant.report import write_report
    from veriquant.study import run_study

decline()

__version__ = "0.1.0"

_HOME = {
    "Benchmark": "veriquant.benchmarks",
    "Embedder": "veriquant.deploy.embedder",
    "InputSpec": "veriquant.frontends.spec",
    "Network": "veriquant.networks",
    "Recipe": "veriquant.recipes",
    "VeriQuantError": "veriquant.errors",
    "evaluate": "veriquant.evaluation",
    "load_benchmark": "veriquant.benchmarks",
    "load_module": "veriquant.deploy.pack",
    "load_network": "veriquant.networks",
    "load_recipe": "veriquant.recipes",
    "open_embedder": "veriquant.deploy.runtimes",
    "run_study": "veriquant.study",
    "write_report": "veriquant.report",
}

__all__ = [
    "Benchmark",
    "Embedder",
    "InputSpec",
    "Network",
    "Recipe",
    "VeriQuantError",
    "__version__",
    "evaluate",
    "load_benchmark",
    "load_module",
    "load_network",
    "load_recipe",
    "open_embedder",
    "run_study",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import veriquant`` alone costs nothing."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'veriquant' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
