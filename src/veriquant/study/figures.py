"""The figures of one variant on one benchmark: its own, and how it compares with the reference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from veriquant.benchmarks import Benchmark
from veriquant.code_digest import import_digest
from veriquant.errors import VeriQuantError
from veriquant.evaluation import assess, compare
from veriquant.evaluation.evaluate import Comparison, count_comparisons, describe_benchmark, describe_network
from veriquant.metrics import Options
from veriquant.metrics.difference import margin_of
from veriquant.results import Compatibility, Difference, Evaluation
from veriquant.study.artefacts import Artefact
from veriquant.study.config import StudyConfig
from veriquant.study.context import Context
from veriquant.study.embeddings import VariantEmbeddings
from veriquant.study.store import Entry


@dataclass(frozen=True)
class Figures:
    """What one variant does on one benchmark."""

    evaluation: Evaluation
    comparison: Comparison | None
    """With the reference; None for the reference itself."""


def figures_of(
    context: Context,
    artefact: Artefact,
    benchmark: Benchmark,
    embeddings: VariantEmbeddings,
    reference: VariantEmbeddings | None,
) -> Figures:
    """Return what the embeddings of a variant are worth, alone and, where it has one, against its reference."""
    start = time.perf_counter()
    evaluation, computed = _evaluation(context, artefact, benchmark, embeddings)
    comparison = None
    if reference is not None:
        comparison, compared = _comparison(context, benchmark, embeddings, reference)
        computed |= compared
    seconds = time.perf_counter() - start if computed else None
    context.units.finished("figures", f"{artefact.title} · {benchmark.name}", seconds)
    return Figures(evaluation, comparison)


def choose_verdict_metric(config: StudyConfig, references: Mapping[str, Sequence[Evaluation]]) -> str:
    """Return the metric that the recommendation rests on, one for all networks.

    `references`: by network what its reference is worth on each of its benchmarks. Raises `VeriQuantError` where the
    study names a metric that the benchmarks of a network do not give.
    """
    given = {
        network: {name: metric for each in found for name, metric in each.metrics.items()}
        for network, found in references.items()
    }
    first, *others = given.values()
    common = [name for name in first if all(name in metrics for metrics in others)]
    if config.verdict_metric is None:
        supported = [
            name for name in common if name.startswith("tar") and all(m[name].support == "ok" for m in given.values())
        ]
        return "accuracy" if "accuracy" in common else supported[-1] if supported else "eer"
    for network, metrics in given.items():
        if config.verdict_metric not in metrics:
            raise VeriQuantError(
                f"key 'verdict_metric': no benchmark of network {network!r} gives {config.verdict_metric!r}; all "
                f"networks have: {', '.join(common)}"
            )
    return config.verdict_metric


def _evaluation(
    context: Context, artefact: Artefact, benchmark: Benchmark, embeddings: VariantEmbeddings
) -> tuple[Evaluation, bool]:
    """Return the evaluation, and whether it had to be computed."""
    start = time.perf_counter()
    embedded = embeddings.embedded
    described = describe_network(artefact.network, runtime=artefact.runtime, threads=context.config.threads)
    key: dict[str, Any] = {
        "embeddings": embeddings.digest,
        "benchmark": benchmark.digest,
        **_how(context.config),
    }

    def check(kept: Entry) -> None:
        """Refuse figures of other comparisons, or of none."""
        told = Evaluation.model_validate(kept.json())
        kept.number("seconds")
        if told.comparisons != count_comparisons(benchmark) or not told.metrics:
            raise ValueError("figures of another benchmark")

    entry = context.store.get("figures", key, "data", check)
    computed = entry is None
    if entry is None:
        found = assess(described, benchmark, embedded, _options(context.config))
        facts = {"seconds": time.perf_counter() - start}
        entry = context.store.put_json("figures", key, found.model_dump(mode="json"), facts)
    context.took(entry)
    # names, sources and times are this run's: renaming a network is no reason to compute it again
    fresh = {
        "network": described,
        "benchmark": describe_benchmark(benchmark),
        "timing": {
            "seconds_total": embedded.seconds_total,
            "seconds_runtime": embedded.seconds_runtime,
            "images_per_second": len(embedded.embeddings) / embedded.seconds_total,
        },
    }
    return Evaluation.model_validate(entry.json()).model_copy(update=fresh), computed


def _comparison(
    context: Context, benchmark: Benchmark, variant: VariantEmbeddings, reference: VariantEmbeddings
) -> tuple[Comparison, bool]:
    """Return the comparison with the reference, and whether it had to be computed."""
    config = context.config
    names = (reference.variant, variant.variant)
    key: dict[str, Any] = {
        "reference": reference.digest,
        "variant": variant.digest,
        "benchmark": benchmark.digest,
        "names": list(names),
        "margins": config.margins,
        "far": config.compatibility_far,
        **_how(config),
    }

    def check(kept: Entry) -> None:
        kept.number("seconds")
        _compared(kept)

    entry = context.store.get("comparisons", key, "data", check)
    computed = entry is None
    if entry is None:
        start = time.perf_counter()
        found = compare(
            benchmark,
            reference.embedded.embeddings,
            variant.embedded.embeddings,
            _options(config),
            margins=config.margins,
            far=config.compatibility_far,
            margin=margin_of("tar", config.margins),
            names=names,
        )
        content = {
            "differences": [difference.model_dump(mode="json") for difference in found.differences],
            "compatibility": found.compatibility.model_dump(mode="json"),
        }
        entry = context.store.put_json("comparisons", key, content, {"seconds": time.perf_counter() - start})
    context.took(entry)
    return _compared(entry), computed


def _compared(entry: Entry) -> Comparison:
    content = entry.json()
    differences = [Difference.model_validate(each) for each in content["differences"]]
    return Comparison(differences, Compatibility.model_validate(content["compatibility"]))


def _options(config: StudyConfig) -> Options:
    return Options(far=config.far, resamples=config.resamples, seed=config.seed)


def _how(config: StudyConfig) -> dict[str, Any]:
    """Return what any figure depends on beside embeddings and benchmark."""
    return {
        "options": asdict(_options(config)),
        "code": import_digest("veriquant.metrics", "veriquant.evaluation", "veriquant.results"),
        "numpy": np.__version__,
    }
