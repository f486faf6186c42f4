"""The embeddings of a benchmark's images by one variant, block by block from the store or computed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from veriquant.benchmarks import Benchmark
from veriquant.code_digest import import_digest
from veriquant.deploy import Embedder, instruction_sets, open_embedder, versions
from veriquant.evaluation import BATCH, Embedded, embed
from veriquant.frontends.images import FrontEndStats
from veriquant.progress import bar
from veriquant.study.artefacts import Artefact
from veriquant.study.context import Context
from veriquant.study.store import Entry
from veriquant.study.timing import expect_latency

#: Images whose embeddings are kept at a time, so that a kill costs seconds and not a whole benchmark.
BLOCK = 1024
_COUNTED = ("images", "resized", "rotated", "converted", "grey")


@dataclass(frozen=True)
class VariantEmbeddings:
    """What one variant made of a benchmark's images."""

    variant: str
    """The name of its recipe."""
    digest: str
    """Of the embeddings: what figures are kept under."""
    embedded: Embedded


def embeddings_of(context: Context, artefact: Artefact, benchmark: Benchmark) -> VariantEmbeddings:
    """Return the embeddings of a benchmark's images, from the store as far as they are there."""
    config = context.config
    size = 1 if artefact.one_at_a_time else config.batch_size or BATCH
    key: dict[str, Any] = {
        "artefact": artefact.network.digest,
        "images": context.images_digest(benchmark),
        "flip": config.flip,
        "runtime": [artefact.runtime, config.threads],
        "batch_size": size,
        "instruction_sets": list(instruction_sets()),
        "code": import_digest("veriquant.evaluation.embedding", "veriquant.deploy.runtimes"),
        "versions": versions(),
    }
    what = f"{artefact.title} · {benchmark.name}"
    check = _of(len(benchmark.samples), artefact.network.dim)
    entry, seconds = context.store.get("embeddings", key, "npy", check), None
    if entry is None:
        start = time.perf_counter()
        entry = _compute(context, artefact, benchmark, size, key, what)
        seconds = time.perf_counter() - start
    context.took(entry, "seconds_total")
    embedded = _embedded(entry, flip=config.flip)
    context.per_image.append(embedded.seconds_runtime / len(embedded.embeddings) / (1 + config.flip))
    expect_latency(context)
    context.units.finished("embeddings", f"{what}, {len(benchmark.samples)} images", seconds)
    return VariantEmbeddings(artefact.recipe.name, entry.digest, embedded)


def _compute(
    context: Context, artefact: Artefact, benchmark: Benchmark, size: int, key: dict[str, Any], what: str
) -> Entry:
    """Embed what the store does not hold, keep the whole, and let go of its blocks."""
    config, store, network = context.config, context.store, artefact.network
    embedder: Embedder | None = None
    parts: list[Entry] = []
    keys: list[dict[str, Any]] = []
    samples = benchmark.samples
    with bar(what, len(samples)) as advance:
        for start in range(0, len(samples), BLOCK):
            chosen = samples[start : start + BLOCK]
            keys.append({**key, "block": start, "length": len(chosen)})
            part = store.get("blocks", keys[-1], "npy", _of(len(chosen), network.dim))
            if part is None:
                if embedder is None:
                    embedder = open_embedder(
                        network.onnx, network.spec, runtime=artefact.runtime, threads=config.threads
                    )
                found = embed(chosen, embedder, flip=config.flip, batch_size=size, progress=advance)
                part = store.put_array("blocks", keys[-1], found.embeddings, _facts(found))
            else:
                advance(len(chosen))
            parts.append(part)
    whole = np.concatenate([part.array() for part in parts])
    entry = store.put_array("embeddings", key, whole, _summed([part.facts for part in parts]))
    for block in keys:
        store.drop("blocks", block, "npy")
    return entry


def _of(samples: int, dim: int) -> Callable[[Entry], None]:
    """Return what refuses, of entries, those that are no embeddings of so many samples."""

    def check(kept: Entry) -> None:
        embedded = _embedded(kept, flip=False)
        array = embedded.embeddings
        if array.shape != (samples, dim) or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError("no embeddings of these samples")
        if not kept.number("seconds_total") > 0 or kept.number("batch_size") < 1:
            raise ValueError("no time, or no batch")
        kept.number("seconds_runtime")
        embedded.stats.note()

    return check


# Facts are what the store remembers beside embeddings: an `Embedded` without them, as plain data.


def _facts(found: Embedded) -> dict[str, Any]:
    return {
        "seconds_total": found.seconds_total,
        "seconds_runtime": found.seconds_runtime,
        "batch_size": found.batch_size,
        "stats": {
            **{name: getattr(found.stats, name) for name in _COUNTED},
            "sizes": _listed(found.stats.sizes),
        },
    }


def _summed(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of a whole, from those of its blocks."""
    sizes: Counter[tuple[int, int]] = Counter()
    for each in facts:
        sizes.update(_sizes(each))
    return {
        "seconds_total": sum(each["seconds_total"] for each in facts),
        "seconds_runtime": sum(each["seconds_runtime"] for each in facts),
        "batch_size": facts[0]["batch_size"],
        "stats": {
            **{name: sum(each["stats"][name] for each in facts) for name in _COUNTED},
            "sizes": _listed(sizes),
        },
    }


def _embedded(entry: Entry, *, flip: bool) -> Embedded:
    """Return what was kept as it was before; `_facts` the other way round."""
    facts = entry.facts
    stats = FrontEndStats(**{**facts["stats"], "sizes": _sizes(facts)})
    return Embedded(entry.array(), facts["seconds_total"], facts["seconds_runtime"], facts["batch_size"], flip, stats)


def _listed(sizes: Counter[tuple[int, int]]) -> list[list[int]]:
    return [[height, width, count] for (height, width), count in sizes.items()]


def _sizes(facts: dict[str, Any]) -> Counter[tuple[int, int]]:
    return Counter({(height, width): count for height, width, count in facts["stats"]["sizes"]})
