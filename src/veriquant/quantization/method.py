"""What a quantization method is: settings, what it needs, and a function from a network to a quantized ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from veriquant.networks.network import Network
from veriquant.registry import Registry
from veriquant.results import Layer

if TYPE_CHECKING:
    from veriquant.data.calibration import Calibration


class Settings(BaseModel):
    """Base of every method's settings: an unknown key is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Target:
    """Where the file will run: methods that measure what they make do so in this runtime, on this many threads."""

    runtime: str = "onnxruntime"
    threads: int = 1


@dataclass(frozen=True)
class Quantized:
    """A network under a recipe: the file, what was done to each layer, and what a reader must know in plain words."""

    onnx: bytes = field(repr=False)
    layers: list[Layer]
    notes: list[str]


Run = Callable[[Network, Any, "Calibration | None", Target], Quantized]


@dataclass(frozen=True)
class Method:
    """One registered way to quantize. `run(network, settings, calibration, target)` gets checked settings.

    `calibration_images` says from the settings how many unlabelled images it wants; 0: it needs none.
    """

    name: str
    summary: str
    settings: type[Settings]
    run: Run
    calibration_images: Callable[[Any], int]


METHODS: Registry[Method] = Registry("quantization method")
