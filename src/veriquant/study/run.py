"""`run_study`: every network under every recipe on every benchmark, nothing computed twice."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.checks import explain
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.deploy import (
    RUNTIMES,
    Embedder,
    choose_runtime,
    instruction_sets,
    machine,
    measure_latency,
    open_embedder,
    versions,
)
from veriquant.deploy.embedder import Embeddings
from veriquant.errors import VeriQuantError
from veriquant.evaluation import BATCH, Embedded, assess, compare, embed
from veriquant.evaluation.evaluate import describe_benchmark, describe_network, independent_batch
from veriquant.evaluation.judge import Judge
from veriquant.files import atomic_path, code_digest, write_json
from veriquant.frontends.images import FrontEndStats
from veriquant.metrics import Options
from veriquant.metrics.difference import margin_of
from veriquant.networks import Network, load_network
from veriquant.networks.network import network_digest
from veriquant.onnxgraph import inspect_onnx
from veriquant.progress import bar
from veriquant.quantization import Target
from veriquant.recipes import Recipe, load_recipe
from veriquant.results import (
    Allocation,
    Compatibility,
    Difference,
    Evaluation,
    Latency,
    Layer,
    NetworkStudy,
    StudyResult,
    Variant,
)
from veriquant.study.config import StudyConfig, duplicates, file_name, input_spec, load_study
from veriquant.study.store import Entry, Store, locked
from veriquant.study.units import Say, Units, to_stderr

#: The recipe that leaves a network as it is: what all others are compared with.
REFERENCE = "fp32"
#: Images whose embeddings are kept at a time, so that a kill costs seconds and not a whole benchmark.
BLOCK = 1024
_RESULTS = "results.json"
#: The rooms whose source decides what an artefact is.
_MAKES_ARTEFACTS = (
    "quantization", "recovery", "allocation", "simulation", "schemes", "onnxgraph", "recipes", "networks", "frontends",
    "deploy", "results.py",
)  # fmt: skip


def run_study(
    study: str | os.PathLike[str] | StudyConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    say: Say | None = None,
    command: str = "",
) -> StudyResult:
    """Run a study, from a YAML file or a checked configuration, and write ``results.json`` and the files it made.

    Everything computed is kept in ``<out>/store`` under the hash of what it was computed from, and used again by the
    next run, also after a kill. `say` gets a line for every finished unit (by default on stderr). Where something goes
    wrong `VeriQuantError` tells what; all that was finished before is kept.
    """
    config = study if isinstance(study, StudyConfig) else load_study(study)
    folder = output_folder(config, None if isinstance(study, StudyConfig) else study, out)
    with locked(folder):
        return _Run(config, folder, say or to_stderr).run(command)


def output_folder(
    config: StudyConfig, path: str | os.PathLike[str] | None, out: str | os.PathLike[str] | None = None
) -> Path:
    """Return where the results go: `out`, or what the study says, or ``out/<name of the file>``."""
    if out is not None:
        return Path(out)
    return Path(config.out) if config.out else Path("out") / (Path(path).stem if path is not None else "study")


def read_result(folder: str | os.PathLike[str]) -> StudyResult:
    """Return the results that a study left in `folder`."""
    path = Path(folder) / _RESULTS
    try:
        return StudyResult.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise VeriQuantError(f"there are no results in {folder}: run the study first, without --report-only") from error
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise VeriQuantError(f"{path} is damaged or of another version ({explain(error)}); run it again") from error


@dataclass
class _Artefact:
    """A network under a recipe, in the store and beside the results."""

    recipe: Recipe
    entry: Entry
    network: Network
    path: Path
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    embeddings: dict[str, tuple[str, Embeddings]] = field(default_factory=dict)
    """By benchmark: the digest of the embeddings, and they themselves; let go once a network is done."""
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    compatibility: dict[str, Compatibility] = field(default_factory=dict)
    latency: list[Latency] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Subject:
    """One network of the study, the runtime chosen for it, and its variants."""

    network: Network
    runtime: str
    variants: list[_Artefact]


class _Run:
    def __init__(self, config: StudyConfig, folder: Path, say: Say) -> None:
        self.config = config
        self.folder = folder
        self.store = Store(folder / "store")
        self.say = say
        self.notes: list[str] = []
        self.seconds = 0.0
        self.options = Options(far=config.far, resamples=config.resamples, seed=config.seed)
        self.sets: dict[int, Calibration] = {}
        self.verdict_metric = config.verdict_metric
        self.per_image: list[float] = []
        """Seconds in the runtime for an image, of every variant so far: from it follows how long latency will take."""
        self.written: dict[str, str] = {}
        """By a recipe's name in this study: what the study calls it by."""

    def run(self, command: str) -> StudyResult:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        if self.config.runtime != "auto":
            self._check_runtime(self.config.runtime)
        recipes = self._recipes()
        benchmarks = self._benchmarks()
        networks = self._networks()
        names = [file_name(f"{network.name}-{recipe.name}") for network in networks for recipe in recipes]
        if twice := duplicates(names):
            raise VeriQuantError(f"two variants would be written to artefacts/{twice[0]}.onnx; give them other names")
        self._load_calibrations(recipes, benchmarks)
        pairs = len(networks) * len(recipes)
        planned = Counter({"network": pairs, "embeddings": pairs * len(benchmarks), "figures": pairs * len(benchmarks)})
        if self.config.latency is not None:
            planned["latency"] = len(networks)
        self.units = Units(planned, self.say)
        subjects = [self._subject(network, recipes, benchmarks) for network in networks]
        if self.config.latency is not None:
            for subject in subjects:
                self._latency(subject)
        result = self._result(subjects, benchmarks, started, command)
        write_json(self.folder / _RESULTS, result.model_dump(mode="json"))
        return result

    # ------------------------------------------------------------------------------------------------- what is asked

    @staticmethod
    def _check_runtime(runtime: str) -> None:
        RUNTIMES.get(runtime)
        if runtime == "pytorch":
            raise VeriQuantError(
                "runtime 'pytorch' cannot run quantized networks, which are ONNX files; choose onnxruntime or openvino"
            )

    def _recipes(self) -> list[Recipe]:
        recipes = []
        for entry in self.config.recipes:
            recipes.append(load_recipe(entry.recipe, name=entry.name, overrides=entry.settings))
            self.written.setdefault(recipes[-1].name, entry.recipe)
        if twice := duplicates(recipe.name for recipe in recipes):
            raise VeriQuantError(f"two recipes are called {twice[0]!r}: give one of them another name in the study")
        reference = next((recipe for recipe in recipes if _untouched(recipe)), None) or load_recipe(REFERENCE)
        others = [recipe for recipe in recipes if recipe is not reference]
        if twice := [recipe.name for recipe in others if recipe.name == reference.name]:
            raise VeriQuantError(f"the name {twice[0]!r} is the reference's: give the recipe another name in the study")
        return [reference, *others]

    def _benchmarks(self) -> list[Benchmark]:
        found = []
        for entry in self.config.benchmarks:
            self.say(f"reading {entry.source}")
            benchmark = load_benchmark(entry.source, allow_missing=entry.allow_missing)
            if entry.name:
                benchmark = replace(benchmark, name=entry.name)
            if benchmark.skipped:
                shown = ", ".join(benchmark.skipped[:3]) + (", …" if len(benchmark.skipped) > 3 else "")
                self.say(f"{benchmark.name}: {len(benchmark.skipped)} samples skipped: {shown}")
            found.append(benchmark)
        if twice := duplicates(benchmark.name for benchmark in found):
            raise VeriQuantError(f"two benchmarks are called {twice[0]!r}: give each a name of its own in the study")
        return found

    def _networks(self) -> list[Network]:
        found = []
        for entry in self.config.networks:
            self.say(f"loading {entry.source}")
            network = load_network(entry.source, input_spec(entry.input))
            found.append(replace(network, name=entry.name) if entry.name else network)
        if twice := duplicates(network.name for network in found):
            raise VeriQuantError(f"two networks are called {twice[0]!r}: give each a name of its own in the study")
        return found

    def _load_calibrations(self, recipes: Sequence[Recipe], benchmarks: Sequence[Benchmark]) -> None:
        """Choose the images, a set for every number of them that a recipe asks for."""
        asking = {recipe.name: recipe.calibration_images() for recipe in recipes if recipe.calibration_images()}
        if not asking:
            return
        entry = self.config.calibration
        if entry is None:
            raise VeriQuantError(
                f"recipe {next(iter(asking))!r} needs calibration images: name a folder of any unlabelled images under "
                "the key 'calibration' of the study"
            )
        seed = self.config.seed if entry.seed is None else entry.seed
        exclude = {sample.path for b in benchmarks for sample in b.samples if sample.path is not None}
        for wanted in {entry.images or images for images in asking.values()}:
            self.sets[wanted] = calibration_set(
                entry.source, wanted, seed, exclude if entry.exclude_benchmark else frozenset()
            )
            self.say(f"calibration: {self.sets[wanted].note}")

    def _calibration_for(self, recipe: Recipe) -> Calibration | None:
        wanted = recipe.calibration_images()
        if not wanted or self.config.calibration is None:
            return None
        return self.sets[self.config.calibration.images or wanted]

    # --------------------------------------------------------------------------------------------------- one network

    def _subject(self, network: Network, recipes: Sequence[Recipe], benchmarks: Sequence[Benchmark]) -> _Subject:
        with _told(network.name):
            runtime = self._runtime(network)
        variants: list[_Artefact] = []
        for recipe in recipes:
            with _told(network.name, recipe.name):
                variant = self._artefact(network, recipe, runtime, benchmarks[0] if recipe.judged() else None)
                for benchmark in benchmarks:
                    self._evaluate(variant, benchmark, runtime, variants[0] if variants else None)
            if not variants:
                self._choose_verdict_metric(variant)
            else:
                variant.embeddings.clear()
            variants.append(variant)
        variants[0].embeddings.clear()
        return _Subject(network, runtime, variants)

    def _runtime(self, network: Network) -> str:
        if self.config.runtime != "auto":
            return self.config.runtime
        key = {
            "network": network.digest, "threads": self.config.threads, "machine": machine(), "versions": versions(),
            "code": code_digest("deploy"),
        }  # fmt: skip
        entry = self.store.get("runtime", key, "data")
        if entry is None:
            choice = choose_runtime(network.onnx, network.spec, threads=self.config.threads)
            entry = self.store.put_json("runtime", key, {"runtime": choice.runtime, "sentence": choice.sentence}, {})
        chosen: dict[str, str] = entry.json()
        self.units.note(f"{network.name}: {chosen['sentence']}")
        self.notes.append(f"{network.name}: {chosen['sentence']}")
        return chosen["runtime"]

    def _artefact(self, network: Network, recipe: Recipe, runtime: str, judged: Benchmark | None) -> _Artefact:
        """Return a network under a recipe; `judged` is the benchmark that a recipe with a task budget looks at."""
        calibration = self._calibration_for(recipe)
        key = {
            "network": network.digest,
            "method": recipe.method,
            "settings": recipe.resolved().model_dump(mode="json"),
            "calibration": None if calibration is None else calibration.digest,
            "target": [runtime, self.config.threads],
            "judged": None if judged is None else [judged.digest, self.config.flip],
            "instruction_sets": list(instruction_sets()),
            "code": code_digest(*_MAKES_ARTEFACTS),
            "versions": versions(),
        }
        what = f"{network.name} · {recipe.name}"
        entry, seconds = self.store.get("artefacts", key, "onnx"), None
        if entry is None:
            start = time.perf_counter()
            judge = None if judged is None else Judge(judged, flip=self.config.flip)
            made = recipe.apply(network, calibration, Target(runtime, self.config.threads, judge))
            seconds = time.perf_counter() - start
            facts = {
                "layers": [layer.model_dump(mode="json") for layer in made.layers],
                "notes": made.notes + ([] if judged is None else [_looked_at(judged)]),
                "plan": None if made.plan is None else made.plan.model_dump(mode="json", exclude_none=True),
                "allocation": None if made.allocation is None else made.allocation.model_dump(mode="json"),
                "seconds": seconds,
            }
            entry = self.store.put("artefacts", key, "onnx", made.onnx, facts)
        self.seconds += entry.facts["seconds"]
        path = self.folder / "artefacts" / f"{file_name(f'{network.name}-{recipe.name}')}.onnx"
        _place(self.store.path("artefacts", key, "onnx"), path, entry.content)
        if entry.facts["plan"] is not None:
            write_json(path.with_suffix(".plan.json"), entry.facts["plan"])
        variant = replace(network, onnx=entry.content, digest=network_digest(entry.content, network.spec), module=None)
        self.units.finished("network", f"{what}, {len(entry.content) / 1e6:.2f} MB", seconds)
        return _Artefact(recipe, entry, variant, path)

    def _evaluate(self, variant: _Artefact, benchmark: Benchmark, runtime: str, reference: _Artefact | None) -> None:
        what = f"{variant.network.name} · {variant.recipe.name} · {benchmark.name}"
        digest, embedded = self._embeddings(variant, benchmark, runtime, what)
        variant.embeddings[benchmark.name] = digest, embedded.embeddings
        start, computed = time.perf_counter(), False
        described = describe_network(variant.network, runtime=runtime, threads=self.config.threads)
        code = code_digest("metrics", "evaluation", "results.py")
        key: dict[str, Any] = {
            "embeddings": digest, "benchmark": benchmark.digest, "options": asdict(self.options), "code": code,
            "numpy": np.__version__,
        }  # fmt: skip
        entry = self.store.get("figures", key, "data")
        if entry is None:
            computed = True
            found = assess(described, benchmark, embedded, self.options)
            facts = {"seconds": time.perf_counter() - start}
            entry = self.store.put_json("figures", key, found.model_dump(mode="json"), facts)
        self.seconds += entry.facts["seconds"]
        # names, sources and times are this run's: renaming a network is no reason to compute it again
        evaluation = Evaluation.model_validate(entry.json())
        fresh = {
            "network": described,
            "benchmark": describe_benchmark(benchmark),
            "timing": {
                "seconds_total": embedded.seconds_total,
                "seconds_runtime": embedded.seconds_runtime,
                "images_per_second": len(embedded.embeddings) / embedded.seconds_total,
            },
        }
        variant.evaluations[benchmark.name] = evaluation.model_copy(update=fresh)
        if reference is not None:
            computed |= self._compare(variant, reference, benchmark, digest, code)
        self.units.finished("figures", what, time.perf_counter() - start if computed else None)

    def _compare(self, variant: _Artefact, reference: _Artefact, benchmark: Benchmark, digest: str, code: str) -> bool:
        config = self.config
        reference_digest, reference_embeddings = reference.embeddings[benchmark.name]
        names = (reference.recipe.name, variant.recipe.name)
        far = config.compatibility_far
        key = {
            "reference": reference_digest, "variant": digest, "benchmark": benchmark.digest, "names": list(names),
            "options": asdict(self.options), "margins": config.margins, "far": far, "code": code,
            "numpy": np.__version__,
        }  # fmt: skip
        entry = self.store.get("comparisons", key, "data")
        computed = entry is None
        if entry is None:
            start = time.perf_counter()
            found = compare(
                benchmark,
                reference_embeddings,
                variant.embeddings[benchmark.name][1],
                self.options,
                margins=config.margins,
                far=far,
                margin=margin_of("tar", config.margins),
                names=names,
            )
            content = {
                "differences": [difference.model_dump(mode="json") for difference in found.differences],
                "compatibility": found.compatibility.model_dump(mode="json"),
            }
            entry = self.store.put_json("comparisons", key, content, {"seconds": time.perf_counter() - start})
        self.seconds += entry.facts["seconds"]
        content = entry.json()
        variant.differences[benchmark.name] = [Difference.model_validate(each) for each in content["differences"]]
        variant.compatibility[benchmark.name] = Compatibility.model_validate(content["compatibility"])
        return computed

    def _choose_verdict_metric(self, reference: _Artefact) -> None:
        there = {name: metric for each in reference.evaluations.values() for name, metric in each.metrics.items()}
        wanted = self.config.verdict_metric
        if wanted is None:
            supported = [name for name, metric in there.items() if name.startswith("tar") and metric.support == "ok"]
            wanted = "accuracy" if "accuracy" in there else supported[-1] if supported else "eer"
        self.verdict_metric = wanted
        if wanted not in there:
            raise VeriQuantError(
                f"key 'verdict_metric': no benchmark of this study gives {wanted!r}; there are: {', '.join(there)}"
            )

    # ---------------------------------------------------------------------------------------------------- embeddings

    def _embeddings(self, variant: _Artefact, benchmark: Benchmark, runtime: str, what: str) -> tuple[str, Embedded]:
        """Return the embeddings of a benchmark's images, block by block from the store or computed."""
        network = variant.network
        alone = independent_batch(network.onnx)
        size = 1 if alone else self.config.batch_size or BATCH
        if alone:
            note = "its activation ranges depend on what else is in a batch: it was evaluated one image at a time"
            if note not in variant.notes:
                variant.notes.append(note)
        key: dict[str, Any] = {
            "artefact": network.digest,
            "benchmark": benchmark.digest,
            "flip": self.config.flip,
            "runtime": [runtime, self.config.threads],
            "batch_size": size,
            "instruction_sets": list(instruction_sets()),
            "code": code_digest("frontends", "deploy", "evaluation/embedding.py"),
            "versions": versions(),
        }
        entry, seconds = self.store.get("embeddings", key, "npy"), None
        if entry is None:
            entry, seconds = self._compute_embeddings(network, benchmark, runtime, size, key, what)
        self.seconds += entry.facts["seconds_total"]
        stats = FrontEndStats(**{**entry.facts["stats"], "sizes": Counter()})
        for height, width, count in entry.facts["stats"]["sizes"]:
            stats.sizes[height, width] = count
        embedded = Embedded(
            entry.array(), entry.facts["seconds_total"], entry.facts["seconds_runtime"], entry.facts["batch_size"],
            self.config.flip, stats,
        )  # fmt: skip
        self.per_image.append(embedded.seconds_runtime / len(embedded.embeddings) / (1 + self.config.flip))
        if (wanted := self.config.latency) is not None:
            calls = (wanted.rounds + 3) * sum(wanted.batches) * len(self.config.recipes)
            self.units.expect("latency", calls * sum(self.per_image) / len(self.per_image))
        self.units.finished("embeddings", f"{what}, {len(benchmark.samples)} images", seconds)
        return entry.digest, embedded

    def _compute_embeddings(
        self, network: Network, benchmark: Benchmark, runtime: str, size: int, key: dict[str, Any], what: str
    ) -> tuple[Entry, float]:
        begun = time.perf_counter()
        embedder: Embedder | None = None
        parts: list[Entry] = []
        keys: list[dict[str, Any]] = []
        samples = benchmark.samples
        with bar(what, len(samples)) as advance:
            for start in range(0, len(samples), BLOCK):
                chosen = samples[start : start + BLOCK]
                keys.append({**key, "block": start, "length": len(chosen)})
                part = self.store.get("blocks", keys[-1], "npy")
                if part is None:
                    if embedder is None:
                        embedder = open_embedder(
                            network.onnx, network.spec, runtime=runtime, threads=self.config.threads
                        )
                    found = embed(chosen, embedder, flip=self.config.flip, batch_size=size, progress=advance)
                    part = self.store.put_array("blocks", keys[-1], found.embeddings, _facts(found))
                else:
                    advance(len(chosen))
                parts.append(part)
        whole = np.concatenate([part.array() for part in parts])
        stats = {
            name: sum(part.facts["stats"][name] for part in parts)
            for name in ("images", "resized", "rotated", "converted")
        }
        sizes: Counter[tuple[int, int]] = Counter()
        for part in parts:
            for height, width, count in part.facts["stats"]["sizes"]:
                sizes[height, width] += count
        facts = {
            "seconds_total": sum(part.facts["seconds_total"] for part in parts),
            "seconds_runtime": sum(part.facts["seconds_runtime"] for part in parts),
            "batch_size": parts[0].facts["batch_size"],
            "stats": {**stats, "sizes": [[height, width, count] for (height, width), count in sizes.items()]},
        }
        entry = self.store.put_array("embeddings", key, whole, facts)
        for block in keys:
            self.store.drop("blocks", block, "npy")
        return entry, time.perf_counter() - begun

    # ------------------------------------------------------------------------------------------------------- latency

    def _latency(self, subject: _Subject) -> None:
        """Time all variants of a network in turn; kept for this very machine only."""
        wanted = self.config.latency
        assert wanted is not None
        key = {
            "variants": [variant.network.digest for variant in subject.variants],
            "runtime": [subject.runtime, self.config.threads],
            "batches": list(wanted.batches),
            "rounds": wanted.rounds,
            "seed": self.config.seed,
            "machine": machine(),
            "code": code_digest("deploy", "results.py"),
            "versions": versions(),
        }
        entry, seconds = self.store.get("latency", key, "data"), None
        if entry is None:
            start = time.perf_counter()
            with _told(subject.network.name, "latency"):
                embedders = {
                    variant.recipe.name: open_embedder(
                        variant.network.onnx, variant.network.spec, runtime=subject.runtime, threads=self.config.threads
                    )
                    for variant in subject.variants
                }
                found = measure_latency(
                    embedders,
                    reference=subject.variants[0].recipe.name,
                    batches=wanted.batches,
                    rounds=wanted.rounds,
                    seed=self.config.seed,
                )
            seconds = time.perf_counter() - start
            content = [[each.model_dump(mode="json") for each in found[v.recipe.name]] for v in subject.variants]
            entry = self.store.put_json("latency", key, content, {"seconds": seconds})
        self.seconds += entry.facts["seconds"]
        for variant, measured in zip(subject.variants, entry.json(), strict=True):
            variant.latency = [Latency.model_validate(each) for each in measured]
        self.units.finished("latency", f"{subject.network.name}, {len(subject.variants)} variants in turn", seconds)

    # -------------------------------------------------------------------------------------------------------- result

    def _result(
        self, subjects: Sequence[_Subject], benchmarks: Sequence[Benchmark], started: str, command: str
    ) -> StudyResult:
        config = self.config
        settings: dict[str, Any] = {
            "seed": config.seed,
            "flip": config.flip,
            "runtime": config.runtime,
            "threads": config.threads,
            "batch_size": config.batch_size or BATCH,
            "far": list(config.far),
            "verdict_metric": self.verdict_metric,
            "margin": config.margin,
            "compatibility_far": config.compatibility_far,
            "resamples": config.resamples,
            "resampled": "people",
        }
        if config.latency is not None:
            settings["latency"] = {"batches": list(config.latency.batches), "rounds": config.latency.rounds}
        if notes := [*self.notes, *self.store.notes]:
            settings["notes"] = notes
        return StudyResult(
            title=config.title or "VeriQuant study",
            synthetic=any(benchmark.synthetic for benchmark in benchmarks),
            networks=[self._network_result(subject) for subject in subjects],
            calibration=self._calibration_result(),
            settings=settings,
            machine=machine(),
            versions=versions(),
            started=started,
            seconds=self.seconds,
            command=command,
        )

    def _network_result(self, subject: _Subject) -> NetworkStudy:
        network = subject.network
        info = inspect_onnx(network.onnx)
        return NetworkStudy(
            name=network.name,
            source=network.source,
            dim=network.dim,
            parameters=info.parameters,
            macs=info.macs,
            input=network.spec.model_dump(mode="json"),
            variants=[
                self._variant_result(variant, subject.runtime, reference=number == 0)
                for number, variant in enumerate(subject.variants)
            ],
        )

    def _variant_result(self, variant: _Artefact, runtime: str, *, reference: bool) -> Variant:
        facts = variant.entry.facts
        return Variant(
            name=variant.recipe.name,
            recipe=self.written.get(variant.recipe.name, variant.recipe.name),
            recipe_settings=variant.recipe.resolved().model_dump(mode="json"),
            reference=reference,
            runtime=runtime,
            size_bytes=variant.path.stat().st_size,
            artefact=variant.path.relative_to(self.folder).as_posix(),
            digest=variant.entry.digest,
            layers=[Layer.model_validate(layer) for layer in facts["layers"]],
            notes=[*facts["notes"], *variant.notes],
            allocation=None if facts["allocation"] is None else Allocation.model_validate(facts["allocation"]),
            latency=variant.latency,
            evaluations=variant.evaluations,
            differences=variant.differences,
            compatibility=variant.compatibility,
        )

    def _calibration_result(self) -> dict[str, Any]:
        if not self.sets or self.config.calibration is None:
            return {}
        sets = [self.sets[wanted] for wanted in sorted(self.sets, reverse=True)]
        largest = sets[0]
        return {
            "source": largest.source,
            "images": len(largest.samples),
            "seed": largest.seed,
            "digest": largest.digest,
            "images of benchmarks": "left out" if self.config.calibration.exclude_benchmark else "may be among them",
            "choice": [each.note for each in sets],
        }


def calibration_set(
    source: str, images: int, seed: int, exclude: frozenset[Path] | set[Path] = frozenset()
) -> Calibration:
    """Return calibration images from a folder, or the demo's own for ``demo:``."""
    if source in ("demo", "demo:"):
        from veriquant.benchmarks.synthetic import demo_calibration

        return demo_calibration(images, seed)
    return load_calibration(source, images, seed, exclude)


def _untouched(recipe: Recipe) -> bool:
    reference = load_recipe(REFERENCE)
    return recipe.method == reference.method and recipe.resolved() == reference.resolved()


def _looked_at(benchmark: Benchmark) -> str:
    return f"its widths were chosen by its figures on {benchmark.name}, which are then not those of unseen data"


def _facts(found: Embedded) -> dict[str, Any]:
    stats = found.stats
    return {
        "seconds_total": found.seconds_total,
        "seconds_runtime": found.seconds_runtime,
        "batch_size": found.batch_size,
        "stats": {
            "images": stats.images,
            "resized": stats.resized,
            "rotated": stats.rotated,
            "converted": stats.converted,
            "sizes": [[height, width, count] for (height, width), count in stats.sizes.items()],
        },
    }


def _place(stored: Path, final: Path, content: bytes) -> None:
    """Put a stored file where the user looks for it, without holding it twice where the file system allows that."""
    with atomic_path(final) as temporary:
        temporary.unlink()
        try:
            os.link(stored, temporary)
        except OSError:
            temporary.write_bytes(content)


@contextmanager
def _told(*names: str) -> Iterator[None]:
    """Add to an error where in the study it came up, and that nothing is lost."""
    try:
        yield
    except VeriQuantError as error:
        raise VeriQuantError(
            f"{error} (at {' · '.join(names)}; what is done so far is kept, the same command goes on from there)"
        ) from error
