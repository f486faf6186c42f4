"""`Embedder`: anything that turns a batch of inputs into embeddings, in whatever runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from veriquant.frontends.spec import InputSpec

Batch = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float32]


def filled(batch: Batch, fixed: int | None) -> Batch:
    """Return `batch` filled up with zeros to the fixed batch size of a network; None: as it is."""
    if fixed is None or len(batch) >= fixed:
        return batch
    return np.concatenate([batch, np.zeros((fixed - len(batch), *batch.shape[1:]), dtype=batch.dtype)])


class Embedder(ABC):
    """A network loaded in a runtime: call it with a float32 batch shaped by `spec`, get float32 (n, dim) embeddings.

    Embeddings come as the network gives them, not normalised to unit length. `runtime` is the registered name of the
    runtime, `threads` the number of threads it was asked to compute on, `max_batch` the largest batch that the network
    takes at once (None: any); the caller cuts accordingly.
    """

    runtime: str
    spec: InputSpec
    dim: int
    threads: int
    max_batch: int | None = None

    @abstractmethod
    def __call__(self, batch: Batch) -> Embeddings:
        """Return the embeddings of `batch`."""
