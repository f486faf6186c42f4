"""PyTorch on the CPU, for networks that have a PyTorch form."""

from __future__ import annotations

import copy

from veriquant.deploy.embedder import Batch, Embedder, Embeddings, nothing
from veriquant.deploy.runtimes.runtime import RUNTIMES, Loaded, Runtime


class TorchEmbedder(Embedder):
    """A PyTorch module in evaluation mode; the number of threads is the process's: set for each call."""

    runtime = "pytorch"

    def __init__(self, loaded: Loaded) -> None:
        import torch

        assert loaded.module is not None
        self._torch = torch
        self._module = copy.deepcopy(loaded.module).eval()
        self.spec = loaded.spec
        self.threads = loaded.threads
        self.dim = int(self._embed(nothing(self)).shape[-1])

    def _embed(self, batch: Batch) -> Embeddings:
        torch = self._torch
        before = torch.get_num_threads()
        if before == self.threads:
            return self._embeddings(batch)
        torch.set_num_threads(self.threads)
        try:
            return self._embeddings(batch)
        finally:
            torch.set_num_threads(before)  # what trains afterwards comes to other last bits with another number

    def _embeddings(self, batch: Batch) -> Embeddings:
        with self._torch.inference_mode():
            output: Embeddings = self._module(self._torch.from_numpy(batch)).numpy()
        return output


def _missing(loaded: Loaded) -> str:
    if loaded.module is None:
        return "this network is an ONNX file and has no PyTorch form; use onnxruntime or openvino"
    return ""


RUNTIMES.add("pytorch", Runtime("pytorch", "PyTorch, eager, CPU", TorchEmbedder, _missing))
