"""Every example of a study is one: its keys are known, its recipes load, its tables have what they are to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from veriquant.recipes import load_recipe
from veriquant.study import parse_study

EXAMPLES = [
    file for file in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")) if "train" not in file.stem
]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_can_be_run(file: Path) -> None:
    config = parse_study(file.read_text(), file.name, {"VERIQUANT_REAL": "/real"})
    recipes = [load_recipe(entry.recipe, name=entry.name, overrides=entry.settings) for entry in config.recipes]
    labelled = [recipe.name for recipe in recipes if recipe.labelled()]
    assert not labelled or all(entry.training_set or config.training_set for entry in config.networks), labelled
    assert f"veriquant study examples/{file.name}" in file.read_text()
    named = {benchmark.name or benchmark.source for benchmark in config.benchmarks}
    assert all(set(entry.benchmarks) <= named for entry in config.networks if entry.benchmarks is not None)
    models = {entry.model for entry in config.networks}
    assert all(models & set(table.cited.models) for table in config.tables)
    assert not config.tables or {entry.row for entry in config.recipes} >= {"fixed", "mixed"}
