"""Recoveries: registered ways to regain what rounding loses, each in its phase of the pipeline.

- `GraphRecovery` rewrites the float graph, before anything is quantized (equalisation);
- `RoundingRecovery` changes how weights are rounded, and so what an allocation measures (AdaRound, bias correction);
- `TrainingRecovery` trains the network once widths are given (QAT).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from veriquant.calibration.prepare import GraphStep
from veriquant.config import Config
from veriquant.registry import Registry

if TYPE_CHECKING:
    from veriquant.calibration.model import CalibratedModel
    from veriquant.recovery.qat_config import QatConfig
    from veriquant.recovery.training_run import Trained, TrainingRequest


@dataclass(frozen=True)
class Recovery:
    """What all recoveries have."""

    name: str
    summary: str
    source: str
    config: type[Config]


@dataclass(frozen=True)
class GraphRecovery(Recovery):
    """`step(config)` returns what rewrites the graph."""

    step: Callable[[Any], GraphStep]


@dataclass(frozen=True)
class RoundingRecovery(Recovery):
    """`attach(model, config, others)` sets how weights are rounded from then on; `others`: the names beside it."""

    attach: Callable[[CalibratedModel, Any, Collection[str]], None]
    most_bits: int | None = None
    """The widest weights that it rounds; None: any."""
    uniform: bool = False
    """Whether it needs levels that are evenly apart with one at zero."""


@dataclass(frozen=True)
class TrainingRecovery(Recovery):
    """`train(request, config)` trains the network under an allocation."""

    config: type[QatConfig]
    train: Callable[[TrainingRequest, Any], Trained]
    staged: bool = False
    """Whether it goes in stages: narrower widths first, or fewer bits weight by weight."""


RECOVERIES: Registry[Recovery] = Registry("recovery")

#: The phases in the order in which they act.
PHASES = (GraphRecovery, RoundingRecovery, TrainingRecovery)
