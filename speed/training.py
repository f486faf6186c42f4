"""Training with quantizers against plain full-precision training: steps a second, in one run.

The same network, batches, optimizer and loss (the distance to given embeddings, so that no teacher's time counts);
what differs is what stands on weights and activations. Rounds take turns, so that what else the machine does meets all.

    python speed/training.py [NETWORK] [--batch 32] [--steps 4] [--rounds 5] [--threads 2]

NETWORK: an .onnx file, FAMILY:CHECKPOINT, or by default a MobileFaceNet with random weights.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from veriquant.networks import Network, load_network
from veriquant.networks.export import export_onnx
from veriquant.networks.families import FAMILIES
from veriquant.networks.onnx_file import network_of_onnx
from veriquant.schemes import AffineQuantizer, LearnedStepQuantizer, Quantizer
from veriquant.schemes.dorefa import DorefaQuantizer
from veriquant.schemes.mixed_step import MixedStepQuantizer
from veriquant.schemes.observed import ObservedQuantizer
from veriquant.schemes.pact import PactQuantizer
from veriquant.simulation import Precision, QuantizerCache, observe, simulate
from veriquant.simulation.simulation import as_images
from veriquant.simulation.trainable import Trainable

#: From a fitted quantizer, and the weight that it is for or None for an activation, to one that learns.
Learning = Callable[[Quantizer, Tensor | None], Quantizer]


def main() -> None:
    """Time all in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load_network(options.network) if options.network else random_mobilefacenet()
    simulation = simulate(network, "wide")
    draw = np.random.default_rng(0)
    pixels = draw.uniform(0, 255, network.spec.batch_shape(options.batch))
    mean, std = (np.reshape(each, (3, 1, 1)) for each in (network.spec.mean, network.spec.std))
    images = as_images(((pixels - mean) / std).astype(np.float32))
    fitted = QuantizerCache(simulation, observe(simulation, images[:8]), ranges="minmax")
    wanted = torch.from_numpy(simulation.embed(images[:8]).repeat(options.batch // 8 + 1, axis=0)[: options.batch])
    runs = {
        "full precision": Trainable(simulation, {}, {}),
        "observed ranges, W8A8": student(fitted, "W8A8", observed),
        "learned steps, W4A8": student(fitted, "W4A8", learned),
        "8, 4 and 2 bits by weight: steps, PACT": student(fitted, "W8A8", steps_by_weight),
        "8, 4 and 2 bits by weight: DoReFa, PACT": student(fitted, "W8A8", dorefa_by_weight),
    }
    steppers = {name: Stepper(task, images, wanted) for name, task in runs.items()}
    for stepper in steppers.values():
        stepper.run(2)
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(options.rounds):
        for name, stepper in steppers.items():
            seconds[name].append(stepper.run(options.steps) / options.steps)
    print(f"{network.name}, batch {options.batch}, {options.threads} threads, {options.rounds} rounds in turn")
    plain = seconds["full precision"]
    for name, each in seconds.items():
        ratios = [a / b for a, b in zip(plain, each, strict=True)]
        print(
            f"{name:45s} {median(each) * 1e3:8.1f} ms a step; steps a second over full precision: "
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


class Stepper:
    """A network in training: forward, backward, SGD."""

    def __init__(self, network: Trainable, images: Tensor, wanted: Tensor) -> None:
        self.network, self.images, self.wanted = network.train(), images, wanted
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9)

    def run(self, steps: int) -> float:
        """Return the seconds of so many steps."""
        start = time.perf_counter()
        for _ in range(steps):
            loss = (1 - torch.cosine_similarity(self.network(self.images), self.wanted)).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return time.perf_counter() - start


def student(fitted: QuantizerCache, precision: str, learning: Learning) -> Trainable:
    """Return the network with quantizers that learn, made by `learning` from the fitted ones."""
    widths = Precision.parse(precision)
    change = fitted.change(dict.fromkeys(fitted.simulation.groups, widths))
    weights = {
        name: learning(fitted.weight(name, widths.weight_bits).quantizer, fitted.simulation.weighted(name).weight)
        for name in change.weights
    }
    return Trainable(fitted.simulation, weights, {t: learning(q, None) for t, q in change.activations.items()})


def observed(fitted: Quantizer, weight: Tensor | None) -> Quantizer:
    """Return levels that follow what passes."""
    assert isinstance(fitted, AffineQuantizer)
    return ObservedQuantizer.like(fitted, running=weight is None)


def learned(fitted: Quantizer, weight: Tensor | None) -> Quantizer:
    """Return learned steps."""
    assert isinstance(fitted, AffineQuantizer)
    return LearnedStepQuantizer.of(fitted, batched=weight is None, learn_offset=weight is None)


def steps_by_weight(fitted: Quantizer, weight: Tensor | None) -> Quantizer:
    """Return learned steps for weights of mixed widths, what `iterative` trains by default, or a PACT activation."""
    return clipping(fitted) if weight is None else MixedStepQuantizer(weight, mixture(weight))


def dorefa_by_weight(fitted: Quantizer, weight: Tensor | None) -> Quantizer:
    """Return DoReFa weights of mixed widths, the source's, or a PACT activation."""
    if weight is None:
        return clipping(fitted)
    return DorefaQuantizer.of(weight, mixture(weight), output="channel", normalised="channel")


def clipping(fitted: Quantizer) -> Quantizer:
    """Return PACT over the fitted range."""
    assert isinstance(fitted, AffineQuantizer)
    low = float(-fitted.zero_point * fitted.scale)
    return PactQuantizer.over(low, low + float(fitted.scale) * (2**fitted.bits - 1), fitted.bits)


def mixture(weight: Tensor) -> Tensor:
    """Return widths for a weight, uint8 of its shape, a third of them 8, 4 and 2 each."""
    draw = torch.Generator().manual_seed(0)
    return torch.tensor([2, 4, 8], dtype=torch.uint8)[torch.randint(3, weight.shape, generator=draw)]


def random_mobilefacenet() -> Network:
    """Return a MobileFaceNet at 112×112 as it is before training."""
    family = FAMILIES.get("mobilefacenet")
    torch.manual_seed(0)
    module = family.build(**family.defaults).eval()
    return network_of_onnx(export_onnx(module, family.spec), family.spec, name="mobilefacenet", source="random")


if __name__ == "__main__":
    main()
