"""Where sensitivity lists are kept, whole and in the parts that a killed run leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from veriquant.allocation.responses import BLOCK, Candidates, Embeddings
from veriquant.allocation.sensitivity import Score, SensitivityList, all_candidates, measure
from veriquant.caches.folder import cache_folder
from veriquant.caches.ledger import Fits, Ledger
from veriquant.code_digest import import_digest
from veriquant.files import json_digest, write_json
from veriquant.progress import bar, tell
from veriquant.simulation.precision import Precision
from veriquant.simulation.quantizer_cache import QuantizerCache
from veriquant.simulation.simulation import Simulation


class SensitivityStore:
    """A folder of lists, each under the hash of all that it depends on, its code included."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder("sensitivity")

    def find(self, key: str, simulation: Simulation, asked: Candidates, samples: int) -> SensitivityList | None:
        """Return the list that was kept; None where there is none, and, with a line, where it is not what is asked."""
        path = self._folder / f"{key}.json"
        try:
            found = SensitivityList.model_validate_json(path.read_bytes())
            listed = [(entry.group, entry.precision) for entry in found.entries]
            whole = listed == [(group, str(each)) for group, precisions in asked.items() for each in precisions]
            figures = [figure for entry in found.entries for figure in (entry.sqnr, entry.noise, entry.score or 0.0)]
            if whole and found.digest == simulation.digest and found.samples == samples and np.isfinite(figures).all():
                return found
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            pass
        tell(f"the kept sensitivity list {path} is damaged: it is measured again")
        return None

    def keep(self, key: str, found: SensitivityList) -> None:
        """Keep a list."""
        write_json(self._folder / f"{key}.json", found.model_dump(mode="json"))

    def parts(self, key: str, fits: Fits) -> Ledger:
        """Return what was measured so far of a list, as far as it `fits`."""
        return Ledger(self._folder / f"{key}.parts", fits)


def measure_cached(
    fitted: QuantizerCache,
    images: Tensor,
    candidates: Candidates | None = None,
    *,
    score: Score | None = None,
    metric: str = "sqnr",
    recovery: str = "none",
    store: SensitivityStore | None = None,
) -> SensitivityList:
    """Return the sensitivity list as `measure` gives it, taken from the store where it is known.

    `recovery` tells how weights were rounded, with all settings. What is measured is kept part by part: a killed run
    goes on.
    """
    store = store or SensitivityStore()
    asked = candidates if candidates is not None else all_candidates(fitted)
    settings = {
        "weight_scheme": fitted.weight_scheme,
        "activation_scheme": fitted.activation_scheme,
        "ranges": fitted.ranges,
        "weight_ranges": fitted.weight_ranges or fitted.ranges,
        "recovery": recovery,
    }
    key = sensitivity_key(fitted, images, asked, settings, metric)
    simulation = fitted.simulation
    if (known := store.find(key, simulation, asked, len(images))) is not None:
        return known
    blocks = [len(images[first : first + BLOCK]) for first in range(0, len(images), BLOCK)]
    dim = simulation.embed(images[:1]).shape[1]

    def fits(block: int, group: str, found: Mapping[Precision, Embeddings]) -> bool:
        """Tell whether a kept response is of one of these groups and blocks, whole."""
        if not 0 <= block < len(blocks) or set(found) != set(asked.get(group, ())):
            return False
        return all(each.shape == (blocks[block], dim) and each.dtype == np.float32 for each in found.values())

    parts = store.parts(key, fits)
    with bar("sensitivity of each group alone", total=len(asked) * -(-len(images) // BLOCK)) as advance:
        found = measure(
            fitted, images, asked, score=score, metric=metric, parts=parts, settings=settings, advance=advance
        )
    store.keep(key, found)
    parts.close()
    return found


def sensitivity_key(
    fitted: QuantizerCache, images: Tensor, asked: Candidates, settings: Mapping[str, Any], metric: str
) -> str:
    """Return the hash of all that a sensitivity list depends on."""
    simulation = fitted.simulation
    weights = hashlib.sha256(simulation.graph.to_bytes())
    samples = hashlib.sha256(np.ascontiguousarray(images.contiguous().numpy()).tobytes())
    ranges = {
        name: [h.low, h.high, hashlib.sha256(h.counts.tobytes()).hexdigest()] for name, h in fitted.histograms.items()
    }
    return json_digest(
        {
            "network": weights.hexdigest(),
            "samples": [samples.hexdigest(), list(images.shape)],
            "histograms": ranges,
            "target": [simulation.table.name, list(simulation.table.fused)],
            "candidates": {group: [str(each) for each in precisions] for group, precisions in asked.items()},
            "settings": dict(settings),
            "metric": metric,
            "code": import_digest("veriquant.allocation.sensitivity", "veriquant.recovery"),
            "torch": torch.__version__,
        }
    )
