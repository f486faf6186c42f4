"""The YAML file of a study, checked: every mistake is one line that names the key.

What stands in it is what one writes on the command line: networks, recipes and benchmarks take the same texts, and
relative paths start, as there, from the working directory. ``${NAME}`` is replaced by an environment variable.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from veriquant.checks import explain
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import CONVENTIONS, InputSpec
from veriquant.settings_file import Checked, parse_settings, read_settings

Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Margin = Annotated[float, Field(ge=0, lt=1)]
#: What a file name may hold: names of networks and recipes become parts of file names.
_NAME = re.compile(r"[^\w.+=@-]+")


class NetworkEntry(Checked):
    """One network. `source` is an .onnx file, ``family:checkpoint`` or a registered name."""

    source: str
    name: str | None = None
    """What tables and files call it; without it, the file's stem."""
    input: str | dict[str, Any] | None = None
    """The input specification where the file does not say: the name of a convention, or its keys written out."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("input")
    @classmethod
    def _known(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        try:
            input_spec(value)
        except VeriQuantError as error:
            raise ValueError(str(error)) from error
        return value


class RecipeEntry(Checked):
    """One recipe: a shipped name or a .yaml file, under a name of its own where settings are changed."""

    recipe: str
    name: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"recipe": value} if isinstance(value, str) else value


class BenchmarkEntry(Checked):
    """One benchmark, as ``kind:place``."""

    source: str
    name: str | None = None
    """What tables call it; needed where two of one kind are in a study."""
    allow_missing: bool = False
    """Go on where images are missing; they are counted and named."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


class CalibrationEntry(Checked):
    """Unlabelled images that recipes may look at."""

    source: str
    """A folder, nested or flat, or ``demo:``."""
    images: Count | None = None
    """How many; without it, as many as each recipe asks for."""
    seed: int | None = Field(default=None, ge=0)
    """Of the choice; without it, the study's."""
    exclude_benchmark: bool = True
    """Never calibrate on an image that a benchmark of this study uses."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


class LatencyEntry(Checked):
    """How latency is measured: all variants of a network in turn, round by round."""

    batches: tuple[Count, ...] = Field(default=(1, 32), min_length=1)
    rounds: int = Field(default=30, ge=2)


class StudyConfig(Checked):
    """A whole study: networks × recipes × benchmarks."""

    title: str = ""
    seed: int = Field(default=0, ge=0)
    networks: tuple[NetworkEntry, ...] = Field(min_length=1)
    recipes: tuple[RecipeEntry, ...] = Field(min_length=1)
    benchmarks: tuple[BenchmarkEntry, ...] = Field(min_length=1)
    calibration: CalibrationEntry | None = None
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
    out: str | None = None
    """The folder of results; without it, ``out/<name of the file>``."""

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


def input_spec(value: str | Mapping[str, Any] | None) -> InputSpec | None:
    """Return the input specification that a study or the command line names; `VeriQuantError` where it is none."""
    if value is None:
        return None
    if isinstance(value, str):
        if value not in CONVENTIONS:
            raise VeriQuantError(f"unknown input convention {value!r}; there are: {', '.join(CONVENTIONS)}")
        return CONVENTIONS[value]
    try:
        return InputSpec.model_validate({"origin": "given in the study", **value})
    except ValidationError as error:
        raise VeriQuantError(f"input: {explain(error, InputSpec)}") from error


def file_name(name: str) -> str:
    """Return `name` as a part of a file name."""
    return _NAME.sub("-", name).strip("-.") or "unnamed"


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
