"""What a study comes to: from artefacts, figures and times to the records of a `StudyResult`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from veriquant.benchmarks import Benchmark
from veriquant.data.calibration import Calibration
from veriquant.deploy import machine, versions
from veriquant.evaluation import BATCH
from veriquant.onnxgraph import inspect_onnx
from veriquant.results import Allocation, Latency, Layer, NetworkStudy, StudyResult, Variant
from veriquant.study.artefacts import Artefact
from veriquant.study.context import Context
from veriquant.study.entries import CalibrationEntry
from veriquant.study.figures import Figures
from veriquant.study.inputs import Inputs, NetworkInputs
from veriquant.study.train_test_overlap import left_out, none_trained_on

_ONE_AT_A_TIME = "its activation ranges depend on what else is in a batch: it was evaluated one image at a time"


@dataclass
class Tested:
    """A network under a recipe and all that was found out about it."""

    artefact: Artefact
    figures: dict[str, Figures]
    """By benchmark."""
    latency: list[Latency] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """One network of the study and its variants, the reference first."""

    inputs: NetworkInputs
    variants: list[Tested]


def study_result(
    context: Context, inputs: Inputs, subjects: Sequence[Subject], verdict_metric: str, *, started: str, command: str
) -> StudyResult:
    """Return the record of a whole study."""
    return StudyResult(
        title=context.config.title or "VeriQuant study",
        synthetic=any(benchmark.synthetic for benchmark in inputs.benchmarks),
        networks=[_network(context, inputs, subject) for subject in subjects],
        calibration=_calibration(context, inputs),
        settings=_settings(context, verdict_metric),
        machine=machine(),
        versions=versions(),
        started=started,
        seconds=context.seconds,
        command=command,
    )


def _settings(context: Context, verdict_metric: str) -> dict[str, Any]:
    config = context.config
    settings: dict[str, Any] = {
        "seed": config.seed,
        "flip": config.flip,
        "runtime": config.runtime,
        "threads": config.threads,
        "batch_size": config.batch_size or BATCH,
        "far": list(config.far),
        "verdict_metric": verdict_metric,
        "margin": config.margin,
        "compatibility_far": config.compatibility_far,
        "resamples": config.resamples,
        "resampled": "people",
    }
    if config.latency is not None:
        settings["latency"] = {"batches": list(config.latency.batches), "rounds": config.latency.rounds}
    if notes := [*context.notes, *context.store.notes]:
        settings["notes"] = notes
    return settings


def _network(context: Context, inputs: Inputs, subject: Subject) -> NetworkStudy:
    network = subject.inputs.network
    info = inspect_onnx(network.onnx)
    return NetworkStudy(
        name=network.name,
        source=network.source,
        dim=network.dim,
        parameters=info.parameters,
        learned=info.learned,
        macs=info.macs,
        input=network.spec.model_dump(mode="json"),
        trained_on=_trained_on(subject.inputs),
        variants=[
            _variant(context, inputs, variant, reference=number == 0) for number, variant in enumerate(subject.variants)
        ],
    )


def _variant(context: Context, inputs: Inputs, variant: Tested, *, reference: bool) -> Variant:
    artefact = variant.artefact
    recipe, facts = artefact.recipe, artefact.entry.facts
    compared = {name: each.comparison for name, each in variant.figures.items() if each.comparison is not None}
    return Variant(
        name=recipe.name,
        recipe=inputs.written.get(recipe.name, recipe.name),
        recipe_settings=recipe.settings(),
        reference=reference,
        runtime=artefact.runtime,
        size_bytes=artefact.path.stat().st_size,
        artefact=artefact.path.relative_to(context.folder).as_posix(),
        digest=artefact.entry.digest,
        average_bits=facts["average_bits"],
        iteration=facts["iteration"],
        layers=[Layer.model_validate(layer) for layer in facts["layers"]],
        notes=[*facts["notes"], *([_ONE_AT_A_TIME] if artefact.one_at_a_time else [])],
        allocation=None if facts["allocation"] is None else Allocation.model_validate(facts["allocation"]),
        latency=variant.latency,
        evaluations={name: each.evaluation for name, each in variant.figures.items()},
        differences={name: each.differences for name, each in compared.items()},
        compatibility={name: each.compatibility for name, each in compared.items()},
    )


def _trained_on(inputs: NetworkInputs) -> dict[str, Any]:
    """Return what is the network's own: its training set, and its calibration where that is not the study's."""
    found: dict[str, Any] = {}
    if (training_set := inputs.training_set) is not None:
        found["training set"] = {
            "source": training_set.source,
            "note": training_set.note,
            "images of benchmarks": none_trained_on(training_set, inputs.benchmarks),
            "digest": training_set.digest,
        }
    if inputs.entry.calibration is not None and inputs.calibrations:
        found["calibration"] = _chosen(inputs.entry.calibration, inputs.calibrations, inputs.benchmarks)
    return found


def _calibration(context: Context, inputs: Inputs) -> dict[str, Any]:
    """Return the calibration images that networks without their own share."""
    entry = context.config.calibration
    shared = next((each.calibrations for each in inputs.networks if each.entry.calibration is None), {})
    return _chosen(entry, shared, inputs.benchmarks) if shared and entry is not None else {}


def _chosen(
    entry: CalibrationEntry, calibrations: Mapping[int, Calibration], benchmarks: Sequence[Benchmark]
) -> dict[str, Any]:
    sets = [calibrations[wanted] for wanted in sorted(calibrations, reverse=True)]
    largest = sets[0]
    return {
        "source": largest.source,
        "images": len(largest.samples),
        "seed": largest.seed,
        "digest": largest.digest,
        "images of benchmarks": left_out(largest.samples, benchmarks)
        if entry.exclude_benchmark
        else "may be among them",
        "choice": [each.note for each in sets],
    }
