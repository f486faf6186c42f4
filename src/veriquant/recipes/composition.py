"""`Composition`: a recipe's parts with their checked settings: scheme × allocation × recovery × export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from veriquant.allocation.solver import Solver, Widths
from veriquant.allocation.solvers import SOLVERS
from veriquant.allocation.solvers.plan import PlanConfig
from veriquant.calibration.config import ActivationsConfig, CalibrationConfig, WeightsConfig
from veriquant.calibration.prepare import GraphStep
from veriquant.config import Config, checked, split_part
from veriquant.errors import VeriQuantError
from veriquant.exports import EXPORTS, Export
from veriquant.recovery import RECOVERIES, GraphRecovery, Recovery, RoundingRecovery, TrainingRecovery
from veriquant.recovery.qat_config import QatConfig
from veriquant.simulation.plan import Plan

R = TypeVar("R", bound=Recovery)

#: The sections of a recipe that a plan brings with it, and so must not stand beside it.
_OF_A_PLAN = ("weights", "activations", "export")


@dataclass(frozen=True)
class Step:
    """One recovery with its settings."""

    recovery: Recovery
    config: Config


@dataclass(frozen=True)
class Composition:
    """Everything that a recipe says, checked."""

    calibration: CalibrationConfig
    weights: WeightsConfig
    activations: ActivationsConfig
    solver: Solver
    allocation: Config
    recovery: tuple[Step, ...]
    export: Export
    export_config: Config

    @property
    def widths(self) -> Widths:
        """The widths that the recipe gives."""
        return Widths(self.weights.bits, self.activations.bits)

    @property
    def simulated(self) -> bool:
        """Whether the network is simulated, so that there is a plan."""
        return self.export.table is not None

    @property
    def plan(self) -> Plan | None:
        """The plan that is followed, where there is one."""
        return self.allocation.path if isinstance(self.allocation, PlanConfig) else None

    @property
    def graph_steps(self) -> list[GraphStep]:
        """The recoveries that rewrite the float graph."""
        return [step.recovery.step(step.config) for step in self.recovery if isinstance(step.recovery, GraphRecovery)]

    @property
    def rounding_steps(self) -> list[tuple[RoundingRecovery, Config]]:
        """The recoveries that change how weights are rounded."""
        return [(s.recovery, s.config) for s in self.recovery if isinstance(s.recovery, RoundingRecovery)]

    @property
    def training_steps(self) -> list[tuple[TrainingRecovery, QatConfig]]:
        """The recoveries that train."""
        return [
            (step.recovery, step.config)
            for step in self.recovery
            if isinstance(step.recovery, TrainingRecovery) and isinstance(step.config, QatConfig)
        ]

    @property
    def calibration_images(self) -> int:
        """How many unlabelled images are wanted."""
        images, check = self.calibration.images, self.calibration.check_images
        trained = [config.train_images for _, config in self.training_steps]
        return (max(trained) if trained else images) + check

    @property
    def judged(self) -> bool:
        """Whether a benchmark is looked at on the way."""
        return self.solver.judged(self.allocation)

    @property
    def labelled(self) -> bool:
        """Whether it learns from images of people who are known."""
        return any(config.labelled for _, config in self.training_steps)

    def plain(self) -> dict[str, Any]:
        """Return all settings, defaults filled in, as plain data."""
        return {
            "calibration": self.calibration.plain(),
            "weights": self.weights.plain(),
            "activations": self.activations.plain(),
            "allocation": {"solver": self.solver.name, **self.allocation.plain()},
            "recovery": [{step.recovery.name: step.config.plain()} for step in self.recovery],
            "export": {"target": self.export.name, **self.export_config.plain()},
        }


def compose(document: Mapping[str, Any]) -> Composition:
    """Return the composition that the sections of a recipe describe; `VeriQuantError` names a key that is wrong."""
    allocation = dict(document.get("allocation") or {})
    solver = SOLVERS.get(str(allocation.pop("solver", "fixed")))
    config = checked(solver.config, allocation, "allocation")
    if isinstance(config, PlanConfig):
        document = {**document, **_sections_of(config.path, document)}
    export = dict(document.get("export") or {})
    target = EXPORTS.get(str(export.pop("target", "generic")))
    return Composition(
        checked(CalibrationConfig, document.get("calibration") or {}, "calibration"),
        checked(WeightsConfig, document.get("weights") or {}, "weights"),
        checked(ActivationsConfig, document.get("activations") or {}, "activations"),
        solver,
        config,
        steps(document.get("recovery") or ()),
        target,
        checked(target.config, export, "export"),
    )


def steps(value: Any) -> tuple[Step, ...]:
    """Return the recoveries that a list names, each by its name or with settings."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise VeriQuantError(
            f"key 'recovery': expected a list such as [equalise, adaround], found {str(value)[:100]!r}"
        )
    found = []
    for place, each in enumerate(value):
        name, settings = split_part(each, f"recovery.{place}", "recovery")
        recovery = RECOVERIES.get(name)
        found.append(Step(recovery, checked(recovery.config, settings, f"recovery.{name}")))
    return tuple(found)


def _sections_of(plan: Plan, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that a plan brings with it; `VeriQuantError` where the recipe has one of its own."""
    for section in _OF_A_PLAN:
        if document.get(section):
            key = next(iter(document[section]))
            raise VeriQuantError(
                f"{section}.{key}: a plan brings its schemes, ranges and target with it; leave it out, or edit the plan"
            )
    given = steps(document.get("recovery") or ())
    if other := [step.recovery.name for step in given if not isinstance(step.recovery, TrainingRecovery)]:
        raise VeriQuantError(
            f"recovery {other[0]!r}: a plan says how channels were equalised and weights rounded; leave it out, or "
            "edit the plan"
        )
    recovery: list[Any] = [] if plan.equalise == "none" else [{"equalise": {"by": plan.equalise}}]
    recovery += ["adaround"] if plan.rounding == "adaround" else []
    recovery += ["bias_correction"] if plan.bias_correction else []
    return {
        "weights": {"scheme": plan.weight_scheme, "ranges": plan.weight_ranges},
        "activations": {"scheme": plan.activation_scheme, "ranges": plan.ranges},
        "export": {"target": plan.target},
        "recovery": [*recovery, *(document.get("recovery") or ())],
    }
