"""`Benchmark`: samples, comparisons, folds and person labels of one protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.frontends.sample import Sample

__all__ = ["Benchmark", "Sample"]


@dataclass(frozen=True)
class Benchmark:
    """A verification protocol over n samples and m comparisons; scores are cosine similarities of embeddings.

    `left`, `right`: int64 (m,), indices into `samples`; left is the enrolled side (reference), right the probe.
    `genuine`: bool (m,). `folds`: int64 (m,) from 0, or None where the protocol has none.
    `persons`: int64 (n,), the person of each sample. `persons_known` is False where the format carries no names and
    persons were inferred from the genuine comparisons (InsightFace .bin); `persons_note` then says how.
    `all_pairs` is True where the protocol is every sample against every other: then `left`, `right`, `genuine` are
    empty (length 0) and the comparisons are implied by `persons`, so that memory stays bounded.
    `search` is True where the protocol, beside its listed comparisons, searches every sample among all others.
    `far` gives the operating points that the protocol's source reports, empty where it is content with the usual ones.
    `skipped` names the samples that the protocol lists and that could not be used; comparisons with them are left
    out. `digest` is a SHA-256 over protocol and image contents.
    """

    name: str
    source: str
    protocol: str
    """One plain sentence: what is compared with what, and how folds are made."""
    samples: tuple[Sample, ...]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    genuine: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int64] | None
    persons: npt.NDArray[np.int64]
    digest: str
    skipped: tuple[str, ...] = ()
    persons_known: bool = True
    persons_note: str = ""
    all_pairs: bool = False
    search: bool = False
    far: tuple[float, ...] = ()
    synthetic: bool = False
    """True for data the package drew itself: every page that shows a figure from it says so."""
