"""`Problem`: what an allocation decides: for each group its options, each with the harm it does and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from veriquant.simulation.precision import Precision

Assignment = Mapping[str, Precision]


@dataclass(frozen=True)
class Option:
    """One precision of one group.

    `noise`: noise-to-signal ratio at the network's output when this group alone has this precision (10^(−SQNR/10));
    0 for floating point. `order`: what the list is sorted by, greater is less harmful (SQNR in dB; minus the drop of a
    task metric; minus FIT). `cost`: by name (``bops``, ``bytes``, ``latency``): this group's share.
    """

    precision: Precision
    noise: float
    order: float
    cost: Mapping[str, float]


@dataclass(frozen=True)
class Problem:
    """Every group with its options, the baseline (the highest candidate) first; `fixed`: costs that no choice changes.

    `unit`: what a cost is divided by to become the figure that a budget names (relative BOPs: the BOPs of W8A16).
    """

    options: Mapping[str, tuple[Option, ...]]
    fixed: Mapping[str, float]
    unit: Mapping[str, float]

    def option(self, group: str, precision: Precision) -> Option:
        """Return a group's option of a given precision."""
        return next(each for each in self.options[group] if each.precision == precision)

    def baseline(self) -> dict[str, Precision]:
        """Return the assignment of the highest candidate to every group."""
        return {group: options[0].precision for group, options in self.options.items()}

    def cost(self, assignment: Assignment, name: str) -> float:
        """Return a total cost, in the figure that a budget names."""
        total = self.fixed.get(name, 0.0)
        total += sum(self.option(group, precision).cost[name] for group, precision in assignment.items())
        return total / self.unit.get(name, 1.0)

    def noise(self, assignment: Assignment) -> float:
        """Return the sum of the groups' noise-to-signal ratios: the joint one, if layers add up."""
        return sum(self.option(group, precision).noise for group, precision in assignment.items())
