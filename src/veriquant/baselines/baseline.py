"""`Baseline`: what a recipe is compared with: full precision, and other people's ways to quantize, as they run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.result import QuantizationResult
from veriquant.config import Config
from veriquant.data.calibration import Calibration
from veriquant.networks.network import Network
from veriquant.registry import Registry


@dataclass(frozen=True)
class Baseline:
    """One registered baseline. `run(network, config, calibration, context)` gets checked settings."""

    name: str
    summary: str
    config: type[Config]
    run: Callable[[Network, Any, Calibration | None, QuantizationContext], QuantizationResult]
    calibration_images: Callable[[Any], int] = lambda config: 0
    """From the settings, how many unlabelled images it wants; 0: it needs none."""
    takes_quantized: bool = False
    """Whether it leaves a network as it is, so that one that is quantized already may be given."""


BASELINES: Registry[Baseline] = Registry("baseline")
