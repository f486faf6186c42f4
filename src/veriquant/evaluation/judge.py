"""`Judge`: one figure of one benchmark for any embedder: what a search asks for again and again."""

from __future__ import annotations

from veriquant.benchmarks.base import Benchmark
from veriquant.deploy.embedder import Embedder
from veriquant.errors import VeriQuantError
from veriquant.evaluation.embedding import embed
from veriquant.evaluation.evaluate import protocol_of
from veriquant.metrics import Options, verify
from veriquant.progress import bar


class Judge:
    """Evaluates embedders on `benchmark`; called with an embedder and the name of a metric, it returns the figure."""

    def __init__(self, benchmark: Benchmark, *, flip: bool = False) -> None:
        self.benchmark = benchmark
        self.flip = flip

    def __call__(self, embedder: Embedder, metric: str) -> float:
        """Return `metric`, such as ``tar@far=1e-3``, as a fraction; `VeriQuantError` where there is none such."""
        samples = self.benchmark.samples
        with bar(f"{metric} on {self.benchmark.name}", total=len(samples)) as advance:
            embedded = embed(samples, embedder, flip=self.flip, progress=advance)
        rate = metric.partition("=")[2]
        options = Options(far=(float(rate),), resamples=0) if rate else Options(resamples=0)
        found = verify(protocol_of(self.benchmark), embedded.embeddings, options).metrics
        if metric not in found or found[metric].value is None:
            note = found[metric].note if metric in found else f"there are: {', '.join(found)}"
            raise VeriQuantError(f"{self.benchmark.name} gives no {metric} ({note})")
        value = found[metric].value
        assert value is not None
        return value
