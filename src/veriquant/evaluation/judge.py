"""`Judge`: one figure of one benchmark for any embedder: what a search asks for again and again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veriquant.benchmarks.base import Benchmark
from veriquant.calibration.context import Sampled
from veriquant.deploy.embedder import Embedder
from veriquant.errors import VeriQuantError
from veriquant.evaluation.embedding import embed
from veriquant.evaluation.evaluate import protocol_of
from veriquant.frontends.images import image_batches
from veriquant.frontends.spec import InputSpec
from veriquant.metrics import Options, Protocol, verify
from veriquant.progress import bar

#: Images of one person in a sample: enough for genuine comparisons, few enough for many people.
_EACH = 4


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

    def sample(self, spec: InputSpec, count: int, seed: int = 0) -> Sampled:
        """Return about `count` images of people who have several, scored by 1 − equal error rate over all pairs.

        The choice is that of `seed`. Raises `VeriQuantError` where nobody has two images.
        """
        chosen = self._people(count, seed)
        persons = self.benchmark.persons[chosen]
        nothing = np.empty(0, dtype=np.int64)
        protocol = Protocol(persons, nothing, nothing, nothing.astype(bool), all_pairs=True)

        def score(embeddings: npt.NDArray[np.float32]) -> float:
            value = verify(protocol, embeddings, Options(resamples=0)).metrics["eer"].value
            assert value is not None
            return 1.0 - value

        samples = [self.benchmark.samples[index] for index in chosen]
        return Sampled(np.concatenate(list(image_batches(samples, spec, 8))), score, "eer")

    def _people(self, count: int, seed: int) -> npt.NDArray[np.int64]:
        persons, sizes = np.unique(self.benchmark.persons, return_counts=True)
        several = persons[sizes > 1]
        if not len(several):
            raise VeriQuantError(f"{self.benchmark.name}: nobody has two images, so there is nothing to rank widths by")
        found: list[np.int64] = []
        for person in np.random.default_rng(seed).permutation(several):
            found.extend(np.flatnonzero(self.benchmark.persons == person)[:_EACH])
            if len(found) >= count:
                break
        return np.array(found, dtype=np.int64)
