"""Signal to quantization noise ratio (SQNR) of embeddings (Pandey et al., equation 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError
from veriquant.metrics.directions import has_direction

Embeddings = npt.NDArray[np.float32]

#: Noise below this share of the signal is float32's own; a ratio above 140 dB would tell of nothing else.
LEAST_NOISE = 1e-14


def noise_ratios(reference: Embeddings, embeddings: Embeddings) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each image's ‖F − Q(F)‖² / ‖F‖², (m,) float64, from 1e-14 on.

    Images whose F has no direction have no signal and are left out; where Q(F) holds NaN or infinity nothing is left of
    it, and the ratio is 4, that of −F: the furthest that an embedding as long as F can lie. Raises `VeriQuantError`
    where no image has a signal.
    """
    known = has_direction(reference)
    if not known.any():
        raise VeriQuantError(
            f"the network's embeddings of all {len(reference)} images are zero, NaN or infinite, so there is no signal "
            "to measure noise against; name other calibration images"
        )
    full, found = reference[known].astype(np.float64), embeddings[known].astype(np.float64)
    there = np.isfinite(found).all(axis=1, keepdims=True)
    noise = np.square(full - np.where(there, found, -full)).sum(axis=1)
    signal = np.maximum(np.square(full).sum(axis=1), np.finfo(np.float64).tiny)
    return np.asarray(np.maximum(noise / signal, LEAST_NOISE))


def sqnr_db(ratios: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return 10·log10 of the mean over images of signal over noise, from `noise_ratios`."""
    return float(10 * np.log10(np.mean(1 / ratios)))
