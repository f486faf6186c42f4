from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from veriquant.allocation import SEARCHES

FAST = [name for name in SEARCHES if name != "sequential"]
Curve = Callable[[int], float]


class Counted:
    """A curve that counts how often it is asked."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.asked: list[int] = []

    def __call__(self, position: int) -> float:
        self.asked.append(position)
        return self.curve(position)


def falling(last: int, seed: int) -> np.ndarray:
    """A score that falls at random, never rising."""
    rng = np.random.default_rng(seed)
    return 1 - np.cumsum(rng.gamma(0.2, size=last + 1)) / (last + 1)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("last", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("seed", range(5))
def test_every_search_finds_the_farthest_position_of_a_falling_curve(name: str, last: int, seed: int) -> None:
    curve = falling(last, seed)
    for target in [curve.max() + 1, curve.min() - 1, *curve[:: max(1, last // 5)], curve.mean()]:
        score = Counted(lambda k: float(curve[k]))
        found = SEARCHES.get(name)(last, score, float(target))
        met = np.flatnonzero(curve >= target)
        assert found.position == (met[-1] if len(met) else None)
        assert found.monotone
        assert len(score.asked) == len(set(score.asked))
        assert found.scores == {k: curve[k] for k in sorted(score.asked)}
        if found.position is not None and found.position < last and name != "sequential":
            assert found.position + 1 in found.scores


@pytest.mark.parametrize("name", SEARCHES)
def test_scores_that_are_errors_are_searched_the_other_way(name: str) -> None:
    curve = 0.001 * np.arange(50)
    found = SEARCHES.get(name)(49, lambda k: float(curve[k]), 0.0205, higher_is_better=False)
    assert found.position == 20
    assert found.monotone


SHAPES: dict[str, Curve] = {
    "straight": lambda x: 1 - x,
    "cliff": lambda x: 0.99 - 0.001 * x if x < 0.83 else 0.1,
    "late fall": lambda x: 1 - x**8,
    "early fall": lambda x: math.exp(-30 * x),
    "steps": lambda x: 1 - math.floor(10 * x) / 10,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [50, 300, 2000])
def test_how_many_evaluations_a_search_takes(shape: str, last: int) -> None:
    """Both ends, the halvings, and one look beyond; interpolation at worst two more."""
    for target in (0.985, 0.95, 0.7, 0.35):
        counts = {
            name: len(SEARCHES.get(name)(last, lambda k: SHAPES[shape](k / last), target).scores) for name in SEARCHES
        }
        most = 3 + math.ceil(math.log2(last))
        assert counts["binary"] <= most
        assert counts["binary+interpolation"] <= most + 2
        answer = SEARCHES.get("sequential")(last, lambda k: SHAPES[shape](k / last), target).position
        assert counts["sequential"] == (answer or 0) + 2


def test_interpolation_needs_fewer_evaluations_on_a_straight_curve() -> None:
    taken = {name: len(SEARCHES.get(name)(2000, lambda k: 1 - k / 2000, 0.6123).scores) for name in FAST}
    assert taken["binary+interpolation"] <= 8 < taken["binary"]


@pytest.mark.parametrize("name", FAST)
def test_a_single_dip_does_not_end_a_search(name: str) -> None:
    """Everything up to 90 meets the target but 50 and 67, where a search looks first."""
    found = SEARCHES.get(name)(100, lambda k: 0.5 if k in (50, 67) else 1 - 0.001 * k, 0.91)
    assert found.position == 90
    assert not found.monotone
    assert "not monotone" in found.note


def test_sequential_search_stops_at_the_first_violation() -> None:
    found = SEARCHES.get("sequential")(100, lambda k: 0.5 if k == 50 else 1.0, 0.9)
    assert found.position == 49
    assert max(found.scores) == 50


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("seed", range(20))
def test_on_noisy_curves_the_answer_meets_the_target_and_the_next_one_does_not(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve = 1 - np.arange(201) / 200 + rng.normal(0, 0.05, 201)
    target = 0.6
    found = SEARCHES.get(name)(200, lambda k: float(curve[k]), target)
    met = [k for k, score in found.scores.items() if score >= target]
    assert found.position == max(met, default=None)
    if found.position is not None and found.position < 200:
        assert found.scores[found.position + 1] < target
    assert all(found.scores[k] == curve[k] for k in found.scores)
    if name != "sequential":
        assert len(found.scores) < 100


@pytest.mark.parametrize("name", SEARCHES)
def test_a_rise_beyond_the_tolerance_is_told_and_one_below_is_not(name: str) -> None:
    def curve(k: int) -> float:
        return 0.9 + (0.01 if k == 16 else 0.0) if k <= 20 else 0.1

    search = SEARCHES.get(name)
    found = search(32, curve, 0.8)
    assert found.position == 20
    assert not found.monotone
    assert "0.9 at position 0, better at position 16" in found.note
    assert search(32, curve, 0.8, tolerance=0.02).monotone


@pytest.mark.parametrize("name", SEARCHES)
def test_a_start_that_fails_is_no_position_and_ends_the_search(name: str) -> None:
    found = SEARCHES.get(name)(100, lambda k: 1.0 if k else 0.0, 0.5)
    assert found.position is None
    assert list(found.scores) == [0]
    assert "not even the start" in found.note


@pytest.mark.parametrize("name", SEARCHES)
def test_no_number_never_meets_a_target(name: str) -> None:
    found = SEARCHES.get(name)(40, lambda k: 1.0 if k <= 13 else math.nan, 0.5)
    assert found.position == 13


@pytest.mark.parametrize("name", SEARCHES)
def test_progress_is_told_once_an_evaluation(name: str) -> None:
    told: list[tuple[int, float]] = []
    found = SEARCHES.get(name)(60, lambda k: 1 - k / 60, 0.5, on_progress=lambda k, score: told.append((k, score)))
    assert sorted(told) == sorted(found.scores.items())
