"""Do two sensitivity lists agree, and do the noises of single groups add up to the noise of all together?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from scipy.stats import kendalltau

from veriquant.allocation.problem import Assignment, Problem

Key = TypeVar("Key", bound=Hashable)
NOTHING = 1e-9
"""A noise-to-signal ratio that float32 arithmetic alone makes over some dozen layers."""
ADD_UP = (0.5, 2.0)
"""The measured over the predicted noise within which layers are said to add up: 3 dB either way."""


@dataclass(frozen=True)
class Agreement:
    """`tau`: Kendall's tau-b in [-1, 1], None where there is no order to compare, and `note` says why.

    `entries`: how many entries both lists have.
    """

    tau: float | None
    entries: int
    note: str = ""


def kendall_tau(one: Mapping[Key, float], other: Mapping[Key, float]) -> Agreement:
    """Return how far two lists put their common entries in the same order (Pandey et al., 4.2.2).

    The lists map an entry, such as (group, precision), to what it is sorted by; in both, greater must mean less
    harmful. Ties are counted as tau-b does; an entry that is no number in either list is left out.
    """
    common = [key for key in one if key in other and not math.isnan(one[key]) and not math.isnan(other[key])]
    first, second = [one[key] for key in common], [other[key] for key in common]
    if len(common) < 2:
        return Agreement(None, len(common), "fewer than two entries stand in both lists")
    if len(set(first)) == 1 or len(set(second)) == 1:
        return Agreement(None, len(common), "one of the lists calls all entries equal")
    return Agreement(float(kendalltau(first, second).statistic), len(common))


@dataclass(frozen=True)
class Additivity:
    """The joint check: noise-to-signal ratio `predicted` (the sum over groups) against the one `measured` jointly.

    `ratio` is measured over predicted; `adds_up` tells whether it lies within `ADD_UP`.
    """

    predicted: float
    measured: float
    ratio: float
    adds_up: bool
    sentence: str


def additivity(problem: Problem, assignment: Assignment, measured_noise: float) -> Additivity:
    """Compare the sum of the noises of single groups with the noise measured with all groups quantized together.

    Both are noise-to-signal ratios at the network's output, 10^(−SQNR/10). The integer programme minimises that sum, so
    its optimum is one of the network only as far as the sum holds.
    """
    predicted = problem.noise(assignment)
    if max(predicted, measured_noise) < NOTHING:
        sentence = "There is no noise to speak of, so nothing to add up."
        return Additivity(predicted, measured_noise, 1.0, True, sentence)
    both_silent = predicted == 0 and measured_noise == 0
    ratio = 1.0 if both_silent else measured_noise / predicted if predicted else math.inf
    low, high = ADD_UP
    told = f"measured together {measured_noise:.3g}, sum of single groups {predicted:.3g}"
    if low <= ratio <= high:
        return Additivity(
            predicted, measured_noise, ratio, True, f"Layers add up: noise {told} (ratio {ratio:.2f})."
        )  # fmt: skip
    what = "reinforce one another" if ratio > high else "cancel" if ratio < low else "are no numbers"
    sentence = (
        f"Layers do not add up: noise {told} (ratio {ratio:.3g}): errors of different layers {what}; the integer "
        "programme's optimum rests on a sum that does not hold here, so trust measured scores over it."
    )
    return Additivity(predicted, measured_noise, ratio, False, sentence)
