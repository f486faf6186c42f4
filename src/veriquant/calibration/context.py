"""`QuantizationContext`: where the file will run, and who evaluates, teaches and listens while it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from veriquant.deploy.embedder import Embedder
from veriquant.frontends.spec import InputSpec

if TYPE_CHECKING:
    from veriquant.data.training_set import TrainingSet


@dataclass(frozen=True)
class Sampled:
    """Some labelled images, standardised, and what gives their embeddings a score, greater is better."""

    images: npt.NDArray[np.float32]
    score: Callable[[npt.NDArray[np.float32]], float]
    metric: str


class Judging(Protocol):
    """Evaluates on a benchmark: a metric of an embedder, or a few of its images with a score for them."""

    def __call__(self, embedder: Embedder, metric: str) -> float:
        """Return a metric of the whole benchmark, as a fraction."""

    def sample(self, spec: InputSpec, count: int) -> Sampled:
        """Return about `count` images in comparisons, genuine and impostor alike."""


@dataclass(frozen=True)
class QuantizationContext:
    """Where the file will run: parts that measure what they make do so in this runtime, on this many threads.

    `judge` gives a task metric of an embedder, by name, for allocations that keep one. `training_set`: images of people
    who are known, for losses that learn from that. `say` gets a line now and then of what takes long, where there is
    no terminal to show a bar on.
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    judge: Judging | None = None
    training_set: TrainingSet | None = None
    say: Callable[[str], None] | None = None
