"""Phase 1: the sensitivity list: what each quantizer group, quantized alone, does to the embeddings at each width.

By default the measure is the signal to quantization noise ratio at the network's output (Pandey et al., equation 3):
10·log10 of the mean over images of E[F²] / E[(F − Q(F))²]. It needs no labels. Beside it stands the noise, the mean
over images of E[(F − Q(F))²] / E[F²], which adds up over groups where their errors are independent: what an integer
programme sums. A task metric may take the place of SQNR (its images then have labels), or FIT (`fit`).

The list is kept under the hash of all that it depends on, group by group, so that a killed run goes on and a changed
weight never meets a stale list.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from veriquant.allocation.ledger import Ledger
from veriquant.allocation.responses import BLOCK, Candidates, Embeddings, Response, responses
from veriquant.checks import explain
from veriquant.errors import VeriQuantError
from veriquant.files import code_digest, json_digest, write_json
from veriquant.metrics.directions import has_direction
from veriquant.progress import bar, tell
from veriquant.results import Record
from veriquant.simulation.precision import FP32, Precision
from veriquant.simulation.quantizer_cache import QuantizerCache
from veriquant.simulation.simulation import Simulation
from veriquant.simulation.steps import check_finite

#: A list from other code in these rooms is not this list.
_ROOMS = ("schemes", "simulation", "allocation/responses.py", "allocation/sensitivity.py", "metrics/directions.py")
#: Noise below this share of the signal is float32's own; a ratio above 140 dB would tell of nothing else.
_LEAST_NOISE = 1e-14

Score = Callable[[Embeddings], float]
"""A task metric from the embeddings of the images in order; the greater the better."""


class Entry(Record):
    """One group at one width, everything else in full precision."""

    group: str
    precision: str
    sqnr: float
    """Signal to quantization noise ratio at the output, dB."""
    noise: float
    """Mean noise-to-signal ratio."""
    score: float | None = None
    """The task metric under this entry, where one was asked for; greater is better."""


class SensitivityList(Record):
    """Phase 1's result for one network, target, scheme and set of images; `entries` in the network's order."""

    kind: Literal["veriquant-sensitivity"] = "veriquant-sensitivity"
    network: str
    digest: str
    target: str
    metric: str = "sqnr"
    samples: int
    settings: dict[str, Any]
    entries: list[Entry]
    seconds: float
    """Time that it took to measure, over all runs."""
    note: dict[str, Any] = Field(default_factory=dict)

    def worst_first(self) -> list[Entry]:
        """Return the entries sorted from the most harmful to the least."""
        return sorted(self.entries, key=order)

    def by_group(self) -> dict[str, dict[Precision, Entry]]:
        """Return the entries by group and precision."""
        found: dict[str, dict[Precision, Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.group, {})[Precision.parse(entry.precision)] = entry
        return found


def order(entry: Entry) -> float:
    """Return what entries are sorted by: greater is less harmful."""
    return entry.sqnr if entry.score is None else entry.score


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
    return np.asarray(np.maximum(noise / signal, _LEAST_NOISE))


def sqnr_db(ratios: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return 10·log10 of the mean over images of signal over noise, from `noise_ratios`."""
    return float(10 * np.log10(np.mean(1 / ratios)))


def measure(
    fitted: QuantizerCache,
    images: Tensor,
    candidates: Candidates | None = None,
    *,
    score: Score | None = None,
    metric: str = "sqnr",
    threads: int | None = None,
    cache: Path | None = None,
    recovery: str = "none",
) -> SensitivityList:
    """Return the sensitivity list of a network.

    `images`: standardised, float32, (n, …). `candidates`: widths by group, by default all that the target has for it.
    `score` and its name `metric`: a task metric to rank by. `cache`: a folder to keep lists in; None keeps nothing.
    `recovery` names how weights were rounded, for the cache. Raises `VeriQuantError` for no image or one with NaN.
    """
    if not len(images):
        raise VeriQuantError("no calibration image: sensitivity cannot be measured; name a folder with some images")
    check_finite(images, "calibration images")
    simulation = fitted.simulation
    asked = candidates if candidates is not None else all_candidates(fitted)
    settings = {
        "weight_scheme": fitted.weight_scheme,
        "activation_scheme": fitted.activation_scheme,
        "ranges": fitted.ranges,
        "recovery": recovery,
    }
    key = _key(fitted, images, asked, settings, metric)
    if cache is not None and (known := _known(cache / f"{key}.json", simulation, asked, len(images))) is not None:
        return known
    blocks = [images[i : i + BLOCK] for i in range(0, len(images), BLOCK)]
    reference = simulation.embed(images)

    def fits(block: int, group: str, found: Mapping[Precision, Embeddings]) -> bool:
        """Tell whether a kept response is of one of these groups and blocks, whole."""
        return (
            0 <= block < len(blocks)
            and set(found) == set(asked.get(group, ()))
            and all(
                each.shape == (len(blocks[block]), reference.shape[1]) and each.dtype == np.float32
                for each in found.values()
            )
        )

    ledger = Ledger(None if cache is None else cache / f"{key}.parts", fits)
    fitted.prepare(asked)
    started = time.perf_counter()
    entries = []
    with bar("sensitivity of each group alone", total=len(asked) * len(blocks)) as step:
        for number, block in enumerate(blocks):
            for response in _remembered(fitted, block, asked, number, ledger, threads):
                ledger.keep(number, response)
                step(1)
    for group, precisions in asked.items():
        for precision in precisions:
            embeddings = np.concatenate([ledger.get(number, group)[precision] for number in range(len(blocks))])
            ratios = noise_ratios(reference, embeddings)
            entries.append(
                Entry(
                    group=group,
                    precision=str(precision),
                    sqnr=sqnr_db(ratios),
                    noise=float(ratios.mean()),
                    score=None if score is None else score(embeddings),
                )
            )
    found = SensitivityList(
        network=simulation.name,
        digest=simulation.digest,
        target=simulation.table.name,
        metric=metric,
        samples=len(images),
        settings=settings,
        entries=entries,
        seconds=time.perf_counter() - started + ledger.seconds_before,
    )
    if cache is not None:
        write_json(cache / f"{key}.json", found.model_dump(mode="json"))
    ledger.close()
    return found


def all_candidates(fitted: QuantizerCache) -> dict[str, tuple[Precision, ...]]:
    """Return every width that the target has for each group, floating point aside: it does no harm.

    A group without any such width is left out.
    """
    found = {
        name: tuple(each for each in group.candidates if each != FP32)
        for name, group in fitted.simulation.groups.items()
    }
    return {name: widths for name, widths in found.items() if widths}


def cache_folder() -> Path:
    """Return where sensitivity lists are kept: $VERIQUANT_CACHE, or the user's cache folder."""
    chosen = os.environ.get("VERIQUANT_CACHE")
    if chosen:
        return Path(chosen) / "sensitivity"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "veriquant" / "sensitivity"


def _remembered(
    fitted: QuantizerCache, block: Tensor, asked: Candidates, number: int, ledger: Ledger, threads: int | None
) -> Iterator[Response]:
    for group in asked:
        if ledger.has(number, group):
            yield Response(group, ledger.get(number, group))
    yield from responses(fitted, block, asked, threads=threads, done=lambda group: ledger.has(number, group))


def _key(fitted: QuantizerCache, images: Tensor, asked: Candidates, settings: Mapping[str, Any], metric: str) -> str:
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
            "code": code_digest(*_ROOMS),
            "torch": torch.__version__,
        }
    )


def _known(path: Path, simulation: Simulation, asked: Candidates, samples: int) -> SensitivityList | None:
    """Return the list that is kept; None where there is none, and, with a line, where it is not of what is asked."""
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


def load_list(path: str | os.PathLike[str]) -> SensitivityList:
    """Read a list that `veriquant sensitivity` wrote; raise `VeriQuantError` where it is none."""
    try:
        return SensitivityList.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise VeriQuantError(f"{path} is no sensitivity list: {explain(error)}") from error
