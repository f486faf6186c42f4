"""Fixed precision as an assignment: the same widths everywhere, as far as each group has a kernel for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from veriquant.allocation.problem import Option, Problem
from veriquant.simulation.precision import FLOAT_BITS, FP32, Precision


@dataclass(frozen=True)
class Uniform:
    """`assignment`: one precision for every group. `replaced`: groups that lack it, with what they got instead."""

    precision: Precision
    assignment: dict[str, Precision]
    replaced: dict[str, Precision]

    @property
    def sentence(self) -> str:
        """Say in one line how many groups could not have the precision, and what they have."""
        if not self.replaced:
            return f"all {len(self.assignment)} groups have {self.precision}"
        got = sorted(set(self.replaced.values()))
        return (
            f"{len(self.replaced)} of {len(self.assignment)} groups have no {self.precision} and got the nearest "
            f"higher one they have ({', '.join(map(str, got))})"
        )


def uniform(problem: Problem, precision: Precision) -> Uniform:
    """Return the assignment of `precision` to every group.

    A group without it gets its nearest higher one: at least as many bits in both widths, the fewest bit operations
    among those; its highest where none is as high in both. Such groups are reported, but not one whose only difference
    is a width that it does not have (32 beside a quantized width: it has no weights, or no activations).
    """
    assignment = {group: _nearest(options, precision) for group, options in problem.options.items()}
    replaced = {group: got for group, got in assignment.items() if not _same(got, precision)}
    return Uniform(precision, assignment, replaced)


def _nearest(options: Sequence[Option], wanted: Precision) -> Precision:
    higher = [
        option.precision
        for option in options
        if option.precision.weight_bits >= wanted.weight_bits
        and option.precision.activation_bits >= wanted.activation_bits
    ]
    return min(higher, key=lambda each: (each.weight_bits * each.activation_bits, each), default=options[0].precision)


def _same(got: Precision, wanted: Precision) -> bool:
    if got == FP32:
        return wanted == FP32
    return all(one in (other, FLOAT_BITS) for one, other in zip(got, wanted, strict=True))
