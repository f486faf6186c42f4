"""Train the small MobileFaceNet that ships with VeriQuant, from scratch, on synthetic faces, on the CPU.

    python scripts/train_demo_checkpoint.py            # writes src/veriquant/demo/mobilefacenet-demo.safetensors

The pictures are drawn from seeds (`veriquant.demo.faces`), of people whom neither the benchmark `demo:` nor its
calibration set knows. The loss is ArcFace. The first part of the steps runs on pictures of 48 pixels, where a step
costs a quarter; the 3×3 kernel of the global depth-wise layer is then stretched to the 7×7 of 112 pixels.

Equal options give equal bits on the same machine with the same versions of PyTorch, NumPy and Pillow: every random
number comes from `--seed` and the number of threads is fixed. Elsewhere sums are rounded otherwise, and training
amplifies it: another file results, whose accuracy on `demo:` should lie within one point of the shipped one's 0.972
(an expectation, not measured on other machines). The defaults took 28 minutes on two cores that were busy with other
work as well.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from veriquant.benchmarks.synthetic import demo_benchmark
from veriquant.demo.faces import SIDE, draw, identity_seed
from veriquant.frontends.spec import ARCFACE
from veriquant.metrics import Options, Protocol, verify
from veriquant.networks.checkpoints import Metadata, load_checkpoint, save_checkpoint
from veriquant.networks.mobilefacenet import MobileFaceNet
from veriquant.progress import track

OUT = Path(__file__).resolve().parents[1] / "src/veriquant/demo/mobilefacenet-demo.safetensors"
EARLY_SIDE = 48
MARGIN_SHARE = 0.4  # the angular margin grows from 0 to its full size over this share of the steps


class ArcFace(nn.Module):
    """Cross-entropy of s·cos(θ + m) for the true person and s·cos θ for the others (Deng et al., CVPR 2019)."""

    def __init__(self, embedding: int, people: int, scale: float, margin: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(people, embedding) * 0.01)
        self.scale, self.margin = scale, margin

    def forward(self, embeddings: Tensor, labels: Tensor, share: float) -> tuple[Tensor, float]:
        """Return the mean loss with the margin at `share` of its full size, and the share of people recognised."""
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.weight)).clamp(-1 + 1e-6, 1 - 1e-6)
        own = cosine.gather(1, labels[:, None])
        turned = torch.cos(torch.acos(own) + share * self.margin)
        logits = cosine.scatter(1, labels[:, None], turned)
        recognised = (cosine.argmax(1) == labels).float().mean().item()
        return F.cross_entropy(self.scale * logits, labels), recognised


def draw_person(person: int, images: int) -> npt.NDArray[np.uint8]:
    """Draw the training pictures of one person."""
    return np.stack([draw(identity_seed("training", person), image) for image in range(images)])


def draw_pool(people: int, images: int, threads: int) -> npt.NDArray[np.uint8]:
    """Draw all training pictures: uint8 (people · images, 112, 112, 3)."""
    pool = np.empty((people, images, SIDE, SIDE, 3), dtype=np.uint8)
    with ExitStack() as stack:
        jobs = (draw_person, range(people), repeat(images))
        drawn = stack.enter_context(ProcessPoolExecutor(threads)).map(*jobs) if threads > 1 else map(*jobs)
        for person, pictures in enumerate(track(drawn, "drawing people", people)):
            pool[person] = pictures
    return pool.reshape(-1, SIDE, SIDE, 3)


def to_input(pixels: npt.NDArray[np.uint8], side: int = SIDE) -> Tensor:
    """Return pictures as the network takes them: float32 (n, 3, side, side) in [-1, 1]."""
    full = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).sub_(127.5).div_(127.5).contiguous()
    if side == SIDE:
        return full
    return F.interpolate(full, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def order_of(count: int, length: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return `length` indices: every picture once in random order, then all again in another."""
    rounds = math.ceil(length / count)
    return np.concatenate([generator.permutation(count) for _ in range(rounds)])[:length]


def stretched(network: MobileFaceNet, width: float, embedding: int) -> MobileFaceNet:
    """Return the network for 112 pixels that continues one trained at `EARLY_SIDE`."""
    full = MobileFaceNet(embedding=embedding, width=width)
    state = network.state_dict()
    kernel = state["conv_6_dw.conv.weight"]
    side = SIDE // 16
    larger = F.interpolate(kernel, size=(side, side), mode="bilinear", align_corners=False)
    state["conv_6_dw.conv.weight"] = larger * (kernel.shape[-1] / side) ** 2
    full.load_state_dict(state)
    return full


def train(options: argparse.Namespace, say: Callable[[str], None]) -> MobileFaceNet:
    """Draw the pictures and train; return the network in evaluation mode."""
    torch.manual_seed(options.seed)
    generator = np.random.default_rng(options.seed)
    started = time.monotonic()
    pool = draw_pool(options.people, options.images, options.threads)
    say(f"drew {len(pool)} pictures of {options.people} people in {time.monotonic() - started:.0f} s")
    early = round(options.steps * options.early)
    order = order_of(len(pool), options.steps * options.batch, generator).reshape(options.steps, options.batch)
    mirrored = generator.random((options.steps, options.batch)) < 0.5
    network = MobileFaceNet(embedding=options.embedding, width=options.width, size=EARLY_SIDE)
    head = ArcFace(options.embedding, options.people, options.scale, options.margin)
    optimiser, network = None, network.train()
    losses: list[tuple[float, float]] = []
    for step in track(range(options.steps), "training", options.steps):
        side = EARLY_SIDE if step < early else SIDE
        if step == early:
            say(f"at {EARLY_SIDE} px on demo:small: {measure(network, 'small', EARLY_SIDE)}")
            network, optimiser = stretched(network, options.width, options.embedding).train(), None
        if optimiser is None:
            optimiser = make_optimiser(network, head, options)
        # One cycle of the learning rate at each size: a short rise, then half a cosine down to nothing.
        first, last = (0, early) if step < early else (early, options.steps)
        done = (step - first) / max(1, last - first)
        peak = options.rate if step < early else options.rate * options.late
        rate = peak * min(1.0, (step - first + 1) / (1 + 0.08 * (last - first))) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = max(rate, 1e-6)
        chosen = order[step]
        pictures = pool[chosen]
        pictures = np.where(mirrored[step][:, None, None, None], pictures[:, :, ::-1], pictures)
        inputs = to_input(pictures, side)
        labels = torch.from_numpy(chosen // options.images)
        loss, recognised = head(network(inputs), labels, min(1.0, step / max(1, MARGIN_SHARE * options.steps)))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append((loss.item(), recognised))
        if (step + 1) % max(1, options.steps // 20) == 0:
            mean, known = np.mean(losses[-max(1, options.steps // 20) :], axis=0)
            seconds = time.monotonic() - started
            say(f"step {step + 1}/{options.steps}, {side} px: loss {mean:.3f}, recognised {known:.1%}, {seconds:.0f} s")
    settle(network, pool, options)
    return network.eval()


def make_optimiser(network: nn.Module, head: nn.Module, options: argparse.Namespace) -> torch.optim.Optimizer:
    """Return AdamW; norms, slopes and biases (one dimension) do not decay."""
    matrices = [p for p in network.parameters() if p.ndim > 1] + list(head.parameters())
    vectors = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": options.decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.rate)


@torch.no_grad()
def settle(network: MobileFaceNet, pool: npt.NDArray[np.uint8], options: argparse.Namespace) -> None:
    """Replace the running statistics of the batch norms by plain means over many pictures at the final weights."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    picked = np.linspace(0, len(pool) - 1, min(len(pool), 2048)).astype(np.int64)
    for start in range(0, len(picked), 128):
        network(to_input(pool[picked[start : start + 128]]))
    for norm in norms:
        norm.momentum = 0.1


@torch.no_grad()
def measure(network: nn.Module, location: str, side: int = SIDE) -> dict[str, float]:
    """Return accuracy over the folds, EER and TAR of a network on the benchmark ``demo:location``, unmirrored."""
    benchmark = demo_benchmark(location)
    network.eval()
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(sample.read()))) for sample in benchmark.samples])
    parts = [network(to_input(pictures[start : start + 100], side)) for start in range(0, len(pictures), 100)]
    embeddings = F.normalize(torch.cat(parts)).numpy()
    protocol = Protocol(benchmark.persons, benchmark.left, benchmark.right, benchmark.genuine, benchmark.folds)
    metrics = verify(protocol, embeddings, Options(far=(1e-2, 1e-3), resamples=0)).metrics
    return {name: round(m.value, 5) for name, m in metrics.items() if m.value is not None}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def option(name: str, default: float, text: str) -> None:
        parser.add_argument(name, type=type(default), default=default, help=f"{text} (default %(default)s)")

    option("--steps", 2800, "optimiser steps in all")
    option("--early", 0.786, "share of them at 48 pixels")
    option("--batch", 32, "pictures a step")
    option("--people", 1000, "people drawn")
    option("--images", 24, "pictures drawn of each")
    option("--seed", 0, "of weights and the order of pictures")
    option("--threads", 2, "part of what makes a run repeatable")
    option("--width", 0.5, "channels relative to the paper's")
    option("--embedding", 128, "length of an embedding")
    option("--rate", 3e-3, "peak learning rate of AdamW")
    option("--late", 0.4, "peak at 112 pixels relative to it")
    option("--decay", 0.05, "weight decay")
    option("--scale", 32.0, "ArcFace s")
    option("--margin", 0.35, "ArcFace m")
    parser.add_argument("--measure", choices=("full", "small"), default="full", help="which benchmark to measure on")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write (default %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, load what was saved, measure that and record the figures in the file."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    started = time.monotonic()
    network = train(options, lambda line: print(line, flush=True))
    seconds = time.monotonic() - started
    location = "" if options.measure == "full" else "small"
    about = {
        "synthetic": True,
        "trained_by": "scripts/train_demo_checkpoint.py",
        "seed": options.seed,
        "settings": {k: v for k, v in vars(options).items() if k not in ("out", "measure", "seed")},
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow")},
    }
    metadata = Metadata(
        family="mobilefacenet",
        arguments={"embedding": options.embedding, "size": SIDE, "width": options.width},
        input=ARCFACE,
        about=about,
    )
    save_checkpoint(options.out, network, metadata, half=True)
    # The figures are those of the file's own float16 weights.
    saved = {name: tensor.float() for name, tensor in load_checkpoint(options.out).tensors.items()}
    network.load_state_dict(saved, strict=False)
    measured = {"benchmark": f"demo:{location}", "flip": False} | measure(network, location)
    metadata.about["measured"] = measured
    save_checkpoint(options.out, network, metadata, half=True)
    print(json.dumps(measured, indent=2))
    print(f"trained in {seconds:.0f} s; wrote {options.out}, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
