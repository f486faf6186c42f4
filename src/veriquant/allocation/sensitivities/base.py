"""`Sensitivity`: a registered measure of the harm that each quantizer group does at each width."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field
from torch import Tensor

from veriquant.allocation.sensitivity import SensitivityList
from veriquant.config import Config
from veriquant.metrics.sqnr import LEAST_NOISE
from veriquant.registry import Registry
from veriquant.simulation.precision import Precision

if TYPE_CHECKING:
    from veriquant.allocation.solver import AllocationRequest


class SensitivityConfig(Config):
    """On what a sensitivity is measured."""

    images: int = Field(default=64, ge=1)
    """How many of the calibration images."""


@dataclass(frozen=True)
class Sensitivity:
    """One registered measure.

    `measure(request, config)` returns the list; its entries hold SQNR and noise whatever the measure, and beside them
    `score` (what a walk sorts by, greater is less harmful) and `harm` (what an integer programme sums).
    """

    name: str
    summary: str
    source: str
    config: type[SensitivityConfig]
    measure: Callable[[AllocationRequest, Any], SensitivityList]
    weights_only: bool = False
    """Whether it knows the harm of weights alone, so that candidates must share the activations' width."""
    judged: bool = False
    """Whether it needs images with labels."""


SENSITIVITIES: Registry[Sensitivity] = Registry("sensitivity")


def images_of(request: AllocationRequest, config: SensitivityConfig) -> Tensor:
    """Return the calibration images that a list is measured on."""
    return request.model.fit[: config.images]


def with_harm(
    found: SensitivityList, harm: Mapping[str, Mapping[Precision, float]], metric: str, **note: Any
) -> SensitivityList:
    """Return a list whose entries are sorted by and summed as `harm`, by group and precision, in place of noise."""
    entries = []
    for entry in found.entries:
        value = harm[entry.group][Precision.parse(entry.precision)]
        score = -10 * math.log10(max(value, LEAST_NOISE))
        entries.append(entry.model_copy(update={"score": score, "harm": value}))
    return found.model_copy(update={"entries": entries, "metric": metric, "note": {**found.note, **note}})
