"""`Recipe`: a named choice of method and settings, read from a YAML file and checked on loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from veriquant.checks import explain
from veriquant.errors import VeriQuantError
from veriquant.files import read_text
from veriquant.networks.input_stamp import stamped
from veriquant.networks.network import Network
from veriquant.quantization import METHODS, QuantizationContext, QuantizationResult
from veriquant.quantization.method import Settings
from veriquant.quantization.usable import usable
from veriquant.yaml_text import load_yaml

if TYPE_CHECKING:
    from veriquant.data.calibration import Calibration


class Recipe(BaseModel):
    """What is to be done to a network: a registered method and its settings.

    `settings` holds only what differs from the method's defaults; `resolved` gives all of them, checked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    source: str = ""
    """The paper or report that the recipe follows, where there is one."""
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)

    def resolved(self) -> Settings:
        """Return the method's settings, defaults filled in; raise `VeriQuantError` naming a key that is wrong."""
        method = METHODS.get(self.method)
        try:
            return method.settings.model_validate(self.settings)
        except ValidationError as error:
            raise VeriQuantError(f"recipe {self.name!r}: {explain(error)}") from error

    def calibration_images(self) -> int:
        """Return how many unlabelled images the recipe wants; 0: none."""
        return METHODS.get(self.method).calibration_images(self.resolved())

    def judged(self) -> bool:
        """Return whether the recipe evaluates on a benchmark while it works."""
        return METHODS.get(self.method).judged(self.resolved())

    def labelled(self) -> bool:
        """Return whether the recipe learns from images of people who are known."""
        return METHODS.get(self.method).labelled(self.resolved())

    def apply(
        self, network: Network, calibration: Calibration | None, target: QuantizationContext | None = None
    ) -> QuantizationResult:
        """Quantize `network`; raise `VeriQuantError` where calibration images are needed and there are none."""
        settings = self.resolved()
        if self.calibration_images() and calibration is None:
            raise VeriQuantError(
                f"recipe {self.name!r} needs calibration images: name a folder of any unlabelled images "
                "(--calibration DIR)"
            )
        left_out: list[str] = []
        if self.calibration_images() and calibration is not None:
            calibration, left_out = usable(calibration, network)
        made = METHODS.get(self.method).run(network, settings, calibration, target or QuantizationContext())
        return replace(made, onnx=stamped(made.onnx, network.spec), notes=[*left_out, *made.notes])


def shipped_recipes() -> dict[str, Recipe]:
    """Return the recipes that ship with the package, by name."""
    folder = resources.files("veriquant.recipes")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    recipes = (_parse(file.read_text(encoding="utf-8"), file.name) for file in files)
    return {recipe.name: recipe for recipe in recipes}


def load_recipe(text: str, *, name: str | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return a shipped recipe by name, or one from a `.yaml` file; `overrides` replace single settings.

    Raises `VeriQuantError` for an unknown name, a file that cannot be read, or a setting that the method does not have.
    """
    if text.endswith((".yaml", ".yml")):
        recipe = _parse(read_text(text, "recipe"), text)
    else:
        shipped = shipped_recipes()
        if text not in shipped:
            raise VeriQuantError(f"unknown recipe {text!r}; there are: {', '.join(sorted(shipped))}, or a .yaml file")
        recipe = shipped[text]
    changed = {**recipe.settings, **(overrides or {})}
    recipe = recipe.model_copy(update={"settings": changed, "name": name or recipe.name})
    recipe.resolved()
    return recipe


def _parse(text: str, origin: str) -> Recipe:
    try:
        return Recipe.model_validate(load_yaml(text))
    except ValidationError as error:
        raise VeriQuantError(f"recipe {origin}: {explain(error)}") from error
    except ValueError as error:
        raise VeriQuantError(f"recipe {origin} is not YAML as settings are written: {error}") from error
