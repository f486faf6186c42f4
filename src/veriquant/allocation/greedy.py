"""Phase 2 of Pandey et al. (Algorithm 1): walk down the sensitivity list, one entry and so one group at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.allocation.limits import holds, require_costs, require_reachable
from veriquant.allocation.problem import Option, Problem
from veriquant.errors import VeriQuantError
from veriquant.simulation.precision import Precision

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One flip: `group` gets `precision`, lower than what it had."""

    group: str
    precision: Precision


@dataclass(frozen=True)
class GreedyPath:
    """The flips in order; position k is the state after the first k of them, position 0 the baseline.

    `cost`: the cost that no flip raises. `skipped`: entries of the list that came when their group had already been
    flipped further down.
    """

    problem: Problem
    cost: str
    steps: tuple[Step, ...]
    skipped: tuple[Step, ...]

    @property
    def last(self) -> int:
        """Return the last position: the number of flips."""
        return len(self.steps)

    def assignment(self, position: int) -> dict[str, Precision]:
        """Return the precision of every group after `position` flips (0 … `last`)."""
        if not 0 <= position <= self.last:
            raise ValueError(f"position {position} of a walk of {self.last} steps")
        state = self.problem.baseline()
        state.update((step.group, step.precision) for step in self.steps[:position])
        return state

    def costs(self, name: str) -> Floats:
        """Return the total cost at every position, float64 (last + 1,), in the figure that a budget names."""
        require_costs(self.problem, [name])
        shares = self._totals({key: option.cost[name] for key, option in self._visited().items()})
        return (shares + self.problem.fixed.get(name, 0.0)) / self.problem.unit.get(name, 1.0)

    def noises(self) -> Floats:
        """Return the sum of the groups' noise-to-signal ratios at every position, float64 (last + 1,)."""
        return self._totals({key: option.noise for key, option in self._visited().items()})

    def first_within(self, limits: Mapping[str, float]) -> int:
        """Return the first position whose costs all meet their `limits` (as `Problem.cost` counts them).

        Raises `VeriQuantError` naming the nearest reachable cost where no position does.
        """
        require_reachable(self.problem, limits)
        met = np.ones(self.last + 1, dtype=bool)
        for name, limit in limits.items():
            met &= np.array([holds(float(value), limit) for value in self.costs(name)])
        if not met.any():
            wanted = ", ".join(f"{name}={limit:g}" for name, limit in limits.items())
            raise VeriQuantError(
                f"no position of the walk by {self.cost} meets {wanted}, although other assignments may: "
                "walk by the cost that is limited, or use the integer programme"
            )
        return int(met.argmax())

    def _visited(self) -> dict[tuple[str, Precision], Option]:
        visited = [*self.problem.baseline().items(), *((step.group, step.precision) for step in self.steps)]
        return {(group, precision): self.problem.option(group, precision) for group, precision in visited}

    def _totals(self, values: Mapping[tuple[str, Precision], float]) -> Floats:
        """Sum over groups at every position, afresh each time: running sums lose the small noises under the large."""
        state = {group: values[group, precision] for group, precision in self.problem.baseline().items()}
        totals = [math.fsum(state.values())]
        for step in self.steps:
            state[step.group] = values[step.group, step.precision]
            totals.append(math.fsum(state.values()))
        return np.array(totals)


def greedy(problem: Problem, cost: str = "bops") -> GreedyPath:
    """Return the walk from the baseline (the highest candidate everywhere) to the end of the sensitivity list.

    The list is every entry (group, precision) below the baseline, sorted by `Option.order`, least harmful first; equal
    ones by the larger saving of `cost`, then by the names of group and precision, so that a walk is the same each time.

    An entry is skipped where it would take its group back up: where the group, already flipped, costs less `cost` than
    the entry, or as much without the entry being lower in both widths. Of two entries of one group of which neither is
    lower in both widths (W4A8, W6A6) the one with the greater order is met first; the other follows only if it saves
    more `cost`, and then replaces it: W6A6 → W4A8 saves BOPs, W4A8 → W6A6 is skipped; W8A6 and W6A8 cost the same, so
    whichever comes first stays. A group in which no width costs anything (an addition has no MACs) is still flipped
    down, as the paper's list flips every quantizer.

    Raises `VeriQuantError` for an unknown cost and for an order that is no number.
    """
    require_costs(problem, [cost])
    entries = _entries(problem, cost)
    state = {group: options[0] for group, options in problem.options.items()}
    taken: list[Step] = []
    skipped: list[Step] = []
    for group, option in entries:
        step = Step(group, option.precision)
        if _lowers(option, state[group], cost):
            state[group] = option
            taken.append(step)
        else:
            skipped.append(step)
    return GreedyPath(problem, cost, tuple(taken), tuple(skipped))


def _entries(problem: Problem, cost: str) -> list[tuple[str, Option]]:
    entries = [(group, option) for group, options in problem.options.items() for option in options[1:]]
    for group, option in entries:
        if math.isnan(option.order):
            raise VeriQuantError(
                f"group {group!r} at {option.precision}: its sensitivity is no number; leave that candidate out"
            )

    def rank(entry: tuple[str, Option]) -> tuple[float, float, str, Precision]:
        group, option = entry
        saving = problem.options[group][0].cost[cost] - option.cost[cost]
        return (-option.order, -saving, group, option.precision)

    return sorted(entries, key=rank)


def _lowers(new: Option, old: Option, cost: str) -> bool:
    if new.cost[cost] != old.cost[cost]:
        return new.cost[cost] < old.cost[cost]
    lower = all(one <= other for one, other in zip(new.precision, old.precision, strict=True))
    return lower and new.precision != old.precision
