"""The YAML file of a study, checked: every mistake is one line that names the key.

What stands in it is what one writes on the command line: networks, recipes and benchmarks take the same texts, and
relative paths start, as there, from the working directory. ``${NAME}`` is replaced by an environment variable.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from veriquant.checks import explain
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import CONVENTIONS, InputSpec

Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Margin = Annotated[float, Field(ge=0, lt=1)]
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
#: What a file name may hold: names of networks and recipes become parts of file names.
_NAME = re.compile(r"[^\w.+=@-]+")


class Checked(BaseModel):
    """Base of the study's models: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise VeriQuantError(f"cannot read study {path}: {reason}") from error
    return parse_study(text, str(path))


def parse_study(text: str, origin: str, variables: Mapping[str, str] | None = None) -> StudyConfig:
    """Check the text of a study. `variables` replace ``${NAME}``; without them, the environment's do."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        hint = "; inside [ ] or { } a text with ${…} must stand in quotes" if "${" in text else ""
        raise VeriQuantError(f"study {origin} is not YAML: {' '.join(str(error).split())}{hint}") from error
    if not isinstance(content, dict):
        raise VeriQuantError(f"study {origin} must hold keys and values, found {type(content).__name__}")
    content = _expanded(content, os.environ if variables is None else variables, origin, "")
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        told = _unknown_first(error)
        raise VeriQuantError(f"study {origin}: {explain(told, _model_at(told))}") from error


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


def _expanded(value: Any, variables: Mapping[str, str], origin: str, key: str) -> Any:
    if isinstance(value, dict):
        return {k: _expanded(v, variables, origin, f"{key}.{k}" if key else str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v, variables, origin, f"{key}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if not variables.get(name):
            raise VeriQuantError(
                f"study {origin}: key {key!r} uses the environment variable {name!r}, which is not set; set it with: "
                f"export {name}=…"
            )
        return variables[name]

    return _VARIABLE.sub(replaced, value)


def _unknown_first(error: ValidationError) -> ValidationError:
    """Return the problems with unknown keys at the front: a key that is misspelt is not also told to be missing."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    details = [
        InitErrorDetails(type=each["type"], loc=each["loc"], input=each["input"], ctx=each.get("ctx", {}))
        for each in problems
    ]
    return ValidationError.from_exception_data(error.title, details)


def _model_at(error: ValidationError) -> type[BaseModel]:
    """Return the model that the first problem lies in, for the near name of an unknown key."""
    inner: dict[str, type[BaseModel]] = {
        "networks": NetworkEntry,
        "recipes": RecipeEntry,
        "benchmarks": BenchmarkEntry,
        "calibration": CalibrationEntry,
        "latency": LatencyEntry,
    }
    place = error.errors()[0]["loc"]
    return inner.get(str(place[0]), StudyConfig) if len(place) > 1 else StudyConfig
