"""Observing: the histogram of every tensor that gets a quantizer, over the calibration images."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.progress import track
from veriquant.schemes.histogram import BINS, Histogram, extremes
from veriquant.simulation.pool import one_thread_each
from veriquant.simulation.simulation import BATCH, Simulation
from veriquant.simulation.steps import QuantizationConfig, check_finite


def observe(simulation: Simulation, images: Tensor) -> dict[str, Histogram]:
    """Return the histogram of each tensor of the quantizer groups, by name, in full precision.

    `images`: standardised, float32, (n, channels, height, width). Two passes: the extremes, then the counts between
    them. Raises `VeriQuantError` for no image, or for one that holds NaN.
    """
    if not len(images):
        raise VeriQuantError("no calibration image: ranges cannot be set; name a folder with some hundred images")
    check_finite(images, "calibration images")
    tensors = {tensor for group in simulation.groups.values() for tensor in group.activations}
    lock = Lock()
    spans = {name: (float("inf"), float("-inf")) for name in tensors}

    def widen(name: str, values: Tensor) -> None:
        low, high = extremes(flat(values), name)
        with lock:
            spans[name] = min(low, spans[name][0]), max(high, spans[name][1])

    watch(simulation, images, tensors, widen, "ranges of the activations, 1 of 2")
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in tensors}

    def count(name: str, values: Tensor) -> None:
        low, high = spans[name]
        if high > low:
            # Quicker by far than PyTorch's histc; the last bin takes the greatest value too.
            places = ((flat(values) - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int32)
            found = np.bincount(np.clip(places, 0, BINS - 1, out=places), minlength=BINS)
            with lock:
                counts[name] += found

    watch(simulation, images, tensors, count, "ranges of the activations, 2 of 2")
    return {name: Histogram(*spans[name], counts[name]) for name in tensors}


def flat(values: Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor's values in a row, in the order in which they lie in memory."""
    if values.ndim == 4:
        values = values.permute(0, 2, 3, 1)
    return np.asarray(values.float().reshape(-1).numpy())


def watch(
    simulation: Simulation,
    images: Tensor,
    tensors: set[str],
    use: Callable[[str, Tensor], None],
    description: str,
    change: QuantizationConfig | None = None,
) -> None:
    """Run all images in small batches, and hand `use` each batch of each tensor in `tensors`.

    Several batches run at a time: `use` is called from several threads.
    """
    steps = simulation.steps
    numbers = {steps.names[name]: name for name in tensors}
    program = steps.program(0)
    parts = [change or QuantizationConfig()]

    def run(first: int) -> None:
        with torch.inference_mode():
            env = steps.start(images[first : first + BATCH])
            for position, index in enumerate(program.order):
                steps.advance(index, env, parts)
                if index in numbers:
                    use(numbers[index], env[index])
                for dead in program.dying.get(position, ()):
                    env.pop(dead, None)

    starts = range(0, len(images), BATCH)
    with one_thread_each(os.cpu_count() or 1) as pool:
        for _ in track(pool.map(run, starts), description, total=len(starts)):
            pass
