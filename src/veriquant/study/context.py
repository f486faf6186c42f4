"""What every step of a running study is given: the settings, the store, and what is told and counted on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from veriquant.benchmarks import Benchmark
from veriquant.data.digest import samples_digest
from veriquant.errors import VeriQuantError
from veriquant.files import json_digest
from veriquant.study.config import StudyConfig
from veriquant.study.store import Entry, Store
from veriquant.study.units import Units


@dataclass
class Context:
    """A study at work in `folder`."""

    config: StudyConfig
    folder: Path
    store: Store
    units: Units
    notes: list[str] = field(default_factory=list)
    """What a reader of the results must know of the whole study."""
    per_image: list[float] = field(default_factory=list)
    """Seconds in the runtime for an image, of every variant so far: from it follows how long latency will take."""
    _images: dict[str, str] = field(default_factory=dict)
    _seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """What all that is in the results took to compute, in this run or in an earlier one."""
        return sum(self._seconds.values())

    def took(self, entry: Entry, fact: str = "seconds") -> None:
        """Count what an entry of the store took to compute; once, however many benchmarks or variants share it."""
        self._seconds[entry.digest, json_digest(entry.facts)] = entry.number(fact)

    def images_digest(self, benchmark: Benchmark) -> str:
        """Return what the embeddings of a benchmark are kept under: two protocols over the same images share them."""
        if benchmark.digest not in self._images:
            self._images[benchmark.digest] = samples_digest(benchmark.samples)
        return self._images[benchmark.digest]


@contextmanager
def told(*names: str) -> Iterator[None]:
    """Add to an error where in the study it came up, and that nothing is lost."""
    try:
        yield
    except VeriQuantError as error:
        raise VeriQuantError(
            f"{error} (at {' · '.join(names)}; what is done so far is kept, the same command goes on from there)"
        ) from error
