"""A simulated quantized network as an `Embedder`: to an evaluation it is what a file in a runtime is."""

from __future__ import annotations

import numpy as np

from veriquant.deploy.embedder import Batch, Embedder, Embeddings
from veriquant.simulation.simulation import Simulation
from veriquant.simulation.steps import QuantizationConfig


class SimulatedEmbedder(Embedder):
    """Embeds with a simulation under a change; `threads` pieces of a batch at a time."""

    def __init__(self, simulation: Simulation, change: QuantizationConfig, *, dim: int, threads: int) -> None:
        self.runtime = "simulation"
        self.spec = simulation.spec
        self.dim = dim
        self.threads = threads
        self._simulation = simulation
        self._change = change

    def _embed(self, batch: Batch) -> Embeddings:
        return np.asarray(self._simulation.embed(batch, self._change, threads=self.threads))
