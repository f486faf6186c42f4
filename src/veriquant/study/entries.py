"""What stands in a study's YAML file, entry by entry: networks, recipes, benchmarks, calibration, latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, field_validator, model_validator

from veriquant.checks import explain
from veriquant.cited.table import PrecisionKind
from veriquant.data.training_set import labelled
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import CONVENTIONS, InputSpec
from veriquant.settings_file import Checked

Count = Annotated[int, Field(ge=1)]


class CalibrationEntry(Checked):
    """Unlabelled images that recipes may look at."""

    short_for: ClassVar[str] = "source"
    source: str
    """A folder, nested or flat, a training set such as ``ufpr:DIR:open_world:1``, or ``demo:``."""
    images: Count | None = None
    """How many; without it, as many as each recipe asks for."""
    seed: int | None = Field(default=None, ge=0)
    """Of the choice; without it, the study's."""
    exclude_benchmark: bool = True
    """Never calibrate on an image that a benchmark of this study uses; of a network's own calibration: that one of the
    network's own benchmarks uses."""


class NetworkEntry(Checked):
    """One network. `source` is an .onnx file, ``family:checkpoint`` or a registered name."""

    short_for: ClassVar[str] = "source"
    source: str
    name: str | None = None
    """What tables and files call it; without it, the file's stem."""
    input: str | dict[str, Any] | None = None
    """The input specification where the file does not say: the name of a convention, or its keys written out."""
    output: str | None = None
    """The output that is the embedding, where an .onnx file has several and it cannot be told."""
    model: str | None = None
    """What a cited table calls this architecture; needed where the study prints such a table."""
    fold: Count | None = None
    """Which fold of its model it was trained on: a table then has the mean over the folds."""
    benchmarks: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the study's benchmarks that it is evaluated on; without it, all: a fold's network has its own."""
    training_set: str | None = None
    """Images of people who are known, for recipes that learn from them, as ``ufpr:DIR:open_world:1``."""
    calibration: CalibrationEntry | None = None
    """Its own calibration images; without it, the study's."""

    @field_validator("input")
    @classmethod
    def _known(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        try:
            input_spec(value)
        except VeriQuantError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("training_set")
    @classmethod
    def _of_people(cls, value: str | None) -> str | None:
        return None if value is None else labelled(value)

    @model_validator(mode="after")
    def _fold_of_a_model(self) -> NetworkEntry:
        if self.fold is not None and self.model is None:
            raise ValueError("a network with 'fold' is one of several of a 'model': name that too")
        return self


class RecipeEntry(Checked):
    """One recipe: a shipped name or a .yaml file, under a name of its own where settings are changed."""

    short_for: ClassVar[str] = "recipe"
    recipe: str
    name: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    each: dict[str, list[Any]] = Field(default_factory=dict)
    """One setting and its values: a recipe for each, the value behind its name, as in ``{stop_after: [1, 2]}``."""
    row: PrecisionKind | None = None
    """Which rows of a cited table it stands beside; full precision needs no telling."""

    @field_validator("each")
    @classmethod
    def _one(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if len(value) > 1 or any(not values for values in value.values()):
            raise ValueError("one setting with at least one value is expected, as in {stop_after: [1, 2, 3]}")
        return value

    def expanded(self) -> list[RecipeEntry]:
        """Return the recipes that it stands for: one, or one for each value of `each`."""
        if not self.each:
            return [self]
        ((key, values),) = self.each.items()
        if key in self.settings:
            raise VeriQuantError(
                f"recipe {self.name or self.recipe!r}: {key!r} stands under 'settings' and 'each' both"
            )
        return [
            self.model_copy(
                update={
                    "name": f"{self.name or self.recipe} {value}",
                    "settings": {**self.settings, key: value},
                    "each": {},
                }
            )
            for value in values
        ]


class BenchmarkEntry(Checked):
    """One benchmark, as ``kind:place``."""

    short_for: ClassVar[str] = "source"
    source: str
    name: str | None = None
    """What tables call it; needed where two of one kind are in a study."""
    allow_missing: bool = False
    """Go on where images are missing; they are counted and named."""


class LatencyEntry(Checked):
    """How latency is measured: all variants of a network in turn, round by round."""

    batches: tuple[Count, ...] = Field(default=(1, 32), min_length=1)
    rounds: int = Field(default=30, ge=2)


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
