"""`--runtime auto`: time the runtimes that can run the network at hand and take the fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from veriquant.deploy.embedder import Embedder
from veriquant.deploy.latency import measure_latency
from veriquant.deploy.runtimes.runtime import RUNTIMES, Loaded, open_embedder
from veriquant.frontends.spec import InputSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RuntimeChoice:
    """The fastest runtime for a network, and the measured sentence that says why."""

    runtime: str
    sentence: str


def choose_runtime(
    onnx: bytes, spec: InputSpec, *, threads: int = 1, module: nn.Module | None = None, rounds: int = 15
) -> RuntimeChoice:
    """Time one image at a time in every runtime that can run the network, interleaved, and return the fastest."""
    loaded = Loaded(onnx, spec, threads, module)
    embedders: dict[str, Embedder] = {}
    left_out: list[str] = []
    for name in RUNTIMES:
        obstacle = RUNTIMES.get(name).missing(loaded)
        if obstacle:
            left_out.append(f"{name} ({obstacle})")
        else:
            embedders[name] = open_embedder(onnx, spec, runtime=name, threads=threads, module=module)
    times = measure_latency(embedders, batches=(1,), rounds=rounds)
    medians = {name: times[name][0].median_ms for name in embedders}
    fastest = min(medians, key=lambda name: medians[name])
    listed = ", ".join(f"{name} {value:.1f} ms" for name, value in sorted(medians.items(), key=lambda item: item[1]))
    sentence = f"{fastest} is the fastest on {threads} thread{'s' if threads > 1 else ''} (median, batch 1: {listed})"
    if left_out:
        sentence += f"; not tried: {'; '.join(left_out)}"
    return RuntimeChoice(fastest, sentence)
