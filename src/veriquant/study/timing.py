"""What is timed: the runtimes, to choose the fastest, and the variants of a network in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence

from veriquant.code_digest import import_digest
from veriquant.deploy import RUNTIMES, choose_runtime, machine, measure_latency, open_embedder, versions
from veriquant.networks import Network
from veriquant.results import Latency
from veriquant.study.artefacts import Artefact
from veriquant.study.context import Context, told
from veriquant.study.store import Entry


def runtime_for(context: Context, network: Network) -> str:
    """Return the runtime that the study names or, for 'auto', the fastest for a network on this machine."""
    config, store = context.config, context.store
    if config.runtime != "auto":
        return config.runtime
    key = {
        "network": network.digest, "threads": config.threads, "machine": machine(), "versions": versions(),
        "code": import_digest("veriquant.deploy.runtimes", "veriquant.deploy.latency"),
    }  # fmt: skip

    def check(kept: Entry) -> None:
        chosen = kept.json()
        RUNTIMES.get(chosen["runtime"])
        if not isinstance(chosen["sentence"], str):
            raise TypeError("no sentence")

    entry = store.get("runtime", key, "data", check)
    if entry is None:
        choice = choose_runtime(network.onnx, network.spec, threads=config.threads)
        entry = store.put_json("runtime", key, {"runtime": choice.runtime, "sentence": choice.sentence}, {})
    chosen: dict[str, str] = entry.json()
    note = f"{network.name}: {chosen['sentence']}"
    context.units.note(note)
    context.notes.append(note)
    return chosen["runtime"]


def expect_latency(context: Context) -> None:
    """Tell how long latency will take, by what the images of all variants took so far."""
    if (wanted := context.config.latency) is not None:
        calls = (wanted.rounds + 3) * sum(wanted.batches) * len(context.config.recipes)
        context.units.expect("latency", calls * sum(context.per_image) / len(context.per_image))


def latency_in_turn(context: Context, variants: Sequence[Artefact]) -> list[list[Latency]]:
    """Return the times of each variant of a network, the reference first; kept for this very machine only."""
    config, store = context.config, context.store
    wanted = config.latency
    assert wanted is not None
    name, runtime = variants[0].network.name, variants[0].runtime
    key = {
        "variants": [variant.network.digest for variant in variants],
        "runtime": [runtime, config.threads],
        "batches": list(wanted.batches),
        "rounds": wanted.rounds,
        "seed": config.seed,
        "machine": machine(),
        "code": import_digest("veriquant.deploy.runtimes", "veriquant.deploy.latency", "veriquant.results"),
        "versions": versions(),
    }

    def check(kept: Entry) -> None:
        kept.number("seconds")
        if [len(times) for times in _measured(kept)] != [len(wanted.batches)] * len(variants):
            raise ValueError("times of other variants or batches")

    entry, seconds = store.get("latency", key, "data", check), None
    if entry is None:
        start = time.perf_counter()
        with told(name, "latency"):
            embedders = {
                variant.recipe.name: open_embedder(
                    variant.network.onnx, variant.network.spec, runtime=runtime, threads=config.threads
                )
                for variant in variants
            }
            found = measure_latency(
                embedders,
                reference=variants[0].recipe.name,
                batches=wanted.batches,
                rounds=wanted.rounds,
                seed=config.seed,
            )
        seconds = time.perf_counter() - start
        content = [[each.model_dump(mode="json") for each in found[v.recipe.name]] for v in variants]
        entry = store.put_json("latency", key, content, {"seconds": seconds})
    context.took(entry)
    context.units.finished("latency", f"{name}, {len(variants)} variants in turn", seconds)
    return _measured(entry)


def _measured(entry: Entry) -> list[list[Latency]]:
    return [[Latency.model_validate(each) for each in times] for times in entry.json()]
