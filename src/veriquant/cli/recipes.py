"""`veriquant recipes`: the shipped ways to quantize, and their settings."""

from __future__ import annotations

from veriquant.cli.app import app
from veriquant.cli.screen import literal, say, table


@app.command(short_help="The shipped ways to quantize, and their settings.")
def recipes() -> None:
    """List the recipes that ship with the package, their settings and how many images each wants.

    \b
    Example of a recipe of your own, a small YAML file (name, method, what differs from its defaults):
      name: careful
      method: int8-static
      settings: {calibration: entropy}
    It is used as --recipe careful.yaml, on the command line and in a study alike.
    """  # noqa: D301
    from veriquant.recipes import shipped_recipes

    rows = []
    for name, recipe in shipped_recipes().items():
        settings = recipe.resolved().model_dump(mode="json")
        told = ", ".join(f"{key}={_plain(value)}" for key, value in settings.items())
        rows.append((name, recipe.method, str(recipe.calibration_images()), literal(recipe.summary), literal(told)))
    table(("recipe", "method", ("images", "right"), "what", "settings (--set KEY=VALUE)"), rows)
    say("Any setting can be changed: veriquant quantize NETWORK --recipe NAME --set KEY=VALUE …")


def _plain(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
