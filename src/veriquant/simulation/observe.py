"""Observing: the histogram of every tensor that gets a quantizer, over the calibration images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.progress import track
from veriquant.schemes.histogram import BINS, Histogram
from veriquant.simulation.simulation import BATCH, Simulation
from veriquant.simulation.steps import Change, check_finite


def observe(simulation: Simulation, images: Tensor) -> dict[str, Histogram]:
    """Return the histogram of each tensor of the quantizer groups, by name, in full precision.

    `images`: standardised, float32, (n, channels, height, width). Two passes: the extremes, then the counts between
    them. Raises `VeriQuantError` for no image, or for one that holds NaN.
    """
    if not len(images):
        raise VeriQuantError("no calibration image: ranges cannot be set; name a folder with some hundred images")
    check_finite(images, "calibration images")
    tensors = {tensor for group in simulation.groups.values() for tensor in group.activations}
    extremes = {name: (float("inf"), float("-inf")) for name in tensors}

    def widen(name: str, values: Tensor) -> None:
        low, high = extremes[name]
        least, greatest = torch.aminmax(values)
        extremes[name] = min(low, float(least)), max(high, float(greatest))

    watch(simulation, images, tensors, widen, "ranges of the activations, 1 of 2")
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in tensors}

    def count(name: str, values: Tensor) -> None:
        low, high = extremes[name]
        if high > low:
            counts[name] += torch.histc(values.float(), BINS, low, high).double()

    watch(simulation, images, tensors, count, "ranges of the activations, 2 of 2")
    return {name: Histogram(*extremes[name], counts[name].numpy().astype(np.int64)) for name in tensors}


def watch(
    simulation: Simulation,
    images: Tensor,
    tensors: set[str],
    use: Callable[[str, Tensor], None],
    description: str,
    change: Change | None = None,
) -> None:
    """Run all images in small batches, and hand `use` each batch of each tensor in `tensors`."""
    steps = simulation.steps
    numbers = {steps.names[name]: name for name in tensors}
    program = steps.program(0)
    parts = [change or Change()]
    with torch.inference_mode():
        for first in track(range(0, len(images), BATCH), description, total=-(-len(images) // BATCH)):
            env = steps.start(images[first : first + BATCH])
            for position, index in enumerate(program.order):
                steps.advance(index, env, parts)
                if index in numbers:
                    use(numbers[index], env[index])
                for dead in program.dying.get(position, ()):
                    env.pop(dead, None)
