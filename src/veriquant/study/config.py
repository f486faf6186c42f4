"""The YAML file of a study, checked: every mistake is one line that names the key.

What stands in it is what one writes on the command line: networks, recipes and benchmarks take the same texts, and
relative paths start, as there, from the working directory. ``${NAME}`` is replaced by an environment variable.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field, field_validator

from veriquant.data.training_set import labelled
from veriquant.errors import VeriQuantError
from veriquant.settings_file import Checked, parse_settings, read_settings
from veriquant.study.cited_entry import CitedTableEntry
from veriquant.study.entries import (
    BenchmarkEntry,
    CalibrationEntry,
    Count,
    LatencyEntry,
    NetworkEntry,
    RecipeEntry,
)

Rate = Annotated[float, Field(gt=0, lt=1)]
Margin = Annotated[float, Field(ge=0, lt=1)]
#: What a file name may hold: names of networks and recipes become parts of file names.
_NAME = re.compile(r"[^\w.+=@-]+")


class StudyConfig(Checked):
    """A whole study: networks × recipes × benchmarks."""

    title: str = ""
    seed: int = Field(default=0, ge=0)
    networks: tuple[NetworkEntry, ...] = Field(min_length=1)
    recipes: tuple[RecipeEntry, ...] = Field(min_length=1)
    """What is written with `each` stands here once for each value."""
    benchmarks: tuple[BenchmarkEntry, ...] = Field(min_length=1)
    calibration: CalibrationEntry | None = None
    training_set: str | None = None
    """Images of people who are known, for recipes that learn from them and networks that have no set of their own."""
    flip: bool = False
    """Add the embedding of the mirror image."""
    runtime: str = "onnxruntime"
    """A registered runtime, or 'auto': the fastest for each full-precision network."""
    threads: Count = 1
    batch_size: Count | None = None
    latency: LatencyEntry | None = LatencyEntry()
    far: tuple[Rate, ...] = Field(default=(1e-2, 1e-3, 1e-4), min_length=1)
    verdict_metric: str | None = None
    """The metric that the recommendation rests on; without it, accuracy where the protocol has folds, else a TAR."""
    margin: Margin | dict[str, Margin] = 0.005
    """How much worse than the reference still counts as no worse, as a fraction: one number, or by metric, by family
    ('tar') and by '*' for the rest."""
    compatibility_far: Rate = 1e-3
    """The operating point of the compatibility section."""
    resamples: int = Field(default=1000, ge=0)
    """Resamples of people for the intervals; 0: none."""
    tables: tuple[CitedTableEntry, ...] = ()
    """Tables of papers to print, this study's figures beside the cited ones."""
    out: str | None = None
    """The folder of results; without it, ``out/<name of the file>``."""

    @field_validator("recipes")
    @classmethod
    def _expanded(cls, value: tuple[RecipeEntry, ...]) -> tuple[RecipeEntry, ...]:
        try:
            return tuple(recipe for entry in value for recipe in entry.expanded())
        except VeriQuantError as error:
            raise ValueError(str(error)) from error

    @field_validator("training_set")
    @classmethod
    def _of_people(cls, value: str | None) -> str | None:
        return None if value is None else labelled(value)

    @property
    def margins(self) -> dict[str, float]:
        """The margins by metric, family or '*'."""
        return dict(self.margin) if isinstance(self.margin, dict) else {"*": self.margin}


def load_study(path: str | os.PathLike[str]) -> StudyConfig:
    """Read and check the YAML file of a study; every mistake raises `VeriQuantError` naming file and key."""
    return read_settings(path, StudyConfig, "study")


def parse_study(text: str, origin: str, variables: Mapping[str, str] | None = None) -> StudyConfig:
    """Check the text of a study. `variables` replace ``${NAME}``; without them, the environment's do."""
    return parse_settings(text, origin, StudyConfig, "study", variables)


def file_name(name: str) -> str:
    """Return `name` as a part of a file name."""
    return _NAME.sub("-", name).strip("-.") or "unnamed"


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
