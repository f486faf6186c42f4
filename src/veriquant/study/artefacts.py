"""A network under a recipe: the file, made or taken from the store, and put where the user looks for it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from veriquant.benchmarks import Benchmark
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.layer_records import mean_weight_bits
from veriquant.code_digest import import_digest
from veriquant.data.calibration import Calibration
from veriquant.data.training_set import TrainingSet
from veriquant.deploy import instruction_sets, versions
from veriquant.evaluation.evaluate import independent_batch
from veriquant.evaluation.judge import Judge
from veriquant.files import atomic_path, write_json
from veriquant.networks import Network
from veriquant.networks.network import network_digest
from veriquant.networks.onnx_file import network_of_onnx
from veriquant.recipes import Recipe
from veriquant.results import Allocation, Layer, Record, StageRecord
from veriquant.simulation import Plan
from veriquant.study.config import file_name
from veriquant.study.context import Context
from veriquant.study.store import Entry


@dataclass(frozen=True)
class Artefact:
    """A network under a recipe, in the store and beside the results."""

    recipe: Recipe
    entry: Entry
    network: Network
    """What the recipe made of the network, under the name of the one it was made from."""
    runtime: str
    """What it was made for, and is run in."""
    path: Path

    @property
    def title(self) -> str:
        """What the lines of a study call it."""
        return f"{self.network.name} · {self.recipe.name}"

    @property
    def one_at_a_time(self) -> bool:
        """Whether images must go through it one by one."""
        return independent_batch(self.network.onnx)


class Facts(Record):
    """What the store remembers beside an artefact, as the results take it over."""

    layers: list[Layer]
    metrics: list[StageRecord]
    notes: list[str]
    plan: Plan | None
    allocation: Allocation | None
    average_bits: float | None
    iteration: int | None
    seconds: float


def make_artefact(
    context: Context,
    network: Network,
    recipe: Recipe,
    runtime: str,
    calibration: Calibration | None,
    judged: Benchmark | None,
    training_set: TrainingSet | None = None,
) -> Artefact:
    """Return a network under a recipe.

    `judged` is the benchmark that a recipe with a task budget looks at, `training_set` the images of known people that
    one learns from; None where it does not.
    """
    config, store = context.config, context.store
    key = {
        "network": network.digest,
        "settings": recipe.settings(),
        "calibration": None if calibration is None else calibration.digest,
        "target": [runtime, config.threads],
        "judged": None if judged is None else [judged.digest, config.flip],
        "training_set": None if training_set is None else training_set.digest,
        "instruction_sets": list(instruction_sets()),
        "code": import_digest("veriquant.recipes", "veriquant.results"),
        "versions": versions(),
    }

    def check(kept: Entry) -> None:
        """Refuse what is no network of this kind, or says of itself what a result cannot hold."""
        Facts.model_validate(kept.facts)
        kept.number("seconds")
        found = network_of_onnx(kept.content, network.spec, name=network.name, source="the stored network")
        if found.dim != network.dim:
            raise ValueError(f"embeddings of {found.dim} numbers in place of {network.dim}")

    entry, seconds = store.get("artefacts", key, "onnx", check), None
    if entry is None:
        start = time.perf_counter()
        judge = None if judged is None else Judge(judged, flip=config.flip)
        target = QuantizationContext(runtime, config.threads, judge, training_set, say=context.units.note)
        made = recipe.apply(network, calibration, target)
        seconds = time.perf_counter() - start
        facts = {
            "layers": [layer.model_dump(mode="json") for layer in made.layers],
            "metrics": [record.model_dump(mode="json") for record in made.records],
            "notes": made.notes + ([] if judged is None else [_looked_at(judged)]),
            "plan": None if made.plan is None else made.plan.model_dump(mode="json", exclude_none=True),
            "allocation": None if made.allocation is None else made.allocation.model_dump(mode="json"),
            "average_bits": mean_weight_bits(made.layers) if made.average_bits is None else made.average_bits,
            "iteration": made.iteration,
            "seconds": seconds,
        }
        entry = store.put("artefacts", key, "onnx", made.onnx, facts)
    context.took(entry)
    path = context.folder / "artefacts" / f"{file_name(f'{network.name}-{recipe.name}')}.onnx"
    _place(store.path("artefacts", key, "onnx"), path, entry.content)
    if entry.facts["plan"] is not None:
        write_json(path.with_suffix(".plan.json"), entry.facts["plan"])
    variant = replace(network, onnx=entry.content, digest=network_digest(entry.content, network.spec), module=None)
    artefact = Artefact(recipe, entry, variant, runtime, path)
    context.units.finished("network", f"{artefact.title}, {len(entry.content) / 1e6:.2f} MB", seconds)
    return artefact


def _looked_at(benchmark: Benchmark) -> str:
    return f"its widths were chosen by its figures on {benchmark.name}, which are then not those of unseen data"


def _place(stored: Path, final: Path, content: bytes) -> None:
    """Put a stored file where the user looks for it, without holding it twice where the file system allows that."""
    with atomic_path(final) as temporary:
        temporary.unlink()
        try:
            os.link(stored, temporary)
        except OSError:
            temporary.write_bytes(content)
