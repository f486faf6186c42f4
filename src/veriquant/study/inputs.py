"""What a study asks for, loaded: recipes, benchmarks, networks and their images, before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.cited.table import PrecisionKind
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.data.training_set import TRAINING_SETS, TrainingSet, calibration_from, load_training_set
from veriquant.deploy import RUNTIMES
from veriquant.errors import VeriQuantError
from veriquant.networks import Network, load_network
from veriquant.recipes import Recipe, load_recipe
from veriquant.study.config import StudyConfig, duplicates, file_name
from veriquant.study.entries import CalibrationEntry, NetworkEntry, input_spec
from veriquant.study.train_test_overlap import files_tested, refuse_tested
from veriquant.study.units import Say

#: The recipe that leaves a network as it is: what all others are compared with.
REFERENCE = "fp32"


@dataclass(frozen=True)
class NetworkInputs:
    """One network of a study and what belongs to it alone."""

    entry: NetworkEntry
    network: Network
    benchmarks: list[Benchmark]
    """What it is evaluated on, in the order of the study."""
    calibration: CalibrationEntry | None
    """Its own, else the study's."""
    calibrations: dict[int, Calibration]
    """By the number of images wanted; see `calibration_images`."""
    training_set: TrainingSet | None

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Return the calibration images that a recipe is given."""
        return self.calibrations.get(calibration_images(recipe, self.calibration))


@dataclass(frozen=True)
class Inputs:
    """All that a study works on; its first recipe is the reference."""

    recipes: list[Recipe]
    written: dict[str, str]
    """By a recipe's name in this study: what the study calls it by."""
    rows: dict[str, PrecisionKind]
    """By a recipe's name, where it has a place in cited tables: the rows that it stands beside."""
    benchmarks: list[Benchmark]
    networks: list[NetworkInputs]


def load_inputs(config: StudyConfig, say: Say) -> Inputs:
    """Load all that a study names; `VeriQuantError` where something is missing or two go by one name."""
    if config.runtime != "auto":
        _check_runtime(config.runtime)
    recipes, written, rows = _recipes(config)
    benchmarks = _benchmarks(config, say)
    loaded = _networks(config, say)
    names = [file_name(f"{network.name}-{recipe.name}") for network in loaded for recipe in recipes]
    if twice := duplicates(names):
        raise VeriQuantError(f"two variants would be written to artefacts/{twice[0]}.onnx; give them other names")
    images = _Images(config, recipes, benchmarks, say)
    networks = [images.of(number, network) for number, network in enumerate(loaded)]
    used = {benchmark.name for network in networks for benchmark in network.benchmarks}
    if unused := [benchmark.name for benchmark in benchmarks if benchmark.name not in used]:
        raise VeriQuantError(f"benchmark {unused[0]!r}: no network has it under 'benchmarks'; name it or leave it out")
    return Inputs(recipes, written, rows, benchmarks, networks)


def calibration_images(recipe: Recipe, entry: CalibrationEntry | None) -> int:
    """Return how many calibration images a recipe is given; 0: none."""
    asked = recipe.calibration_images()
    if not asked or entry is None:
        return asked
    return entry.images or asked


def calibration_set(
    source: str, images: int, seed: int, exclude: frozenset[Path] | set[Path] = frozenset()
) -> Calibration:
    """Return calibration images from a folder, from a training set, or the demo's own for ``demo:``."""
    if source in ("demo", "demo:"):
        from veriquant.benchmarks.synthetic import demo_calibration

        return demo_calibration(images, seed)
    kind, colon, _ = source.partition(":")
    if colon and kind in TRAINING_SETS:
        return calibration_from(load_training_set(source), images, seed, exclude)
    return load_calibration(source, images, seed, exclude)


def _check_runtime(runtime: str) -> None:
    RUNTIMES.get(runtime)
    if runtime == "pytorch":
        raise VeriQuantError(
            "runtime 'pytorch' cannot run quantized networks, which are ONNX files; choose onnxruntime or openvino"
        )


def _recipes(config: StudyConfig) -> tuple[list[Recipe], dict[str, str], dict[str, PrecisionKind]]:
    """Return the recipes, the reference first, and by their names what the study calls them by and their rows."""
    recipes: list[Recipe] = []
    written: dict[str, str] = {}
    rows: dict[str, PrecisionKind] = {}
    for entry in config.recipes:
        recipes.append(load_recipe(entry.recipe, name=entry.name, overrides=entry.settings))
        written.setdefault(recipes[-1].name, entry.recipe)
        if entry.row is not None:
            rows[recipes[-1].name] = entry.row
    if twice := duplicates(recipe.name for recipe in recipes):
        raise VeriQuantError(f"two recipes are called {twice[0]!r}: give one of them another name in the study")
    reference = next((recipe for recipe in recipes if _untouched(recipe)), None) or load_recipe(REFERENCE)
    others = [recipe for recipe in recipes if recipe is not reference]
    if twice := [recipe.name for recipe in others if recipe.name == reference.name]:
        raise VeriQuantError(f"the name {twice[0]!r} is the reference's: give the recipe another name in the study")
    return [reference, *others], written, {**rows, reference.name: "fp32"}


def _untouched(recipe: Recipe) -> bool:
    reference = load_recipe(REFERENCE)
    return recipe.settings() == reference.settings()


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
        network = load_network(entry.source, input_spec(entry.input), output=entry.output)
        found.append(replace(network, name=entry.name) if entry.name else network)
    if twice := duplicates(network.name for network in found):
        raise VeriQuantError(f"two networks are called {twice[0]!r}: give each a name of its own in the study")
    return found


class _Images:
    """Chooses what each network is calibrated, trained and tested on; what several share is read once."""

    def __init__(
        self, config: StudyConfig, recipes: Sequence[Recipe], benchmarks: Sequence[Benchmark], say: Say
    ) -> None:
        self._config = config
        self._recipes = recipes
        self._benchmarks = {benchmark.name: benchmark for benchmark in benchmarks}
        self._say = say
        self._shared: dict[int, Calibration] | None = None
        self._training_sets: dict[str, TrainingSet] = {}

    def of(self, number: int, network: Network) -> NetworkInputs:
        """Return network `number` of the study with its images; `VeriQuantError` where some are missing."""
        entry = self._config.networks[number]
        key = f"networks.{number}"
        benchmarks = self._tested_on(entry, f"{key}.benchmarks")
        training_set = self._trained_on(entry, benchmarks, f"{key}.training_set")
        if entry.calibration is not None:
            calibrations = self._calibrations(entry.calibration, benchmarks)
        else:
            if self._shared is None:
                self._shared = self._calibrations(self._config.calibration, list(self._benchmarks.values()))
            calibrations = self._shared
        calibration = entry.calibration or self._config.calibration
        return NetworkInputs(entry, network, benchmarks, calibration, calibrations, training_set)

    def _tested_on(self, entry: NetworkEntry, key: str) -> list[Benchmark]:
        if entry.benchmarks is None:
            return list(self._benchmarks.values())
        for name in entry.benchmarks:
            if name not in self._benchmarks:
                raise VeriQuantError(
                    f"key {key!r}: this study has no benchmark {name!r}; it has: {', '.join(self._benchmarks)}"
                )
        return [benchmark for name, benchmark in self._benchmarks.items() if name in entry.benchmarks]

    def _trained_on(self, entry: NetworkEntry, benchmarks: Sequence[Benchmark], key: str) -> TrainingSet | None:
        """Return the images with labels, where a recipe learns from them; none of them may be tested on."""
        learning = [recipe.name for recipe in self._recipes if recipe.labelled()]
        if not learning:
            return None
        text = entry.training_set or self._config.training_set
        if text is None:
            raise VeriQuantError(
                f"recipe {learning[0]!r} learns from images of people who are known: name them under the key "
                f"'training_set' of the study or of network {entry.name or entry.source!r}"
            )
        if text not in self._training_sets:
            self._say(f"reading {text}")
            self._training_sets[text] = load_training_set(text)
            self._say(f"training set: {self._training_sets[text].note}")
        training_set = self._training_sets[text]
        for benchmark in benchmarks:
            refuse_tested(key if entry.training_set else "training_set", training_set, benchmark)
        return training_set

    def _calibrations(self, entry: CalibrationEntry | None, benchmarks: Sequence[Benchmark]) -> dict[int, Calibration]:
        """Choose the unlabelled images, a set for every number of them that a recipe asks for."""
        asking = {r.name: calibration_images(r, entry) for r in self._recipes if r.calibration_images()}
        if not asking:
            return {}
        if entry is None:
            raise VeriQuantError(
                f"recipe {next(iter(asking))!r} needs calibration images: name a folder of any unlabelled images under "
                "the key 'calibration' of the study"
            )
        seed = self._config.seed if entry.seed is None else entry.seed
        exclude = files_tested(benchmarks) if entry.exclude_benchmark else set()
        found = {}
        for wanted in set(asking.values()):
            found[wanted] = calibration_set(entry.source, wanted, seed, exclude)
            self._say(f"calibration: {found[wanted].note}")
        return found
