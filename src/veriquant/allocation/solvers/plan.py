"""`plan`: widths and schemes group by group as a plan says, made by an earlier allocation or edited by hand."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from veriquant.allocation.solver import SOLVERS, Allocated, AllocationRequest, Solver
from veriquant.calibration.model import checked_plan
from veriquant.config import Config
from veriquant.errors import VeriQuantError
from veriquant.results import remark
from veriquant.schemes import SCHEMES
from veriquant.simulation import Plan, load_plan


class PlanConfig(Config):
    """A plan to follow. It brings target, schemes, ranges, rounding and equalisation with it."""

    path: Plan
    """The path of its JSON file."""

    @field_validator("path", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        plan = load_plan(value) if isinstance(value, str) else value
        if isinstance(plan, Plan) and plan.trained:
            raise VeriQuantError(
                f"plan {value if isinstance(value, str) else plan.network}: describes a network that was trained "
                f"({plan.trained}), which its widths alone do not make again; use the file that training made, or take "
                "'trained' out of its 'note' to give these widths without training"
            )
        return plan


def _solve(request: AllocationRequest, config: PlanConfig) -> Allocated:
    model = request.model
    plan = checked_plan(model, config.path)
    if plan.rounding == "adaround":
        schemes = {group.scheme for group in plan.groups.values() if group.scheme is not None}
        if others := sorted(name for name in schemes if not SCHEMES.get(name).uniform):
            model.records.append(
                remark(
                    "recover",
                    f"AdaRound has no levels up and down in scheme {', '.join(others)}: the plan's groups with it are "
                    "rounded to the nearest",
                )
            )
    return Allocated(plan.precisions(), plan)


SOLVERS.add(
    "plan",
    Solver(
        "plan",
        "widths and schemes group by group as a plan says",
        "",
        PlanConfig,
        _solve,
    ),
)
