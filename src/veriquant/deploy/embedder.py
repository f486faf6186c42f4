"""`Embedder`: anything that turns a batch of inputs into embeddings, in whatever runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec

Batch = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float32]


def filled(batch: Batch, fixed: int | None) -> Batch:
    """Return `batch` filled up with its own images to the fixed batch size of a network; None: as it is."""
    if fixed is None or len(batch) >= fixed:
        return batch
    return np.take(batch, np.arange(fixed) % len(batch), axis=0)


class Embedder(ABC):
    """A network loaded in a runtime: call it with a float32 batch shaped by `spec`, get float32 (n, dim) embeddings.

    Embeddings come as the network gives them, not normalised to unit length. `runtime` is the registered name of the
    runtime, `threads` the number of threads it was asked to compute on, `max_batch` the number of images that the
    network takes at once (None: any): other batches are taken apart, and filled up to it. n images give n rows, or
    `VeriQuantError` is raised.
    """

    runtime: str
    spec: InputSpec
    dim: int
    threads: int
    max_batch: int | None = None

    def __call__(self, batch: Batch) -> Embeddings:
        """Return the embeddings of `batch`."""
        size = self.max_batch or max(1, len(batch))
        parts = [self._checked(batch[start : start + size]) for start in range(0, len(batch), size)]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, self.dim), np.float32), *parts])

    def _checked(self, images: Batch) -> Embeddings:
        rows = self._embed(filled(images, self.max_batch))
        expected = (self.max_batch or len(images), self.dim)
        if rows.shape != expected:
            raise VeriQuantError(
                f"{self.runtime} gives embeddings of shape {rows.shape} for {expected[0]} images, expected {expected}: "
                "the network does not keep images apart; load it with load_network, which finds out and runs it image "
                "by image"
            )
        return rows[: len(images)]

    @abstractmethod
    def _embed(self, batch: Batch) -> Embeddings:
        """Return what the runtime gives for a batch of any size, or of `max_batch` images."""


def nothing(embedder: Embedder) -> Batch:
    """Return a batch of zeros that an embedder takes, as small as it may be."""
    return np.zeros(embedder.spec.batch_shape(embedder.max_batch or 1), dtype=np.float32)
