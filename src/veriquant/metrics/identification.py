"""Identification: rank-k and the CMC, ties counted against the system.

The **rank** of a probe is 1 + the number of gallery templates of *other* people that score at least as high as the
best template of the probe's own person: an impostor that ties with the mate ranks before it. Rank-k is the share of
probes with rank <= k among the probes that have a mate in the gallery; probes without one are counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veriquant.errors import VeriQuantError
from veriquant.metrics.protocol import Floats, Ints, Singles
from veriquant.metrics.scores import unit

_TILE = 1 << 22
"""Scores held at a time: 16 MB of float32."""


@dataclass(frozen=True)
class Identification:
    """The outcome of a search.

    `ranks`: int64 (q,), from 1, of each probe, 0 for a probe without a mate. `cmc`: float64 (k,), share of the probes
    with a mate whose rank is at most 1, 2, … k. `probes`: those with a mate. `unmated`: those without.
    """

    ranks: Ints
    cmc: Floats
    probes: int
    unmated: int

    def rank(self, k: int) -> float:
        """Return rank-k, the share of mated probes whose mate is among the k best."""
        if k < 1:
            raise VeriQuantError(f"rank: must be 1 or more, found {k}")
        if not self.probes:
            raise VeriQuantError("rank: no probe has a mate in the gallery; check the person labels")
        return float(np.count_nonzero((self.ranks > 0) & (self.ranks <= k)) / self.probes)


def identify(
    probes: Singles,
    probe_persons: Ints,
    gallery: Singles | None = None,
    gallery_persons: Ints | None = None,
    *,
    max_rank: int = 20,
) -> Identification:
    """Search every probe in a gallery, in bounded memory.

    `probes`: float32 (q, d), not normalised; `probe_persons`: int64 (q,). `gallery` (g, d) and `gallery_persons` (g,);
    without them the probes are searched among themselves, each left out of its own search. Raises VeriQuantError for an
    embedding without direction and arrays that do not fit.
    """
    if (gallery is None) != (gallery_persons is None):
        raise VeriQuantError("identify: give both gallery and gallery_persons, or neither")
    if len(probes) != len(probe_persons):
        raise VeriQuantError(f"identify: {len(probes)} probes but {len(probe_persons)} probe_persons")
    queries = unit(probes, len(probes), "probe embedding")
    alone = gallery is None
    if gallery is None or gallery_persons is None:
        templates, persons = queries, probe_persons
    else:
        templates, persons = unit(gallery, len(gallery), "gallery embedding"), gallery_persons
    if len(templates) != len(persons):
        raise VeriQuantError(f"identify: {len(templates)} gallery templates but {len(persons)} gallery_persons")
    if templates.shape[1] != queries.shape[1]:
        raise VeriQuantError(f"identify: probes of width {queries.shape[1]}, gallery of width {templates.shape[1]}")
    ranks = np.zeros(len(queries), dtype=np.int64)
    rows = max(1, _TILE // max(1, len(templates)))
    for start in range(0, len(queries), rows):
        stop = min(start + rows, len(queries))
        scores = queries[start:stop] @ templates.T
        mates = probe_persons[start:stop, None] == persons
        others = ~mates
        if alone:
            own = np.arange(start, stop)
            mates[own - start, own] = False
        best = np.where(mates, scores, np.float32(-np.inf)).max(axis=1)
        before = np.count_nonzero((scores >= best[:, None]) & others, axis=1)
        ranks[start:stop] = np.where(np.isfinite(best), before + 1, 0)
    return from_ranks(ranks, max_rank)


def from_ranks(ranks: Ints, max_rank: int) -> Identification:
    """Return the Identification of ranks (q,), 0 standing for 'no mate'."""
    mated = ranks[ranks > 0]
    counts = np.bincount(np.minimum(mated, max_rank + 1), minlength=max_rank + 2)[1 : max_rank + 1]
    cmc = np.cumsum(counts) / max(1, len(mated))
    return Identification(ranks, cmc, len(mated), len(ranks) - len(mated))
