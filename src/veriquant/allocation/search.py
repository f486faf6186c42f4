"""How far down a walk the measured score still meets a target: sequential, binary, and binary + interpolation search.

A score is an evaluation of the whole network, so what counts is how few there are (Pandey et al., 3.6 and Table 5).
The two fast searches assume that scores fall along the walk. Measured scores wobble: see `Found.monotone`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from veriquant.registry import Registry

Progress = Callable[[int, float], None]
"""Called with a position and its score after each evaluation."""

SLACK = 2
"""How many evaluations more than binary search the interpolation may take at worst."""
BISECTIONS = 2
"""Halvings before interpolating: the curve is cut into four (Pandey et al., 3.6)."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    `position`: the farthest one whose measured score meets the target, None where not even position 0 does. `scores`:
    every evaluation by position. `monotone`: False where the evaluated scores got better along the walk by more than
    the tolerance, or met the target again after missing it; then positions that were not evaluated may meet it too.
    `note`: the same in plain words.
    """

    position: int | None
    scores: dict[int, float]
    monotone: bool
    note: str


class Search(Protocol):
    """A search over the positions 0 … `last` of a walk."""

    def __call__(
        self,
        last: int,
        score: Callable[[int], float],
        target: float,
        *,
        higher_is_better: bool = True,
        on_progress: Progress | None = None,
        tolerance: float = 1e-3,
    ) -> Found:
        """Return the farthest position found whose score meets `target`; no position is evaluated twice.

        `score` must give the same value for the same position; NaN never meets a target. A score at least as good as
        the target meets it. `tolerance`: a rise up to this much (a fraction) passes for noise.
        """


SEARCHES: Registry[Search] = Registry("search")


@dataclass
class _Curve:
    """The curve as far as it was evaluated; inside, more is better."""

    score: Callable[[int], float]
    target: float
    sign: float
    on_progress: Progress | None
    scores: dict[int, float] = field(default_factory=dict)

    def surplus(self, position: int) -> float:
        """Return by how much the score at a position beats the target, negative where it misses it."""
        if position not in self.scores:
            self.scores[position] = float(self.score(position))
            if self.on_progress is not None:
                self.on_progress(position, self.scores[position])
        return self.sign * (self.scores[position] - self.target)

    def meets(self, position: int) -> bool:
        # Compared as they are: a difference could round a miss to nothing.
        self.surplus(position)
        return self.known_to_meet(position)

    def known_to_meet(self, position: int) -> bool:
        return self.sign * self.scores[position] >= self.sign * self.target

    def next_miss(self, position: int) -> int:
        """Return the nearest evaluated position beyond `position` that misses the target; there is one."""
        return min(each for each in self.scores if each > position and not self.known_to_meet(each))


_Walked = Callable[["_Curve", int], int | None]
"""From a curve and its last position to the farthest position that meets the target, None where none does."""


def _search(walked: _Walked) -> Search:
    """Return the search that goes along the curve as `walked` does."""

    def search(
        last: int,
        score: Callable[[int], float],
        target: float,
        *,
        higher_is_better: bool = True,
        on_progress: Progress | None = None,
        tolerance: float = 1e-3,
    ) -> Found:
        curve = _Curve(score, target, 1.0 if higher_is_better else -1.0, on_progress)
        return _found(curve, walked(curve, last), last, tolerance)

    return search


def _sequential(curve: _Curve, last: int) -> int | None:
    """Go on one flip at a time to the last position before the first violation (Algorithm 1); look no farther."""
    position = 0
    while position <= last and curve.meets(position):
        position += 1
    return position - 1 if position else None


def _binary(curve: _Curve, last: int) -> int | None:
    """Halve the stretch between a position that meets the target and one that misses it: 3 + log2(last) evaluations.

    The answer is then checked against the position behind its miss (see `_verified`).
    """
    return _farthest(curve, last, _bisect)


def _binary_interpolation(curve: _Curve, last: int) -> int | None:
    """Halve twice, then guess where the straight line between the two ends crosses the target (Pandey et al., Fig. 1).

    Never takes more than `SLACK` evaluations more than `_binary` does at worst.
    """
    return _farthest(curve, last, _bisect_then_interpolate)


SEARCHES.add("sequential", _search(_sequential))
SEARCHES.add("binary", _search(_binary))
SEARCHES.add("binary+interpolation", _search(_binary_interpolation))

_Narrow = Callable[[_Curve, int, int], int]
"""From a position that meets the target and a later one that misses it to one that meets it just before a miss."""


def _farthest(curve: _Curve, last: int, narrow: _Narrow) -> int | None:
    if not curve.meets(0):
        return None
    if last == 0 or curve.meets(last):
        return last
    return _verified(curve, last, narrow(curve, 0, last), narrow)


def _bisect(curve: _Curve, met: int, missed: int) -> int:
    while missed - met > 1:
        middle = (met + missed) // 2
        met, missed = (middle, missed) if curve.meets(middle) else (met, middle)
    return met


def _bisect_then_interpolate(curve: _Curve, met: int, missed: int) -> int:
    for _ in range(BISECTIONS):
        if missed - met > 1:
            middle = (met + missed) // 2
            met, missed = (middle, missed) if curve.meets(middle) else (met, middle)
    # Plain interpolation crawls where the curve is a cliff. As in the ITP method (Oliveira and Takahashi, 2020) a guess
    # is pulled so far to the middle that what is left can still be halved to nothing within the evaluations allowed.
    allowed = SLACK + math.ceil(math.log2(missed - met))
    while missed - met > 1:
        allowed -= 1
        reach = 2**allowed
        guess = min(max(_crossing(curve, met, missed), missed - reach, met + 1), met + reach, missed - 1)
        met, missed = (guess, missed) if curve.meets(guess) else (met, guess)
    return met


def _crossing(curve: _Curve, met: int, missed: int) -> int:
    """Return the last position at which the straight line between two evaluated ones still meets the target."""
    above, below = curve.surplus(met), curve.surplus(missed)
    fall = above - below
    if not (math.isfinite(fall) and fall > 0):
        return (met + missed) // 2
    return met + math.floor(above / fall * (missed - met))


def _verified(curve: _Curve, last: int, position: int, narrow: _Narrow) -> int:
    """Look one position beyond the miss that ended the search; where that one meets the target, search on from it.

    The last position of the walk is known to miss. A single dip thus does not end the search. Rounds are limited, for
    on a curve that is all noise this could evaluate every position: what is left open then shows in `Found.monotone`.
    """
    for _ in range(2 + last.bit_length()):
        beyond = position + 2
        if beyond > last or not curve.meets(beyond):
            break
        position = narrow(curve, beyond, curve.next_miss(beyond))
    return position


def _found(curve: _Curve, position: int | None, last: int, tolerance: float) -> Found:
    where = sorted(curve.scores)
    counted = f"{len(where)} of {last + 1} positions evaluated"
    rise = _largest_rise(curve, where)
    again = _met_again(curve, where)
    told = [] if position is not None else ["not even the start of the walk meets the target"]
    monotone = again is None and (rise is None or rise[2] <= tolerance)
    if again is not None:
        told.append(
            f"scores are not monotone: position {again[0]} misses the target ({curve.scores[again[0]]:.6g}) and "
            f"position {again[1]} meets it ({curve.scores[again[1]]:.6g}); the answer was measured, but farther ones "
            "may meet it"
        )
    elif rise is not None and not monotone:
        told.append(
            f"scores are not monotone: {curve.scores[rise[0]]:.6g} at position {rise[0]}, better at position {rise[1]} "
            f"({curve.scores[rise[1]]:.6g}); the answer was measured, but farther ones may meet the target"
        )
    elif len(where) > 1:
        told.append(f"no score evaluated is better than an earlier one by more than {tolerance:g}")
    return Found(position, {each: curve.scores[each] for each in where}, monotone, "; ".join([counted, *told]))


def _largest_rise(curve: _Curve, where: list[int]) -> tuple[int, int, float] | None:
    """Return the two positions between which the score got better by most, and by how much; None without a rise."""
    largest: tuple[int, int, float] | None = None
    worst: int | None = None
    for each in where:
        value = curve.surplus(each)
        if math.isnan(value):
            continue
        if worst is None or value < curve.surplus(worst):
            worst = each
        elif value - curve.surplus(worst) > (largest[2] if largest else 0.0):
            largest = (worst, each, value - curve.surplus(worst))
    return largest


def _met_again(curve: _Curve, where: list[int]) -> tuple[int, int] | None:
    """Return a position that misses the target and a later one that meets it; None where there are none."""
    misses = [each for each in where if not curve.known_to_meet(each)]
    meets = [each for each in where if curve.known_to_meet(each)]
    if misses and meets and misses[0] < meets[-1]:
        return misses[0], meets[-1]
    return None
