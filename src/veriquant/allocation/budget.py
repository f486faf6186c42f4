"""`Budget`: what a mixed-precision network may cost, or how well it must still recognise; written as one short text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from veriquant.allocation.limits import holds
from veriquant.errors import VeriQuantError
from veriquant.metrics.difference import lower_is_better
from veriquant.metrics.protocol import rate_name

CostName = Literal["bops", "bytes", "latency"]
FORMS = (
    "bops=0.5 (relative to W8A16), bytes=1.2MB, latency=6ms or latency=0.5x (relative to FP32), "
    "tar@far=1e-3>=0.975, eer<=0.01, accuracy>=fp32-0.003"
)
METRICS = "accuracy, auc, eer, mindcf, rank-1, tar@far=1e-3, fnmr@fmr=1e-4"

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_POINTS = {"tar": "far", "fnmr": "fmr"}


@dataclass(frozen=True)
class CostBudget:
    """An upper limit on a cost.

    `limit`: bops: a ratio to W8A16; bytes: bytes; latency: milliseconds, or where `relative` a ratio to FP32.
    """

    cost: CostName
    limit: float
    relative: bool

    def __str__(self) -> str:
        unit = "" if self.cost != "latency" else "x" if self.relative else "ms"
        return f"{self.cost}={_plain(self.limit)}{unit}"

    def met(self, cost: float) -> bool:
        """Tell whether a cost in the budget's own figure stays within it."""
        return holds(cost, self.limit)


@dataclass(frozen=True)
class TaskBudget:
    """A target for a metric, named as results name it, as a fraction.

    `value`: the target, or where `relative_to_full` what is added to the full-precision figure (accuracy: −0.003; eer:
    +0.002): never in the good direction.
    """

    metric: str
    direction: Literal[">=", "<="]
    value: float
    relative_to_full: bool

    def __str__(self) -> str:
        if not self.relative_to_full:
            return f"{self.metric}{self.direction}{_plain(self.value)}"
        sign = "-" if self.value < 0 else "+"
        change = f"{sign}{_plain(abs(self.value))}" if self.value else ""
        return f"{self.metric}{self.direction}fp32{change}"

    @property
    def higher_is_better(self) -> bool:
        """Tell the direction in which the metric is good."""
        return not lower_is_better(self.metric)

    def target(self, full: float | None = None) -> float:
        """Return the figure to reach; `full`: the metric of the full-precision network, needed where relative to it."""
        if not self.relative_to_full:
            return self.value
        if full is None:
            raise ValueError(f"{self} needs the full-precision figure of {self.metric}")
        return full + self.value

    def met(self, score: float, full: float | None = None) -> bool:
        """Tell whether a measured figure reaches the target; NaN does not."""
        target = self.target(full)
        return score >= target if self.higher_is_better else score <= target


Budget = CostBudget | TaskBudget


def parse_budget(text: str) -> Budget:
    """Read a budget in one of `FORMS`; ``str`` of the result is its canonical form, which reads back as the same.

    A percent sign is accepted and converted; the sides of ``=`` may have spaces. Raises `VeriQuantError`.
    """
    squeezed = re.sub(r"\s+", "", text.lower()).replace("≥", ">=").replace("≤", "<=").replace("−", "-")
    cost = re.fullmatch(r"(bops|bytes|latency)(?:<=|=)(.*)", squeezed)
    if cost:
        return _cost_budget(text, cost[1], cost[2])
    task = re.fullmatch(r"(.+?)(>=|<=)(.*)", squeezed)
    if task:
        return _task_budget(text, task[1], task[2], task[3])
    raise VeriQuantError(f"cannot read budget {text!r}: write one such as {FORMS}")


def parse_metric(text: str) -> str:
    """Return the name that results give a metric: 'TAR@FAR=0.001' -> 'tar@far=1e-3', 'rank1' -> 'rank-1'."""
    squeezed = re.sub(r"\s+", "", text.lower())
    if squeezed in ("accuracy", "auc", "eer", "mindcf"):
        return squeezed
    rank = re.fullmatch(r"rank-?([1-9]\d*)", squeezed)
    if rank:
        return f"rank-{rank[1]}"
    # FAR and FMR are one rate here (see `veriquant.metrics`); each metric has its own way to write it.
    point = re.fullmatch(r"(tar|fnmr)@(?:far|fmr)=(.+)", squeezed)
    rate = _number(point[2]) if point else None
    if point and rate is not None and 0 < rate < 1:
        return f"{point[1]}@{_POINTS[point[1]]}={rate_name(rate)}"
    raise VeriQuantError(f"unknown metric {text!r}; there are: {METRICS}, at any rate between 0 and 1, any rank")


def _cost_budget(text: str, name: str, value: str) -> CostBudget:
    readers = {"bops": _read_bops, "bytes": _read_bytes, "latency": _read_latency}
    found = readers[name](value)
    if found is None or not (math.isfinite(found.limit) and found.limit > 0):
        forms = {"bops": "bops=0.5", "bytes": "bytes=1200000 or bytes=1.2MB", "latency": "latency=6ms or latency=0.5x"}
        raise VeriQuantError(f"cannot read budget {text!r}: write {forms[name]}, more than 0; all forms: {FORMS}")
    return found


def _read_bops(value: str) -> CostBudget | None:
    ratio = _number(value.removesuffix("x"))
    return None if ratio is None else CostBudget("bops", ratio, True)


def _read_bytes(value: str) -> CostBudget | None:
    found = re.fullmatch(rf"({_NUMBER})([kmg]?i?b|)", value)
    if not found or found[2] not in _BYTES:
        return None
    return CostBudget("bytes", float(found[1]) * _BYTES[found[2]], False)


def _read_latency(value: str) -> CostBudget | None:
    found = re.fullmatch(rf"({_NUMBER})(us|ms|s|x|%)", value)
    if not found:
        return None
    number, unit = float(found[1]), found[2]
    if unit in _MILLISECONDS:
        return CostBudget("latency", number * _MILLISECONDS[unit], False)
    return CostBudget("latency", number / 100 if unit == "%" else number, True)


def _task_budget(text: str, name: str, direction: str, value: str) -> TaskBudget:
    metric = parse_metric(name)
    wanted: Literal[">=", "<="] = "<=" if lower_is_better(metric) else ">="
    if direction != wanted:
        better = "smaller" if wanted == "<=" else "greater"
        raise VeriQuantError(f"budget {text!r}: {metric} is better the {better}; write {metric}{wanted}VALUE")
    relative = value.startswith("fp32")
    number = 0.0 if value == "fp32" else _number(value.removeprefix("fp32"))
    if number is None or (relative and value != "fp32" and value[4] not in "+-"):
        raise VeriQuantError(
            f"cannot read budget {text!r}: expected a number or fp32 with a change behind {direction}; forms: {FORMS}"
        )
    if relative and (number > 0 if wanted == ">=" else number < 0):
        sign = "-" if wanted == ">=" else "+"
        raise VeriQuantError(
            f"budget {text!r} asks for more than full precision; write what may be lost, such as "
            f"{metric}{wanted}fp32{sign}0.003"
        )
    if not (-1 <= number <= 1 if relative else 0 <= number <= 1):
        raise VeriQuantError(f"budget {text!r}: {metric} is a fraction from 0 to 1; write 0.975 or 97.5%, not 97.5")
    return TaskBudget(metric, wanted, number, relative)


def _number(text: str) -> float | None:
    """Read a fraction, or a percentage as one; None for anything else."""
    if not re.fullmatch(rf"{_NUMBER}%?", text):
        return None
    return float(f"{float(text[:-1]) / 100:.15g}") if text.endswith("%") else float(text)


def _plain(value: float) -> str:
    """Write a number without digits that say nothing: 1200000, 0.5, 1e-05."""
    return str(int(value)) if value == int(value) else repr(value)
