"""VeriQuant: makes biometric embedding networks small and fast, and proves that recognition survives.

The names below are the public face; each is imported when it is first used::

    import veriquant as vq

    network, benchmark = vq.load_network("face.onnx"), vq.load_benchmark("lfw:lfw-112x112")
    print(vq.evaluate(network, benchmark, flip=True).metrics["accuracy"].ci95)
    made = vq.quantize(network, "int8", calibration="photos")
    made.save("face-int8.onnx")
    print(vq.compare(network, made, on=benchmark))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from veriquant.telemetry import decline

if TYPE_CHECKING:
    from veriquant.api import NetworkComparison, compare, load_calibration, quantize
    from veriquant.benchmarks import Benchmark, load_benchmark
    from veriquant.calibration.result import QuantizationResult
    from veriquant.deploy.embedder import Embedder
    from veriquant.deploy.pack import load_module
    from veriquant.deploy.runtimes import open_embedder
    from veriquant.errors import VeriQuantError
    from veriquant.evaluation import evaluate
    from veriquant.frontends.spec import InputSpec
    from veriquant.networks import Network, load_network
    from veriquant.recipes import Recipe, load_recipe
    from veriquant.report import write_report
    from veriquant.simulation.plan import Plan, load_plan
    from veriquant.study import run_study

decline()

__version__ = "0.1.0"

_HOME = {
    "Benchmark": "veriquant.benchmarks",
    "Embedder": "veriquant.deploy.embedder",
    "InputSpec": "veriquant.frontends.spec",
    "Network": "veriquant.networks",
    "NetworkComparison": "veriquant.api",
    "Plan": "veriquant.simulation.plan",
    "QuantizationResult": "veriquant.calibration.result",
    "Recipe": "veriquant.recipes",
    "VeriQuantError": "veriquant.errors",
    "compare": "veriquant.api",
    "evaluate": "veriquant.evaluation",
    "load_benchmark": "veriquant.benchmarks",
    "load_calibration": "veriquant.api",
    "load_module": "veriquant.deploy.pack",
    "load_network": "veriquant.networks",
    "load_plan": "veriquant.simulation.plan",
    "load_recipe": "veriquant.recipes",
    "open_embedder": "veriquant.deploy.runtimes",
    "quantize": "veriquant.api",
    "run_study": "veriquant.study",
    "write_report": "veriquant.report",
}

__all__ = [
    "Benchmark",
    "Embedder",
    "InputSpec",
    "Network",
    "NetworkComparison",
    "Plan",
    "QuantizationResult",
    "Recipe",
    "VeriQuantError",
    "__version__",
    "compare",
    "evaluate",
    "load_benchmark",
    "load_calibration",
    "load_module",
    "load_network",
    "load_plan",
    "load_recipe",
    "open_embedder",
    "quantize",
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
