"""`Recipe`: what is to be done to a network, as checked data: a composition of parts, or a baseline to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from veriquant.baselines import BASELINES, Baseline
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.result import QuantizationResult
from veriquant.calibration.usable import usable
from veriquant.checks import explain
from veriquant.config import Config, checked, split_part
from veriquant.errors import VeriQuantError
from veriquant.files import read_text
from veriquant.networks.input_stamp import stamped
from veriquant.networks.network import Network
from veriquant.onnxgraph.quantized import refuse_quantized
from veriquant.recipes.compatibility import check_compatible
from veriquant.recipes.composition import Composition, compose
from veriquant.recipes.pipeline import quantize_composed
from veriquant.recipes.settings import SECTIONS, upgraded, with_settings
from veriquant.recovery.qat_config import QatConfig
from veriquant.results import remark
from veriquant.yaml_text import load_yaml

if TYPE_CHECKING:
    from veriquant.data.calibration import Calibration

#: The version of the layout of recipe files.
SCHEMA_VERSION = 2


class Recipe(BaseModel):
    """What is to be done to a network: scheme × allocation × recovery × export, or a baseline.

    The sections hold only what differs from the parts' defaults; `composition` has all of it, checked. A file of the
    layout before, with a method and its settings, is read too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    source: str = ""
    """The paper or report that the recipe follows, where there is one."""
    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    calibration: dict[str, Any] = Field(default_factory=dict)
    """images, check_images."""
    weights: dict[str, Any] = Field(default_factory=dict)
    """scheme, bits, ranges."""
    activations: dict[str, Any] = Field(default_factory=dict)
    """scheme, bits, ranges."""
    allocation: dict[str, Any] = Field(default_factory=dict)
    """solver, and its settings."""
    recovery: list[str | dict[str, Any]] = Field(default_factory=list)
    """Recoveries in order, each by name or with settings."""
    export: dict[str, Any] = Field(default_factory=dict)
    """target, and its settings."""
    baseline: str | dict[str, Any] | None = None
    """In place of all sections: full precision, or somebody else's quantization, by name or with settings."""

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "method" not in value:
            return value
        rest = {key: each for key, each in value.items() if key not in ("method", "settings", "schema_version")}
        return upgraded(str(value["method"]), value.get("settings") or {}, rest)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Recipe:
        if self.baseline is not None and (both := [name for name in SECTIONS if getattr(self, name)]):
            raise ValueError(f"a baseline stands alone: leave {both[0]!r} out, or the baseline")
        return self

    @cached_property
    def composition(self) -> Composition | None:
        """The parts and their settings, checked one by one and together; None for a baseline."""
        if self.baseline is not None:
            return None
        try:
            composition = compose(self.model_dump(include=set(SECTIONS)))
            check_compatible(composition)
        except VeriQuantError as error:
            raise VeriQuantError(f"recipe {self.name!r}: {error}") from error
        return composition

    @cached_property
    def baseline_parts(self) -> tuple[Baseline, Config] | None:
        """The baseline and its checked settings; None for a composition."""
        if self.baseline is None:
            return None
        name, settings = split_part(self.baseline, "baseline", "baseline")
        baseline = BASELINES.get(name)
        try:
            return baseline, checked(baseline.config, settings, "")
        except VeriQuantError as error:
            raise VeriQuantError(f"recipe {self.name!r}: {error}") from error

    def check(self) -> Recipe:
        """Check all of it; raise `VeriQuantError` naming the key, or the two parts that cannot go together."""
        _ = self.composition, self.baseline_parts
        return self

    def settings(self) -> dict[str, Any]:
        """Return all settings, defaults filled in, as plain data."""
        if self.baseline_parts is not None:
            baseline, config = self.baseline_parts
            return {"baseline": {baseline.name: config.plain()}}
        assert self.composition is not None
        return self.composition.plain()

    def calibration_images(self) -> int:
        """Return how many unlabelled images the recipe wants; 0: none."""
        if self.baseline_parts is not None:
            baseline, config = self.baseline_parts
            return baseline.calibration_images(config)
        assert self.composition is not None
        return self.composition.calibration_images

    def judged(self) -> bool:
        """Return whether the recipe evaluates on a benchmark while it works."""
        return self.composition is not None and self.composition.judged

    def labelled(self) -> bool:
        """Return whether the recipe learns from images of people who are known."""
        return self.composition is not None and self.composition.labelled

    def plans(self) -> bool:
        """Return whether the recipe simulates the network, so that there is a plan and a file for PyTorch."""
        return self.composition is not None and self.composition.simulated

    def trainings(self) -> list[QatConfig]:
        """Return the settings of the recoveries that train."""
        return [] if self.composition is None else [config for _, config in self.composition.training_steps]

    def apply(
        self, network: Network, calibration: Calibration | None, context: QuantizationContext | None = None
    ) -> QuantizationResult:
        """Quantize `network` to a file that takes and gives what the network's own file does.

        Raises `VeriQuantError` where calibration images are needed and there are none, or the network is quantized.
        """
        self.check()
        context = context or QuantizationContext()
        if self.baseline_parts is None or not self.baseline_parts[0].takes_quantized:
            refuse_quantized(network.onnx, network.source)
        if self.calibration_images() and calibration is None:
            raise VeriQuantError(
                f"recipe {self.name!r} needs calibration images: name a folder of any unlabelled images "
                "(--calibration DIR)"
            )
        left_out: list[str] = []
        if self.calibration_images() and calibration is not None:
            calibration, left_out = usable(calibration, network)
        if self.baseline_parts is not None:
            baseline, config = self.baseline_parts
            made = baseline.run(network, config, calibration, context)
        else:
            assert self.composition is not None
            assert calibration is not None
            made = quantize_composed(network, self.composition, calibration, context)
        records = [*(remark("prepare", note) for note in left_out), *made.records]
        content = network.ends.restored(stamped(made.onnx, network.spec))
        return replace(made, onnx=content, records=records, source=network)


def shipped_recipes() -> dict[str, Recipe]:
    """Return the recipes that ship with the package, by name."""
    folder = resources.files("veriquant.recipes")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    recipes = (_parse(file.read_text(encoding="utf-8"), file.name) for file in files)
    return {recipe.name: recipe for recipe in recipes}


def load_recipe(text: str, *, name: str | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return a shipped recipe by name, or one from a `.yaml` file; `overrides` replace single settings.

    A setting is named by its path, ``recovery.qat.epochs``, or by its last part where one part alone has it. Raises
    `VeriQuantError` for an unknown name, a file that cannot be read, a setting that no part has, or parts that cannot
    go together.
    """
    if text.endswith((".yaml", ".yml")):
        recipe = _parse(read_text(text, "recipe"), text)
    else:
        shipped = shipped_recipes()
        if text not in shipped:
            raise VeriQuantError(f"unknown recipe {text!r}; there are: {', '.join(sorted(shipped))}, or a .yaml file")
        recipe = shipped[text]
    return recipe_with(recipe, name or recipe.name, overrides or {})


def recipe_with(recipe: Recipe, name: str, overrides: Mapping[str, Any]) -> Recipe:
    """Return a recipe under another name and with single settings changed, checked."""
    try:
        document = with_settings(recipe.model_dump(exclude_defaults=True), overrides)
    except VeriQuantError as error:
        raise VeriQuantError(f"recipe {name!r}: {error}") from error
    return Recipe.model_validate({**document, "name": name}).check()


def _parse(text: str, origin: str) -> Recipe:
    try:
        return Recipe.model_validate(load_yaml(text))
    except ValidationError as error:
        raise VeriQuantError(f"recipe {origin}: {explain(error)}") from error
    except ValueError as error:
        raise VeriQuantError(f"recipe {origin} is not YAML as settings are written: {error}") from error
