"""What `mixed` may be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from veriquant.allocation import SEARCHES, parse_budget
from veriquant.quantization.simulated import SimulatedSettings
from veriquant.simulation import TARGETS, KernelTable
from veriquant.simulation.precision import Precision


class MixedSettings(SimulatedSettings):
    """How `mixed` goes about it.

    `budget`: ``bops=0.5`` (relative to W8A16), ``bytes=1.2MB``, ``latency=6ms`` or ``latency=0.5x``, or a task target
    such as ``tar@far=1e-3>=0.975`` or ``accuracy>=fp32-0.003``, which needs a benchmark. `candidates`: precisions to
    choose from; empty: all of the target. `metric`: what the list is sorted by, SQNR, FIT, or the
    equal error rate on images of the benchmark. `allocation`: the walk, the integer programme's optimum, or the better
    of the two. `search`: for task targets. `sensitivity_images`: how many of the images the list is measured on.
    """

    budget: str = "bops=0.5"
    candidates: tuple[str, ...] = ()
    metric: Literal["sqnr", "fit", "task"] = "sqnr"
    allocation: Literal["best", "walk", "optimum"] = "best"
    search: str = "binary+interpolation"
    sensitivity_images: int = Field(default=64, ge=1)

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        return str(parse_budget(value))

    @field_validator("candidates")
    @classmethod
    def _candidates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Precision.parse(each)) for each in value)

    @field_validator("search")
    @classmethod
    def _search(cls, value: str) -> str:
        SEARCHES.get(value)
        return value

    def table(self) -> KernelTable:
        """Return the target's kernels, cut to the candidates that were asked for."""
        table = TARGETS.get(self.target)
        if not self.candidates:
            return table
        asked = {Precision.parse(each) for each in self.candidates}
        highest_first = sorted(asked, key=lambda each: (each.weight_bits * each.activation_bits, each), reverse=True)
        return replace(table, candidates=tuple(highest_first))
