"""The YAML file of ``veriquant train``, checked: every mistake is one line that names the key.

Data, benchmarks and paths are written as on the command line; relative ones start from the working directory, and
``${NAME}`` is replaced by an environment variable.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from veriquant.data.training_set import labelled
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import CONVENTIONS
from veriquant.networks.families import FAMILIES
from veriquant.settings_file import Checked, parse_settings, read_settings
from veriquant.training.augment import PRESETS, Augmentation
from veriquant.training.heads import Head, make_head
from veriquant.training.settings import LoopSettings

#: What a lone run is called, whose data stand at the top of the file.
LONE = "run"


def _may_choose(text: str) -> str:
    """Refuse a benchmark that is there to test on: the best epoch is chosen by what it gives."""
    kind = text.partition(":")[0]
    if kind == "folder" or (kind == "ufpr-all" and text.endswith(":val")):
        return text
    raise ValueError(
        "a model is never chosen by a list to test on; expected images held out for validation: "
        "ufpr-all:DIR:PROTOCOL:FOLD:val, or folder:DIR with people (and a pairs.txt of your own, if you like)"
    )


Data = Annotated[str, AfterValidator(labelled)]
Validation = Annotated[str, AfterValidator(_may_choose)]


class NetworkEntry(Checked):
    """The network to train: a family and its arguments, which stand beside it, from scratch or from a checkpoint.

    ``{family: mobilefacenet, size: 112, embedding: 128}``.
    """

    family: str
    checkpoint: str | None = None
    """A file of weights of this family to start from."""
    arguments: dict[str, int | float] = Field(default_factory=dict)
    """Those that the file states; the family's defaults, or the checkpoint's, hold for the others."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"family": value}
        if not isinstance(value, dict) or not isinstance(value.get("family"), str):
            return value
        arguments = {key: given for key, given in value.items() if key not in ("family", "checkpoint")}
        try:
            defaults = FAMILIES.get(value["family"]).defaults
        except VeriQuantError as error:
            raise ValueError(str(error)) from error
        for key in arguments:
            if key not in defaults:
                near = difflib.get_close_matches(str(key), [*defaults, "checkpoint"], n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"family {value['family']!r} takes no {key!r}{hint}; it takes {', '.join(defaults)}")
        kept = {key: given for key, given in value.items() if key in ("family", "checkpoint")}
        return {**kept, "arguments": arguments}

    @field_validator("arguments")
    @classmethod
    def _can_be_built(cls, value: dict[str, int | float], info: ValidationInfo) -> dict[str, int | float]:
        if "family" in info.data:
            family = FAMILIES.get(info.data["family"])
            try:
                family.parameters(**value)
            except (ValueError, TypeError, RuntimeError) as error:
                raise ValueError(f"no network {family.name!r} like that: {' '.join(str(error).split())}") from error
        return value


class HeadEntry(Checked):
    """The loss, as `heads.make_head` takes it; what is left out is the head's own."""

    short_for: ClassVar[str] = "name"
    name: str = "arcface"
    scale: float | None = None
    margin: float | None = None
    sample: float | None = None
    margin_growth: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Epochs over which the margin grows from nothing: large ones from scratch may need it (`growing_margin`)."""

    @model_validator(mode="after")
    def _can_be_made(self) -> HeadEntry:
        try:
            self.make(dim=1, classes=1)
        except VeriQuantError as error:
            raise ValueError(str(error)) from error
        return self

    def make(self, dim: int, classes: int) -> Head:
        """Return the head for embeddings of `dim` numbers and `classes` people."""
        return make_head(self.name, dim, classes, scale=self.scale, margin=self.margin, sample=self.sample)


class RunEntry(Checked):
    """One network to train: on what, and what its best epoch is chosen by."""

    name: str = Field(pattern=r"^\w[\w.+=@-]*$")
    """Its folder below `out`."""
    data: Data
    """A labelled training set, as ``kind:path``."""
    validation: Validation | None = Field(default=None, alias="validate")
    """A benchmark of images held out; without it, the last epoch counts as the best."""


class TrainingConfig(Checked):
    """A whole file: how to train, and either `data` for one network or `runs` for several, one after the other."""

    network: NetworkEntry
    input: str | None = None
    """The convention of what the network takes; without it, the family's (or the checkpoint's own)."""
    data: Data | None = None
    validation: Validation | None = Field(default=None, alias="validate")
    runs: tuple[RunEntry, ...] = Field(default=(), validate_default=True)
    head: HeadEntry = HeadEntry()
    augmentation: Augmentation = PRESETS.get("flip")
    """A preset's name, or the operations."""
    loop: LoopSettings
    batch_size: int = Field(default=32, ge=2)
    """Images of a step, over all devices."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that read images; without it, one less than there are cores, at most 8."""
    seed: int = Field(default=0, ge=0)
    """Of the first weights, of the order and the augmentation of images, and of chance in the network."""
    select: str = "eer"
    """The metric of the validation that the best epoch is chosen by."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between two validations; the last epoch is always validated."""
    out: str | None = None
    """The folder of results; without it, ``out/<name of the file>``."""

    @field_validator("input")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in CONVENTIONS:
            raise ValueError(f"unknown input convention; there are: {', '.join(CONVENTIONS)}")
        return value

    @field_validator("runs")
    @classmethod
    def _one_or_many(cls, value: tuple[RunEntry, ...], info: ValidationInfo) -> tuple[RunEntry, ...]:
        alone = info.data.get("data") is not None
        if "data" in info.data and alone == bool(value):
            raise ValueError("expected either 'data', for one network, or 'runs', for several")
        if value and info.data.get("validation") is not None:
            raise ValueError("with 'runs', 'validate' stands in each run")
        if twice := [name for name, count in Counter(run.name for run in value).items() if count > 1]:
            raise ValueError(f"two runs are called {twice[0]!r}; give each a name of its own")
        return value

    @field_validator("augmentation", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return PRESETS.get(value)
        except VeriQuantError as error:
            raise ValueError(str(error)) from error

    @field_validator("loop")
    @classmethod
    def _one_seed(cls, value: LoopSettings) -> LoopSettings:
        if "seed" in value.model_fields_set:
            raise ValueError("'seed' stands at the top of the file, not in 'loop': one seed is of everything")
        return value

    def each(self) -> tuple[RunEntry, ...]:
        """Return the runs; where `data` stands at the top, the only one."""
        if self.data is None:
            return self.runs
        return (RunEntry(name=LONE, data=self.data, validate=self.validation),)

    def loop_settings(self) -> LoopSettings:
        """Return the settings of the loop, with the seed of everything."""
        return self.loop.model_copy(update={"seed": self.seed})


def load_training(path: str | os.PathLike[str]) -> TrainingConfig:
    """Read and check the YAML file of a training; every mistake raises `VeriQuantError` naming file and key."""
    return read_settings(path, TrainingConfig, "training")


def parse_training(text: str, origin: str, variables: Mapping[str, str] | None = None) -> TrainingConfig:
    """Check the text of a training. `variables` replace ``${NAME}``; without them, the environment's do."""
    return parse_settings(text, origin, TrainingConfig, "training", variables)
