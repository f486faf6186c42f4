"""What a study asks for, loaded: recipes, benchmarks, networks and calibration images, before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.deploy import RUNTIMES
from veriquant.errors import VeriQuantError
from veriquant.networks import Network, load_network
from veriquant.recipes import Recipe, load_recipe
from veriquant.study.config import StudyConfig, duplicates, file_name, input_spec
from veriquant.study.units import Say

#: The recipe that leaves a network as it is: what all others are compared with.
REFERENCE = "fp32"


@dataclass(frozen=True)
class Inputs:
    """All that a study works on; its first recipe is the reference."""

    recipes: list[Recipe]
    written: dict[str, str]
    """By a recipe's name in this study: what the study calls it by."""
    benchmarks: list[Benchmark]
    networks: list[Network]
    calibrations: dict[int, Calibration]
    """By the number of images wanted; see `calibration_images`."""


def load_inputs(config: StudyConfig, say: Say) -> Inputs:
    """Load all that a study names; `VeriQuantError` where something is missing or two go by one name."""
    if config.runtime != "auto":
        _check_runtime(config.runtime)
    recipes, written = _recipes(config)
    benchmarks = _benchmarks(config, say)
    networks = _networks(config, say)
    names = [file_name(f"{network.name}-{recipe.name}") for network in networks for recipe in recipes]
    if twice := duplicates(names):
        raise VeriQuantError(f"two variants would be written to artefacts/{twice[0]}.onnx; give them other names")
    return Inputs(recipes, written, benchmarks, networks, _calibrations(config, recipes, benchmarks, say))


def calibration_images(recipe: Recipe, config: StudyConfig) -> int:
    """Return how many calibration images a recipe is given in this study; 0: none."""
    asked = recipe.calibration_images()
    if not asked or config.calibration is None:
        return asked
    return config.calibration.images or asked


def calibration_set(
    source: str, images: int, seed: int, exclude: frozenset[Path] | set[Path] = frozenset()
) -> Calibration:
    """Return calibration images from a folder, or the demo's own for ``demo:``."""
    if source in ("demo", "demo:"):
        from veriquant.benchmarks.synthetic import demo_calibration

        return demo_calibration(images, seed)
    return load_calibration(source, images, seed, exclude)


def _check_runtime(runtime: str) -> None:
    RUNTIMES.get(runtime)
    if runtime == "pytorch":
        raise VeriQuantError(
            "runtime 'pytorch' cannot run quantized networks, which are ONNX files; choose onnxruntime or openvino"
        )


def _recipes(config: StudyConfig) -> tuple[list[Recipe], dict[str, str]]:
    """Return the recipes, the reference first, and by their names what the study calls them by."""
    recipes: list[Recipe] = []
    written: dict[str, str] = {}
    for entry in config.recipes:
        recipes.append(load_recipe(entry.recipe, name=entry.name, overrides=entry.settings))
        written.setdefault(recipes[-1].name, entry.recipe)
    if twice := duplicates(recipe.name for recipe in recipes):
        raise VeriQuantError(f"two recipes are called {twice[0]!r}: give one of them another name in the study")
    reference = next((recipe for recipe in recipes if _untouched(recipe)), None) or load_recipe(REFERENCE)
    others = [recipe for recipe in recipes if recipe is not reference]
    if twice := [recipe.name for recipe in others if recipe.name == reference.name]:
        raise VeriQuantError(f"the name {twice[0]!r} is the reference's: give the recipe another name in the study")
    return [reference, *others], written


def _untouched(recipe: Recipe) -> bool:
    reference = load_recipe(REFERENCE)
    return recipe.method == reference.method and recipe.resolved() == reference.resolved()


def _benchmarks(config: StudyConfig, say: Say) -> list[Benchmark]:
    found = []
    for entry in config.benchmarks:
        say(f"reading {entry.source}")
        benchmark = load_benchmark(entry.source, allow_missing=entry.allow_missing)
        if entry.name:
            benchmark = replace(benchmark, name=entry.name)
        if benchmark.skipped:
            shown = ", ".join(benchmark.skipped[:3]) + (", …" if len(benchmark.skipped) > 3 else "")
            say(f"{benchmark.name}: {len(benchmark.skipped)} samples skipped: {shown}")
        found.append(benchmark)
    if twice := duplicates(benchmark.name for benchmark in found):
        raise VeriQuantError(f"two benchmarks are called {twice[0]!r}: give each a name of its own in the study")
    return found


def _networks(config: StudyConfig, say: Say) -> list[Network]:
    found = []
    for entry in config.networks:
        say(f"loading {entry.source}")
        network = load_network(entry.source, input_spec(entry.input))
        found.append(replace(network, name=entry.name) if entry.name else network)
    if twice := duplicates(network.name for network in found):
        raise VeriQuantError(f"two networks are called {twice[0]!r}: give each a name of its own in the study")
    return found


def _calibrations(
    config: StudyConfig, recipes: Sequence[Recipe], benchmarks: Sequence[Benchmark], say: Say
) -> dict[int, Calibration]:
    """Choose the images, a set for every number of them that a recipe asks for."""
    asking = {recipe.name: calibration_images(recipe, config) for recipe in recipes if recipe.calibration_images()}
    if not asking:
        return {}
    entry = config.calibration
    if entry is None:
        raise VeriQuantError(
            f"recipe {next(iter(asking))!r} needs calibration images: name a folder of any unlabelled images under "
            "the key 'calibration' of the study"
        )
    seed = config.seed if entry.seed is None else entry.seed
    used = {sample.path for b in benchmarks for sample in b.samples if sample.path is not None}
    exclude = used if entry.exclude_benchmark else set()
    found = {}
    for wanted in set(asking.values()):
        found[wanted] = calibration_set(entry.source, wanted, seed, exclude)
        say(f"calibration: {found[wanted].note}")
    return found
