"""`Simulation`: a network with places for quantizers: on its weights, and on every tensor that a kernel reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.inspection import inspect_graph
from veriquant.onnxgraph.rewrites import fold_batchnorm, fold_constants, fold_factors, merge_clips
from veriquant.results import Layer
from veriquant.simulation.groups import Group, find_groups, tensors_read
from veriquant.simulation.onnx_import import import_onnx
from veriquant.simulation.pool import one_thread_each
from veriquant.simulation.steps import QuantizationConfig, Steps
from veriquant.simulation.targets import TARGETS, KernelTable
from veriquant.simulation.weighted import Weighted

#: Images at a time where nothing else is asked: small enough for a processor's caches.
BATCH = 4


@dataclass(frozen=True)
class Simulation:
    """A full-precision network as PyTorch's graph, its quantizer groups, and the ONNX graph that it came from."""

    name: str
    digest: str
    """The network's content, as `Network.digest`."""
    spec: InputSpec
    table: KernelTable
    graph: Graph = field(repr=False)
    """The ONNX graph with constants and batch normalisation folded: what packing writes into."""
    module: fx.GraphModule = field(repr=False)
    groups: Mapping[str, Group] = field(repr=False)
    steps: Steps = field(repr=False)
    reads: Mapping[str, str] = field(repr=False)
    """The tensor that each operation with weights reads, where it is made."""
    layers: Mapping[str, Layer] = field(repr=False)
    """The operations with their parameters and multiply-accumulates (MACs) for one image, by name."""

    def weighted(self, operation: str) -> Weighted:
        """Return the module of an operation with weights."""
        return self._weighted[operation]

    @property
    def _weighted(self) -> dict[str, Weighted]:
        found = self.__dict__.get("_modules_by_operation")
        if found is None:
            found = {
                node.meta["operation"]: self.module.get_submodule(str(node.target))
                for node in self.module.graph.nodes
                if node.meta.get("kind") == "weighted"
            }
            self.__dict__["_modules_by_operation"] = found
        return found

    def embed(
        self,
        images: npt.NDArray[np.float32] | Tensor,
        change: QuantizationConfig | None = None,
        *,
        threads: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the embeddings of standardised images, (n, …) -> (n, dim), float32, under a change.

        `threads`: pieces of a few images at a time, by default one a core.
        """
        pixels = as_images(images)

        def run(first: int) -> Tensor:
            with torch.inference_mode():
                return self.steps.run(pixels[first : first + BATCH], change)

        with one_thread_each(threads or os.cpu_count() or 1) as pool:
            parts = list(pool.map(run, range(0, len(pixels), BATCH)))
        return np.asarray(torch.cat(parts).float().numpy())


def simulate(network: Network, target: str | KernelTable = "generic") -> Simulation:
    """Return a network with places for quantizers.

    Any ONNX network whose operators are known can be simulated; one that came from a PyTorch module is exported on
    loading. Raises `VeriQuantError` naming the operation that cannot be, or an unknown target.
    """
    graph = Graph.from_bytes(network.onnx)
    fold_constants(graph)
    fold_batchnorm(graph)
    merge_clips(graph)
    return simulate_graph(graph, network, target)


def simulate_graph(graph: Graph, network: Network, target: str | KernelTable = "generic") -> Simulation:
    """Return the same for a graph that was rewritten already; `network` tells of its origin and input."""
    table = TARGETS.get(target) if isinstance(target, str) else target
    graph = graph.copy()
    fold_factors(graph)
    module = import_onnx(graph).eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = find_groups(module, table)
    if not groups:
        raise VeriQuantError(f"{network.name} has no operation with weights, so there is nothing to quantize")
    probe = torch.zeros(network.spec.batch_shape(2)) + torch.linspace(-1, 1, 2).reshape(-1, *[1] * 3)
    with torch.inference_mode():
        try:
            steps = Steps(module, as_images(probe))
        except (RuntimeError, TypeError, IndexError) as error:
            raise VeriQuantError(
                f"{network.name} cannot be simulated: it does not run on batches of one and two images of "
                f"{network.spec.size[0]}×{network.spec.size[1]} ({str(error).splitlines()[0][:160]}); export it with a "
                "dynamic batch axis"
            ) from error
    layers = {layer.name: layer for layer in inspect_graph(graph).layers}
    return Simulation(
        network.name, network.digest, network.spec, table, graph, module, groups, steps, tensors_read(module), layers
    )


def as_images(images: npt.NDArray[np.float32] | Tensor) -> Tensor:
    """Return a batch as PyTorch computes it fastest on a CPU: channels last."""
    tensor = torch.as_tensor(images)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
