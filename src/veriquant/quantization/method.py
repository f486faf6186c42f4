"""What a quantization method is: settings, what it needs, and a function from a network to a quantized ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from veriquant.deploy.embedder import Embedder
from veriquant.frontends.spec import InputSpec
from veriquant.networks.network import Network
from veriquant.registry import Registry
from veriquant.results import Allocation, Layer
from veriquant.simulation.plan import Plan

if TYPE_CHECKING:
    from veriquant.data.calibration import Calibration
    from veriquant.data.training_set import TrainingSet


class Settings(BaseModel):
    """Base of every method's settings: an unknown key is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Sampled:
    """Some labelled images, standardised, and what gives their embeddings a score, greater is better."""

    images: npt.NDArray[np.float32]
    score: Callable[[npt.NDArray[np.float32]], float]
    metric: str


class Judging(Protocol):
    """Evaluates on a benchmark: a metric of an embedder, or a few of its images with a score for them."""

    def __call__(self, embedder: Embedder, metric: str) -> float:
        """Return a metric of the whole benchmark, as a fraction."""

    def sample(self, spec: InputSpec, count: int) -> Sampled:
        """Return about `count` images in comparisons, genuine and impostor alike."""


@dataclass(frozen=True)
class QuantizationContext:
    """Where the file will run: methods that measure what they make do so in this runtime, on this many threads.

    `judge` gives a task metric of an embedder, by name, for methods that are told to keep one. `training_set`: images
    of people who are known, for methods that learn from that. `say` gets a line now and then of what takes long, where
    there is no terminal to show a bar on.
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    judge: Judging | None = None
    training_set: TrainingSet | None = None
    say: Callable[[str], None] | None = None


@dataclass(frozen=True)
class QuantizationResult:
    """A network under a recipe: the file, what was done to each layer, and what a reader must know in plain words."""

    onnx: bytes = field(repr=False)
    layers: list[Layer]
    notes: list[str]
    plan: Plan | None = None
    """The widths of each quantizer group, where the method simulates them."""
    allocation: Allocation | None = None
    """How they were chosen, where they were."""
    average_bits: float | None = None
    """Mean width of a weight, mixtures within a layer counted weight by weight; None: what `layers` say."""
    iteration: int | None = None
    """Of a method that goes in iterations, the one that this is of, counted from 1."""
    save_pack: Callable[[Path], None] | None = field(default=None, repr=False)
    """Writes the same as a safetensors file for PyTorch, where the method simulates: see `deploy.pack.load_module`."""


Run = Callable[[Network, Any, "Calibration | None", QuantizationContext], QuantizationResult]


@dataclass(frozen=True)
class Method:
    """One registered way to quantize. `run(network, settings, calibration, target)` gets checked settings.

    `calibration_images` says from the settings how many unlabelled images it wants; 0: it needs none. `judged` says
    whether it evaluates on a benchmark while it works (`QuantizationContext.judge`), `plans` whether it makes a plan,
    `labelled` whether it learns whose images they are (`QuantizationContext.training_set`).
    """

    name: str
    summary: str
    settings: type[Settings]
    run: Run
    calibration_images: Callable[[Any], int]
    judged: Callable[[Any], bool] = lambda settings: False
    plans: bool = False
    labelled: Callable[[Any], bool] = lambda settings: False


METHODS: Registry[Method] = Registry("quantization method")
