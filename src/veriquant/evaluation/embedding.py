"""From images to embeddings, at the speed of the runtime: images are decoded ahead on other threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from veriquant.benchmarks.base import Sample
from veriquant.deploy.embedder import Batch, Embedder, Embeddings
from veriquant.errors import VeriQuantError
from veriquant.frontends.images import FrontEndStats, image_batches, mirror
from veriquant.progress import Advance

#: Images in a batch unless something else is asked for: large enough that the work between two calls does not count,
#: small enough that the feature maps of a mobile network stay near the processor.
BATCH = 16


@dataclass(frozen=True)
class Embedded:
    """The embeddings of some samples, float32 (n, dim), in their order, and what it took to get them.

    `seconds_total` is the whole time on the clock, `seconds_runtime` the part inside the runtime. `stats` counts what
    the front end altered. With flip an embedding is the sum of the image's and the mirror image's; the metrics give it
    unit length.
    """

    embeddings: Embeddings
    seconds_total: float
    seconds_runtime: float
    batch_size: int
    flip: bool
    stats: FrontEndStats = field(default_factory=FrontEndStats)


def batch_size_for(embedder: Embedder, wanted: int | None = None) -> int:
    """Return the batch size to call `embedder` with: the one wanted (None: `BATCH`), or less where it takes less."""
    size = BATCH if wanted is None else wanted
    if size < 1:
        raise VeriQuantError(f"the batch size must be at least 1, found {size}")
    return size if embedder.max_batch is None else min(size, embedder.max_batch)


def embed(
    samples: Sequence[Sample],
    embedder: Embedder,
    *,
    flip: bool = False,
    batch_size: int | None = None,
    progress: Advance | None = None,
) -> Embedded:
    """Return the embeddings of `samples` in order.

    `batch_size` is cut to what the network takes at once. `progress` is called with the number of images after each
    batch. Raises `VeriQuantError` naming the first sample whose image cannot be read, or whose embedding holds NaN or
    infinity or is all zero: such an embedding has no direction to compare.
    """
    if not samples:
        raise VeriQuantError("there are no images to embed")
    size = batch_size_for(embedder, batch_size)
    found = np.empty((len(samples), embedder.dim), dtype=np.float32)
    stats = FrontEndStats()
    inside = 0.0
    start = time.perf_counter()
    with closing(image_batches(samples, embedder.spec, size, stats=stats)) as batches:
        at = 0
        for batch in batches:
            before = time.perf_counter()
            rows = embedder(batch)
            inside += time.perf_counter() - before
            if flip:
                mirrored = mirror(batch, embedder.spec.layout)
                before = time.perf_counter()
                rows = rows + embedder(mirrored)
                inside += time.perf_counter() - before
            _check(rows, batch, samples[at : at + len(batch)])
            found[at : at + len(batch)] = rows
            at += len(batch)
            if progress is not None:
                progress(len(batch))
    return Embedded(found, time.perf_counter() - start, inside, size, flip, stats)


def _check(rows: Embeddings, batch: Batch, samples: Sequence[Sample]) -> None:
    """Raise where a row has no direction, naming the sample that it belongs to."""
    with np.errstate(all="ignore"):
        lengths = np.einsum("ij,ij->i", rows, rows)
    if np.isfinite(lengths).all() and lengths.all():
        return
    for row, image, sample in zip(rows, batch, samples, strict=True):
        if not np.isfinite(row).all():
            cause = "" if np.isfinite(image).all() else " (its pixels do already)"
            raise VeriQuantError(
                f"the embedding of image {sample.name} holds NaN or infinity{cause}: the network, or its input "
                "specification (mean, std), is broken"
            )
        if not row.any():
            raise VeriQuantError(f"the embedding of image {sample.name} is all zero: it has no direction to compare")
