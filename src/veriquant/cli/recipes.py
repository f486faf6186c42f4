"""`veriquant recipes`: the shipped ways to quantize, and the settings of one of them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import literal, say, table

if TYPE_CHECKING:
    from pydantic import BaseModel

    from veriquant.recipes import Recipe

_WIDTH = 80


@app.command(short_help="The shipped ways to quantize; with a name, one of them with all its settings.")
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A recipe, or a .yaml file: print all that it says.")
    ] = None,
) -> None:
    """List the recipes that ship with the package; with NAME print that recipe and what each setting is.

    \b
    A recipe of your own is a small YAML file, scheme × allocation × recovery × export:
      name: careful
      weights:     {scheme: kmeans, bits: 4}
      activations: {scheme: asymmetric, bits: 8}
      allocation:  {solver: fixed}
      recovery:    [equalise, {qat: {epochs: 3}}]
      export:      {target: generic}
    It is used as --recipe careful.yaml, on the command line and in a study alike.

    \b
    Examples:
      veriquant recipes
      veriquant recipes mixed-qat
      veriquant quantize face.onnx --recipe mixed-qat --set recovery.qat.epochs=3 ...
    """  # noqa: D301
    from veriquant.recipes import load_recipe, shipped_recipes

    if name is not None:
        _print(load_recipe(name))
        return
    rows = [
        (recipe.name, str(recipe.calibration_images()), literal(recipe.summary))
        for recipe in shipped_recipes().values()
    ]
    table(("recipe", ("images", "right"), "what"), rows)
    say("One with all its settings: veriquant recipes NAME. Any can be changed: --set KEY=VALUE")


def _print(recipe: Recipe) -> None:
    """Print a recipe as YAML, each setting with what it is behind it, at most 80 columns wide."""
    for text in (recipe.summary, f"Source: {recipe.source}" if recipe.source else ""):
        for line in textwrap.wrap(text, _WIDTH - 2):
            say(f"# {line}")
    say(f"name: {recipe.name}")
    say(f"schema_version: {recipe.schema_version}")
    for line in _lines(recipe):
        say(line)


def _lines(recipe: Recipe) -> Iterator[str]:
    if recipe.baseline_parts is not None:
        baseline, config = recipe.baseline_parts
        yield from _wrapped(f"# {baseline.summary}", "")
        yield f"baseline: {baseline.name}" if not type(config).model_fields else "baseline:"
        if type(config).model_fields:
            yield f"  {baseline.name}:"
            yield from _settings(config, "    ")
        return
    composition = recipe.composition
    assert composition is not None
    for section, config in (
        ("calibration", composition.calibration),
        ("weights", composition.weights),
        ("activations", composition.activations),
    ):
        yield f"{section}:"
        yield from _settings(config, "  ")
    yield "allocation:"
    yield f"  solver: {composition.solver.name}"
    yield from _wrapped(f"# {composition.solver.summary}", "    ")
    yield from _settings(composition.allocation, "  ")
    yield "recovery:" if composition.recovery else "recovery: []"
    for step in composition.recovery:
        yield f"  - {step.recovery.name}:"
        yield from _wrapped(f"# {step.recovery.summary}", "      ")
        yield from _settings(step.config, "      ")
    yield "export:"
    yield f"  target: {composition.export.name}"
    yield from _wrapped(f"# {composition.export.summary}", "    ")
    yield from _settings(composition.export_config, "  ")


def _settings(config: BaseModel, indent: str) -> Iterator[str]:
    plain = config.model_dump(mode="json")
    for key, field in type(config).model_fields.items():
        value = plain[key]
        if isinstance(value, dict) and value.get("kind") == "veriquant-plan":
            value = "…"
        line = f"{indent}{key}: {_plain(value)}"
        if len(line) <= _WIDTH or not isinstance(value, dict):
            yield line
        else:
            yield f"{indent}{key}:"
            yield from (f"{indent}  {inner}: {_plain(each)}" for inner, each in value.items())
        if field.description:
            yield from _wrapped(f"# {' '.join(field.description.split())}", f"{indent}  ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}# ")


def _plain(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n...\n").strip()
