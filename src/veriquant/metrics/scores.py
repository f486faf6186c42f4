"""Embeddings to cosine similarities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError
from veriquant.metrics.protocol import Floats, Ints, Singles
from veriquant.results import ScoreSummary

_CHUNK = 1 << 21
"""Numbers gathered at a time: 16 MB of float64."""


def norms(embeddings: npt.NDArray[np.floating], samples: int, what: str = "embedding") -> Floats:
    """Return the Euclidean length of each row as float64 (n,).

    Raises VeriQuantError where there are not `samples` rows, or naming the first row that is zero, NaN or infinite: it
    has no direction, so no cosine.
    """
    if embeddings.ndim != 2 or len(embeddings) != samples:
        raise VeriQuantError(f"embeddings: expected ({samples}, d), one row per sample, found {embeddings.shape}")
    lengths = np.empty(samples)
    rows = max(1, _CHUNK // max(1, embeddings.shape[1]))
    for start in range(0, samples, rows):
        part = embeddings[start : start + rows].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths[start : start + rows] = np.sqrt((part * part).sum(axis=1))
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        first = int(bad[0])
        kind = "is zero" if lengths[first] == 0 else "holds NaN or infinity"
        raise VeriQuantError(
            f"{what} of sample {first} {kind} ({bad.size} of {samples} so): it has no direction to compare; "
            "check the image and the network"
        )
    return lengths


def unit(embeddings: npt.NDArray[np.floating], samples: int, what: str = "embedding") -> Singles:
    """Return the `samples` rows scaled to length 1, float32 (n, d); raises VeriQuantError as `norms` does."""
    lengths = norms(embeddings, samples, what)
    result = np.empty(embeddings.shape, dtype=np.float32)
    rows = max(1, _CHUNK // max(1, embeddings.shape[1]))
    for start in range(0, len(embeddings), rows):
        stop = start + rows
        result[start:stop] = embeddings[start:stop] / lengths[start:stop, None]
    return result


def pair_cosines(
    enrolled: npt.NDArray[np.floating], probes: npt.NDArray[np.floating], left: Ints, right: Ints
) -> Singles:
    """Return the cosine of row left[c] of `enrolled` and row right[c] of `probes`, float32 (m,), in [-1, 1].

    Computed in float64 and rounded once to float32, so that a score depends on its two embeddings alone and scores that
    differ by rounding noise only are equal. Raises VeriQuantError as `norms` does and where the widths differ.
    """
    if enrolled.shape[1:] != probes.shape[1:]:
        raise VeriQuantError(
            f"embeddings of different widths cannot be compared: {enrolled.shape[1:]} and {probes.shape[1:]}"
        )
    left_norms = norms(enrolled, len(enrolled))
    right_norms = left_norms if probes is enrolled else norms(probes, len(probes), "probe embedding")
    scores = np.empty(len(left), dtype=np.float32)
    rows = max(1, _CHUNK // max(1, enrolled.shape[1]))
    for start in range(0, len(left), rows):
        one, other = left[start : start + rows], right[start : start + rows]
        dots = (enrolled[one].astype(np.float64) * probes[other]).sum(axis=1)
        scores[start : start + rows] = np.clip(dots / (left_norms[one] * right_norms[other]), -1, 1)
    return scores


def paired_cosines(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> Singles:
    """Return the cosine of the two networks' embeddings of each sample, float32 (n,)."""
    rows = np.arange(len(one), dtype=np.int64)
    return pair_cosines(one, other, rows, rows)


def histogram_counts(ordered: Singles, bins: int) -> npt.NDArray[np.int64]:
    """Return the counts, int64 (bins,), of ascending float32 scores in equal-width bins over [-1, 1].

    A score on an edge counts upwards; one beyond ±1 by rounding counts in the outermost bin.
    """
    if not bins:
        return np.zeros(0, dtype=np.int64)
    edges = np.linspace(-1, 1, bins + 1, dtype=np.float32)[1:-1]
    places = np.searchsorted(ordered, edges, side="left")
    return np.diff(places, prepend=0, append=len(ordered)).astype(np.int64)


def summary(scores: Singles, bins: int) -> ScoreSummary:
    """Return count, mean, standard deviation and histogram over [-1, 1] of `scores`, float32 (m,)."""
    wide = scores.astype(np.float64)
    mean, std = (float(wide.mean()), float(wide.std())) if len(wide) else (0.0, 0.0)
    return ScoreSummary(
        count=len(scores), mean=mean, std=std, histogram=histogram_counts(np.sort(scores), bins).tolist()
    )
