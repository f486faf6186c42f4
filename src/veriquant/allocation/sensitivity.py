"""Phase 1: the sensitivity list: what each quantizer group, quantized alone, does to the embeddings at each width.

By default the measure is the signal to quantization noise ratio at the network's output (Pandey et al., equation 3):
10·log10 of the mean over images of E[F²] / E[(F − Q(F))²]. It needs no labels. Beside it stands the noise, the mean
over images of E[(F − Q(F))²] / E[F²], which adds up over groups where their errors are independent: what an integer
programme sums. A task metric may take the place of SQNR (its images then have labels), or FIT (`fit`).

Beside it may stand another measure (`sensitivities`): `Entry.score` is what entries are then sorted by, `Entry.harm`
what is added up. Lists are kept by `caches.sensitivity_store`, part by part, so that a killed run goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field, ValidationError
from torch import Tensor

from veriquant.allocation.responses import BLOCK, Candidates, Embeddings, Response, responses
from veriquant.checks import explain
from veriquant.errors import VeriQuantError
from veriquant.metrics.sqnr import noise_ratios, sqnr_db
from veriquant.results import Record
from veriquant.simulation.precision import FP32, Precision
from veriquant.simulation.quantizer_cache import QuantizerCache
from veriquant.simulation.steps import check_finite

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
    """What entries are sorted by in place of SQNR, where something was asked for; greater is better."""
    harm: float | None = None
    """What adds up over groups in place of noise, where something was asked for; smaller is better."""

    @property
    def additive(self) -> float:
        """What an integer programme sums: the harm, or the noise where there is none."""
        return self.noise if self.harm is None else self.harm


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


def measure(
    fitted: QuantizerCache,
    images: Tensor,
    candidates: Candidates | None = None,
    *,
    score: Score | None = None,
    metric: str = "sqnr",
    threads: int | None = None,
    parts: Parts | None = None,
    settings: Mapping[str, Any] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> SensitivityList:
    """Return the sensitivity list of a network.

    `images`: standardised, float32, (n, …). `candidates`: widths by group, by default all that the target has for it.
    `score` and its name `metric`: a task metric to rank by. `parts` holds what is known already and keeps what is
    measured; `settings`: how the quantizers were fitted, for the record; `advance` is called with the number of
    responses. Raises `VeriQuantError` for no image or one with NaN.
    """
    if not len(images):
        raise VeriQuantError("no calibration image: sensitivity cannot be measured; name a folder with some images")
    check_finite(images, "calibration images")
    simulation = fitted.simulation
    asked = candidates if candidates is not None else all_candidates(fitted)
    parts = parts or Responses()
    fitted.prepare(asked)
    started = time.perf_counter()
    reference = simulation.embed(images)
    entries = []
    blocks = [images[i : i + BLOCK] for i in range(0, len(images), BLOCK)]
    for number, block in enumerate(blocks):
        for response in _remembered(fitted, block, asked, number, parts, threads):
            parts.keep(number, response)
            advance(1)
    for group, precisions in asked.items():
        for precision in precisions:
            embeddings = np.concatenate([parts.get(number, group)[precision] for number in range(len(blocks))])
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
    return SensitivityList(
        network=simulation.name,
        digest=simulation.digest,
        target=simulation.table.name,
        metric=metric,
        samples=len(images),
        settings=dict(settings or {}),
        entries=entries,
        seconds=time.perf_counter() - started + parts.seconds_before,
    )


def all_candidates(fitted: QuantizerCache) -> dict[str, tuple[Precision, ...]]:
    """Return every width that the target has for each group, floating point aside: it does no harm.

    A group without any such width is left out.
    """
    found = {
        name: tuple(each for each in group.candidates if each != FP32)
        for name, group in fitted.simulation.groups.items()
    }
    return {name: widths for name, widths in found.items() if widths}


class Parts(Protocol):
    """The responses that are known already, by block of images and group."""

    seconds_before: float
    """What earlier runs took to measure them."""

    def has(self, block: int, group: str) -> bool:
        """Tell whether a group's response to a block of images is known."""

    def get(self, block: int, group: str) -> Mapping[Precision, Embeddings]:
        """Return a group's response to a block of images."""

    def keep(self, block: int, response: Response) -> None:
        """Keep a response."""


class Responses:
    """`Parts` in memory alone."""

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self._held: dict[tuple[int, str], Mapping[Precision, Embeddings]] = {}

    def has(self, block: int, group: str) -> bool:
        """See `Parts.has`."""
        return (block, group) in self._held

    def get(self, block: int, group: str) -> Mapping[Precision, Embeddings]:
        """See `Parts.get`."""
        return self._held[block, group]

    def keep(self, block: int, response: Response) -> None:
        """See `Parts.keep`."""
        self._held.setdefault((block, response.group), response.embeddings)


def _remembered(
    fitted: QuantizerCache, block: Tensor, asked: Candidates, number: int, parts: Parts, threads: int | None
) -> Iterator[Response]:
    for group in asked:
        if parts.has(number, group):
            yield Response(group, parts.get(number, group))
    yield from responses(fitted, block, asked, threads=threads, done=lambda group: parts.has(number, group))


def load_list(path: str | os.PathLike[str]) -> SensitivityList:
    """Read a list that `veriquant sensitivity` wrote; raise `VeriQuantError` where it is none."""
    try:
        return SensitivityList.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise VeriQuantError(f"{path} is no sensitivity list: {explain(error)}") from error
