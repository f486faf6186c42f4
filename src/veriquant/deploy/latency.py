"""Latency: warm-up, interleaved rounds, median and spread, and the ratio to a reference measured round by round."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from veriquant.deploy.embedder import Batch, Embedder
from veriquant.progress import track
from veriquant.results import Latency


def measure_latency(
    embedders: Mapping[str, Embedder],
    *,
    reference: str | None = None,
    batches: Sequence[int] = (1, 32),
    rounds: int = 30,
    warmup: int = 3,
    seed: int = 0,
) -> dict[str, list[Latency]]:
    """Time every embedder at every batch size and return its latencies, one for each batch size that it takes.

    In each round every embedder is called once, in an order drawn anew, so that a slow moment of the machine falls on
    all alike. `reference` names the embedder to which ratios are given: the median over rounds of time over the
    reference's time in the same round, with a 95 % interval from resampling rounds. Inputs are random pixels.
    """
    found: dict[str, list[Latency]] = {name: [] for name in embedders}
    generator = np.random.default_rng(seed)
    for batch in batches:
        able = {n: e for n, e in embedders.items() if e.max_batch is None or e.max_batch >= batch}
        if not able:
            continue
        inputs = {name: _pixels(embedder, batch, generator) for name, embedder in able.items()}
        for name, embedder in able.items():
            for _ in range(warmup):
                embedder(inputs[name])
        times = _rounds(able, inputs, rounds, generator, f"timing batch {batch}")
        for name, embedder in able.items():
            ratio, interval = None, None
            if reference is not None and reference in able and name != reference:
                ratio, interval = _ratio(times[name], times[reference], generator)
            low, median, high = np.percentile(times[name], [10, 50, 90])
            found[name].append(
                Latency(
                    batch=batch,
                    threads=embedder.threads,
                    rounds=rounds,
                    median_ms=float(median),
                    p10_ms=float(low),
                    p90_ms=float(high),
                    ratio_to_reference=ratio,
                    ratio_ci95=interval,
                )
            )
    return found


def _pixels(embedder: Embedder, batch: int, generator: np.random.Generator) -> Batch:
    pixels = generator.integers(0, 256, embedder.spec.batch_shape(batch)).astype(np.float32)
    return (pixels - np.float32(embedder.spec.mean[0])) / np.float32(embedder.spec.std[0])


def _rounds(
    embedders: Mapping[str, Embedder],
    inputs: Mapping[str, Batch],
    rounds: int,
    generator: np.random.Generator,
    description: str,
) -> dict[str, np.ndarray]:
    times = {name: np.empty(rounds) for name in embedders}
    names = list(embedders)
    for number in track(range(rounds), description, total=rounds):
        for index in generator.permutation(len(names)):
            name = names[index]
            start = time.perf_counter()
            embedders[name](inputs[name])
            times[name][number] = (time.perf_counter() - start) * 1e3
    return times


def _ratio(
    times: np.ndarray, reference: np.ndarray, generator: np.random.Generator, resamples: int = 1000
) -> tuple[float, tuple[float, float]]:
    ratios = times / reference
    drawn = generator.integers(0, len(ratios), (resamples, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), (float(low), float(high))
