"""From embeddings to an `Evaluation`, and what a variant loses against its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from veriquant.benchmarks.base import Benchmark
from veriquant.deploy.embedder import Embedder, Embeddings
from veriquant.deploy.environment import versions
from veriquant.deploy.runtimes import open_embedder
from veriquant.evaluation.embedding import Embedded, embed
from veriquant.metrics import Options, Protocol, compatibility, differences, verify
from veriquant.networks.network import Network
from veriquant.progress import Advance
from veriquant.results import Compatibility, Difference, Evaluation


def protocol_of(benchmark: Benchmark) -> Protocol:
    """Return what the metrics need of a benchmark."""
    return Protocol(
        persons=benchmark.persons,
        left=benchmark.left,
        right=benchmark.right,
        genuine=benchmark.genuine,
        folds=benchmark.folds,
        all_pairs=benchmark.all_pairs,
        search=benchmark.search,
    )


def options_for(benchmark: Benchmark, options: Options) -> Options:
    """Return `options` with the operating points that the benchmark's source reports, where it has its own."""
    return replace(options, far=benchmark.far) if benchmark.far else options


def evaluate(
    network: Network,
    benchmark: Benchmark,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    flip: bool = False,
    options: Options | None = None,
    batch_size: int | None = None,
    embedder: Embedder | None = None,
    progress: Advance | None = None,
) -> Evaluation:
    """Run `network` over the images of `benchmark` and return every figure that the protocol supports.

    `flip` adds the mirror image's embedding. `embedder` is the network already loaded; without it, it is opened in
    `runtime` on `threads` threads. `progress` is called with the number of images after each batch. `batch_size` None
    takes a sensible one, which is 1 for a network whose embeddings depend on what else is in a batch. `options` None:
    the usual ones, at the benchmark's own operating points.
    """
    if embedder is None:
        embedder = open_embedder(network.onnx, network.spec, runtime=runtime, threads=threads, module=network.module)
    if batch_size is None and independent_batch(network.onnx):
        batch_size = 1
    embedded = embed(benchmark.samples, embedder, flip=flip, batch_size=batch_size, progress=progress)
    described = describe_network(network, runtime=embedder.runtime, threads=embedder.threads)
    return assess(described, benchmark, embedded, options or options_for(benchmark, Options()))


def independent_batch(onnx: bytes) -> bool:
    """Return whether images must go through one at a time for their embeddings to be independent of each other.

    Dynamic quantization takes the range of its activations from the whole batch, so that an image's embedding would
    depend on its neighbours. Operators stand by name in the file; a mere mention of the name costs time, never figures.
    """
    return b"DynamicQuantizeLinear" in onnx or b"DynamicQuantizeMatMul" in onnx


def describe_network(network: Network, *, runtime: str, threads: int) -> dict[str, Any]:
    """Return what an `Evaluation` says of the network that it ran."""
    described: dict[str, Any] = {
        "name": network.name,
        "source": network.source,
        "digest": network.digest,
        "dim": network.dim,
        "input": network.spec.model_dump(mode="json"),
        "size_bytes": len(network.onnx),
        "runtime": runtime,
        "threads": threads,
    }
    if network.notes:
        described["notes"] = list(network.notes)
    return described


def describe_benchmark(benchmark: Benchmark) -> dict[str, Any]:
    """Return what an `Evaluation` says of the benchmark."""
    return {
        "name": benchmark.name,
        "source": benchmark.source,
        "protocol": benchmark.protocol,
        "digest": benchmark.digest,
        "samples": len(benchmark.samples),
        "persons": len(np.unique(benchmark.persons)),
        "persons_known": benchmark.persons_known,
        "persons_note": benchmark.persons_note,
        "synthetic": benchmark.synthetic,
    }


def count_comparisons(benchmark: Benchmark) -> dict[str, int]:
    """Return the number of genuine, impostor and all comparisons, implied ones included."""
    if benchmark.all_pairs:
        counts = np.unique(benchmark.persons, return_counts=True)[1]
        genuine = int((counts * (counts - 1) // 2).sum())
        total = len(benchmark.persons) * (len(benchmark.persons) - 1) // 2
    else:
        genuine, total = int(benchmark.genuine.sum()), len(benchmark.genuine)
    return {"genuine": genuine, "impostor": total - genuine, "total": total}


def assess(described: Mapping[str, Any], benchmark: Benchmark, embedded: Embedded, options: Options) -> Evaluation:
    """Return the `Evaluation` of embeddings that are already there; `described` is what it says of the network."""
    answer = verify(protocol_of(benchmark), embedded.embeddings, options)
    settings: dict[str, Any] = {
        "flip": embedded.flip,
        "seed": options.seed,
        "resamples": options.resamples,
        "resampled": "people",
        "far": list(options.far),
        "batch_size": embedded.batch_size,
        "p_target": options.p_target,
        "c_miss": options.c_miss,
        "c_fa": options.c_fa,
    }
    if note := embedded.stats.note():
        settings["images"] = note
    return Evaluation(
        network=dict(described),
        benchmark=describe_benchmark(benchmark),
        comparisons=count_comparisons(benchmark),
        skipped=list(benchmark.skipped),
        metrics=answer.metrics,
        genuine=answer.genuine,
        impostor=answer.impostor,
        curve=answer.curve,
        settings=settings,
        versions=versions(),
        timing={
            "seconds_total": embedded.seconds_total,
            "seconds_runtime": embedded.seconds_runtime,
            "images_per_second": len(embedded.embeddings) / embedded.seconds_total,
        },
    )


@dataclass(frozen=True)
class Comparison:
    """A variant against its reference on one benchmark."""

    differences: list[Difference]
    compatibility: Compatibility


def compare(
    benchmark: Benchmark,
    reference: Embeddings,
    variant: Embeddings,
    options: Options,
    *,
    margins: Mapping[str, float],
    far: float,
    margin: float,
    names: tuple[str, str],
) -> Comparison:
    """Return the paired differences of a variant to its reference and whether their templates may be mixed.

    `margins` says, metric by metric, how much worse still counts as no worse; `far` is the operating point of the
    compatibility section and `margin` its own margin on TAR. `names` are those of reference and variant.
    """
    protocol = protocol_of(benchmark)
    return Comparison(
        differences(protocol, reference, variant, options, dict(margins)),
        compatibility(protocol, reference, variant, options, far=far, margin=margin, names=names),
    )
