"""`magnitude`: a width for every weight, halved iteration by iteration for those of least magnitude.

Kolf et al., sections 3.3 and 4.5: 8 bits everywhere at first; after each iteration of training the share of least
magnitude is halved.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from veriquant.allocation.magnitude import ITERATIONS, LEAST, SHARE, START
from veriquant.allocation.magnitude_schedule import MagnitudeSchedule
from veriquant.allocation.solver import SOLVERS, Allocated, AllocationRequest, Solver
from veriquant.config import Config
from veriquant.simulation.precision import Precision


class MagnitudeConfig(Config):
    """The source's settings.

    Neither `until` nor `stop_after` changes what an iteration comes to, so that those trained before are not trained
    again.
    """

    iterations: int = Field(default=ITERATIONS, ge=1)
    """In the last all weights have 2 bits."""
    share: float = Field(default=SHARE, gt=0, le=1)
    """What part of the weights wider than 2 bits is halved after each iteration."""
    until: float = Field(default=float(LEAST), ge=LEAST, le=START)
    """Stop after the first iteration whose average width is at most so many bits."""
    stop_after: int | None = Field(default=None, ge=1)
    """Stop after this iteration."""

    @model_validator(mode="after")
    def _stops_in_time(self) -> MagnitudeConfig:
        if self.stop_after is not None and self.stop_after > self.iterations:
            raise ValueError(f"stop_after {self.stop_after}: there are {self.iterations} iterations")
        return self


def _solve(request: AllocationRequest, config: MagnitudeConfig) -> Allocated:
    activations = request.widths.activations
    assert activations is not None
    groups = request.model.simulation.groups
    schedule = MagnitudeSchedule(config.iterations, config.share, config.until, config.stop_after)
    return Allocated(dict.fromkeys(groups, Precision(START, activations)), schedule=schedule)


SOLVERS.add(
    "magnitude",
    Solver(
        "magnitude",
        "8, 4 and 2 bits weight by weight, the least magnitudes halved after each iteration of training",
        "Kolf et al., sections 3.3 and 4.5",
        MagnitudeConfig,
        _solve,
        chooses_activations=False,
        per_weight=True,
    ),
)
