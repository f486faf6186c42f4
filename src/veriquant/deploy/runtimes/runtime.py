"""The registry of runtimes: what each needs, and how to open a network in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from veriquant.deploy.embedder import Embedder
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.onnx_file import with_plain_ends
from veriquant.registry import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Loaded:
    """What a runtime is given to open: the ONNX form of a network, its input and, where there is one, its module."""

    onnx: bytes
    spec: InputSpec
    threads: int
    module: nn.Module | None = None


@dataclass(frozen=True)
class Runtime:
    """One way to run a network. `missing()` says what stands in the way on this machine; an empty string: nothing."""

    name: str
    summary: str
    open: Callable[[Loaded], Embedder]
    missing: Callable[[Loaded], str]


RUNTIMES: Registry[Runtime] = Registry("runtime")


def open_embedder(
    onnx: bytes,
    spec: InputSpec,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    module: nn.Module | None = None,
) -> Embedder:
    """Load a network in a runtime.

    `onnx` is the serialised model, as `load_network` gives it or as a recipe wrote it; `module` its PyTorch form, which
    only the runtime 'pytorch' uses.
    Raises `VeriQuantError` for an unknown runtime, one that is not installed, or a network that it cannot run.
    """
    chosen = RUNTIMES.get(runtime)
    if threads < 1:
        raise VeriQuantError(f"threads must be at least 1, found {threads}")
    obstacle = chosen.missing(Loaded(onnx, spec, threads, module))
    if obstacle:
        raise VeriQuantError(f"runtime {runtime!r} cannot be used: {obstacle}")
    return chosen.open(Loaded(with_plain_ends(onnx, spec), spec, threads, module))
