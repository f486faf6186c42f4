"""Every file in examples/ runs from end to end: as it is, but on toy data, with fewer folds, iterations and images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_world import SIDE, tiny_network
from toy_real import toy_real

from veriquant.cli.main import main
from veriquant.recipes import load_recipe
from veriquant.recipes.settings import setting_names
from veriquant.study import read_result

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*"))
#: What settings of recipes are cut down to, where a recipe has them.
SMALL = {
    "images": 8, "check_images": 4, "sensitivity_images": 4, "train_images": 12, "epochs": 1, "last_epochs": 1,
    "batch_size": 4,
}  # fmt: skip
ITERATIONS = 2


@pytest.fixture(scope="module")
def real_at_toy_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_real(tmp_path_factory.mktemp("real"))


def small_study(content: dict[str, Any]) -> dict[str, Any]:
    """Return a study with the same keys and little work."""
    kept = [entry for entry in content["networks"] if not isinstance(entry, dict) or entry.get("fold", 1) == 1]
    used = {name for entry in kept if isinstance(entry, dict) for name in entry.get("benchmarks", [])}
    names = [entry["name"] for entry in kept if isinstance(entry, dict) and "name" in entry]
    small = content | {"networks": kept, "recipes": [small_recipe(entry) for entry in content["recipes"]]}
    if used:
        small["benchmarks"] = [entry for entry in content["benchmarks"] if entry["name"] in used]
    if "tables" in content:
        small["tables"] = [
            entry if isinstance(entry, str) else entry | {"networks": [n for n in entry["networks"] if n in names]}
            for entry in content["tables"]
        ]
    if isinstance(small.get("latency", {}), dict):
        small["latency"] = {"batches": [1], "rounds": 2}
    return small | {"resamples": 20}


def small_recipe(entry: str | dict[str, Any]) -> dict[str, Any]:
    """Return a recipe that trains little, and stops after the first of its iterations."""
    whole: dict[str, Any] = {"recipe": entry} if isinstance(entry, str) else entry
    recipe = load_recipe(whole["recipe"])
    there = {name.rpartition(".")[2] for name in setting_names(recipe.model_dump())}
    cut = {key: value for key, value in SMALL.items() if key in there}
    small = whole | {"settings": whole.get("settings", {}) | cut}
    if "each" in whole:
        small["each"] = {key: values[:ITERATIONS] for key, values in whole["each"].items()}
    return small


def small_training(content: dict[str, Any]) -> dict[str, Any]:
    """Return a training of the first run alone, for one epoch, of the narrowest network."""
    network = content["network"] | {"size": SIDE, "embedding": 16, "width": 0.125}
    loop = content["loop"] | {"epochs": 1, "accelerator": "cpu", "schedule": content["loop"]["schedule"] | {"at": [1]}}
    runs = content["runs"][:1]
    return content | {"network": network, "loop": loop, "runs": runs, "batch_size": 4, "workers": 0}


def test_all_examples_are_of_kinds_that_run_here() -> None:
    assert {file.suffix for file in EXAMPLES} == {".yaml"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs(
    example: Path,
    real_at_toy_size: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VERIQUANT_REAL", str(real_at_toy_size))
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(example.read_text())
    verb = "study" if "networks" in content else "train"
    small = small_study(content) if verb == "study" else small_training(content)
    for entry in small.get("networks", []):  # of an example before, where it says so
        source = entry["source"] if isinstance(entry, dict) else entry
        if source.startswith("out/"):
            tiny_network(tmp_path / source)
    file = tmp_path / example.name
    file.write_text(yaml.safe_dump(small, allow_unicode=True, sort_keys=False))
    monkeypatch.setattr(sys, "argv", ["veriquant", verb, file.name, "--out", "results"])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert not left.value.code, err
    if verb == "train":
        assert list(Path("results").glob("*/network.onnx"))
        return
    result = read_result("results")
    assert len(result.networks) == len(small["networks"])
    assert len(result.tables) == len(small.get("tables", []))
    assert "report.html" in out
