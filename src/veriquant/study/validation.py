"""`Validation`: what a network in training does on images held out, epoch by epoch."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from veriquant.benchmarks import Benchmark
from veriquant.data.encoded_images import FileImages
from veriquant.data.training_set import TrainingSet
from veriquant.deploy.embedder import Batch, Embedder, Embeddings
from veriquant.errors import VeriQuantError
from veriquant.evaluation import embed, options_for, protocol_of
from veriquant.frontends.spec import InputSpec
from veriquant.metrics import Options, verify
from veriquant.metrics.difference import lower_is_better


class ModuleEmbedder(Embedder):
    """A network in training as an `Embedder`: on the device that it is on, in evaluation mode while it runs."""

    runtime = "pytorch"

    def __init__(self, module: nn.Module, spec: InputSpec, dim: int) -> None:
        self.spec = spec
        self.dim = dim
        self.threads = torch.get_num_threads()
        self._module = module

    def _embed(self, batch: Batch) -> Embeddings:
        """Return the embeddings of `batch`; the module is left in the mode it was in."""
        device = next(self._module.parameters()).device
        training = self._module.training
        self._module.eval()
        try:
            with torch.inference_mode():
                found: Embeddings = self._module(torch.from_numpy(batch).to(device)).float().cpu().numpy()
        finally:
            self._module.train(training)
        return found


class Validation:
    """A benchmark that the best epoch is chosen by, and the metric that tells which is better."""

    def __init__(self, benchmark: Benchmark, select: str) -> None:
        """Raise `VeriQuantError` where the benchmark gives no `select`, before hours are spent on what it judges."""
        self.benchmark = benchmark
        self.select = select
        self._options = options_for(benchmark, Options(resamples=0))
        self._protocol = protocol_of(benchmark)
        blind = np.random.default_rng(0).standard_normal((len(benchmark.samples), 4)).astype(np.float32)
        found = self._figures(blind)
        if select not in found:
            raise VeriQuantError(
                f"select: {benchmark.source} gives no {select!r} (or too few comparisons for it); there are: "
                f"{', '.join(found)}"
            )

    def __call__(self, module: nn.Module, spec: InputSpec, dim: int, batch_size: int) -> dict[str, float]:
        """Return every metric that the benchmark supports, as fractions, without intervals."""
        embedder = ModuleEmbedder(module, spec, dim)
        found = embed(self.benchmark.samples, embedder, batch_size=batch_size).embeddings.astype(np.float64)
        # before the batch-norms have settled embeddings may be so long that float32 could not hold their squares
        return self._figures((found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32))

    def better(self, value: float, than: float | None) -> bool:
        """Return whether a value of `select` beats another one; None is beaten by any."""
        if than is None:
            return True
        return value < than if lower_is_better(self.select) else value > than

    def refuse_trained_on(self, training_set: TrainingSet) -> None:
        """Raise `VeriQuantError` where images of the training set are among those held out."""
        if not isinstance(training_set.images, FileImages):
            return  # records of a pack are no files that a benchmark could name
        held_out = {os.path.abspath(sample.where) for sample in self.benchmark.samples}
        trained_on = (os.path.abspath(training_set.where(index)) for index in range(len(training_set)))
        common = [where for where in trained_on if where in held_out]
        if common:
            raise VeriQuantError(
                f"validate: {len(common)} of the {len(held_out)} images of {self.benchmark.source} are trained on, "
                f"such as {common[0]}; hold out images that are in no training set"
            )

    def _figures(self, embeddings: Embeddings) -> dict[str, float]:
        metrics = verify(self._protocol, embeddings, self._options).metrics
        return {name: metric.value for name, metric in metrics.items() if metric.value is not None}
