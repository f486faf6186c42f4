"""`Solver`: a registered way to give every quantizer group its widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from veriquant.allocation.sensitivity import SensitivityList
from veriquant.config import Config
from veriquant.registry import Registry
from veriquant.results import Allocation
from veriquant.simulation.plan import Plan
from veriquant.simulation.precision import FLOAT_BITS, Precision
from veriquant.simulation.targets import KernelTable

if TYPE_CHECKING:
    from veriquant.allocation.magnitude_schedule import MagnitudeSchedule
    from veriquant.calibration.context import QuantizationContext
    from veriquant.calibration.model import CalibratedModel

Measure = Callable[..., SensitivityList]
"""Phase 1, as `allocation.sensitivity.measure`, kept between runs: (quantizers, images, *, score, metric, recovery)."""


@dataclass(frozen=True)
class Widths:
    """What a recipe says of all weights and all activations; None: the solver's to choose."""

    weights: int | None = None
    activations: int | None = None

    @property
    def precision(self) -> Precision:
        """Return both as one precision; a width that is not given is floating point."""
        return Precision(self.weights or FLOAT_BITS, self.activations or FLOAT_BITS)


@dataclass(frozen=True)
class AllocationRequest:
    """What a solver is given."""

    model: CalibratedModel
    widths: Widths
    context: QuantizationContext
    measure: Measure


@dataclass(frozen=True)
class Allocated:
    """An assignment of precisions to groups, and what is known of it."""

    precisions: dict[str, Precision]
    plan: Plan | None = None
    """A plan that was given, to be followed as it is."""
    record: Allocation | None = field(default=None, repr=False)
    """How the choice came about, where it was one."""
    noise: dict[str, float] = field(default_factory=dict)
    """By group: the noise-to-signal ratio of each group quantized alone, where it was measured."""
    content: bytes | None = field(default=None, repr=False)
    """The file, where keeping a budget needed it."""
    schedule: MagnitudeSchedule | None = None
    """Where weights have widths of their own, which training halves step by step."""


@dataclass(frozen=True)
class Solver:
    """One registered way to allocate widths, and what it can do: recipes are checked against that."""

    name: str
    summary: str
    source: str
    config: type[Config]
    solve: Callable[[AllocationRequest, Any], Allocated] | None
    """None: it works on files that a runtime measures (`exports`), not on a simulated network."""
    chooses_weights: bool = True
    """Whether it chooses the widths of weights, so that the recipe leaves them empty."""
    chooses_activations: bool = True
    per_weight: bool = False
    """Whether single weights have widths of their own, which training halves."""
    table: Callable[[Any, KernelTable], KernelTable] = lambda config, table: table
    """Cuts a target's kernels to the candidates that are chosen from."""
    judged: Callable[[Any], bool] = lambda config: False
    """Whether it evaluates on a benchmark."""
    latency: Callable[[Any], bool] = lambda config: False
    """Whether it times kernels."""


SOLVERS: Registry[Solver] = Registry("allocation solver")
