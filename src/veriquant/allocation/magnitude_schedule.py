"""`MagnitudeSchedule`: how a width for every weight is halved, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MagnitudeSchedule:
    """Of how many iterations, which share is halved after each, and where it stops."""

    iterations: int
    share: float
    until: float
    stop_after: int | None

    @property
    def last(self) -> int:
        """The last iteration that is gone through, where `until` does not end it before."""
        return self.stop_after or self.iterations
