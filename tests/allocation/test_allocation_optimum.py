from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest
from random_problems import GENERIC, WIDE, assignments, option, random_problem

from veriquant.allocation import Problem, cheapest, front, greedy, hull, least_noise
from veriquant.allocation.limits import TOLERANCE, holds
from veriquant.errors import VeriQuantError
from veriquant.simulation.precision import Precision

SLIGHTLY_MORE = 1 + 1e-9


def scaled(problem: Problem, factor: float) -> Problem:
    """The same problem with every noise multiplied."""
    options = {
        group: tuple(type(each)(each.precision, each.noise * factor, each.order, each.cost) for each in own)
        for group, own in problem.options.items()
    }
    return Problem(options, problem.fixed, problem.unit)


def ends(problem: Problem, cost: str) -> tuple[float, float]:
    costs = [problem.cost(each, cost) for each in assignments(problem)]
    return min(costs), max(costs)


@pytest.mark.parametrize("factor", [1.0, 1e-8, 1e6])
@pytest.mark.parametrize(("groups", "names"), [(6, GENERIC), (3, WIDE)])
@pytest.mark.parametrize("seed", range(4))
def test_the_least_noise_is_that_of_trying_all(seed: int, groups: int, names: str, factor: float) -> None:
    problem = scaled(random_problem(seed, groups, names, spread=8), factor)
    every = [(problem.cost(each, "bops"), problem.noise(each)) for each in assignments(problem)]
    low, high = ends(problem, "bops")
    for limit in (low, low + 0.1 * (high - low), 0.5 * (low + high), high):
        found = least_noise(problem, {"bops": limit})
        assert found.proved
        assert found.costs["bops"] <= limit * SLIGHTLY_MORE
        best = min(noise for cost, noise in every if cost <= limit * SLIGHTLY_MORE)
        assert found.noise == pytest.approx(best, rel=2e-6)
        assert found.noise == problem.noise(found.assignment)
        assert found.costs["bytes"] == problem.cost(found.assignment, "bytes")


@pytest.mark.parametrize("seed", range(6))
def test_two_limits_at_once_match_trying_all(seed: int) -> None:
    problem = random_problem(seed, 6)
    every = [(problem.cost(e, "bops"), problem.cost(e, "bytes"), problem.noise(e)) for e in assignments(problem)]
    bops, size = np.median([each[0] for each in every]), np.quantile([each[1] for each in every], 0.3)
    found = least_noise(problem, {"bops": float(bops), "bytes": float(size)})
    best = min(noise for b, s, noise in every if b <= bops * SLIGHTLY_MORE and s <= size * SLIGHTLY_MORE)
    assert found.noise == pytest.approx(best, rel=2e-6)
    assert found.costs["bops"] <= bops * SLIGHTLY_MORE
    assert found.costs["bytes"] <= size * SLIGHTLY_MORE


@pytest.mark.parametrize("seed", range(6))
def test_the_cheapest_within_a_noise_matches_trying_all(seed: int) -> None:
    problem = random_problem(seed, 6, spread=8)
    every = [(problem.cost(each, "bops"), problem.noise(each)) for each in assignments(problem)]
    limit = float(np.quantile([noise for _, noise in every], 0.2))
    found = cheapest(problem, "bops", limit)
    assert found.noise <= limit * SLIGHTLY_MORE
    assert found.costs["bops"] == pytest.approx(min(cost for cost, noise in every if noise <= limit), rel=2e-6)


def test_the_cheapest_leaves_alone_what_costs_nothing() -> None:
    """Additions cost no BOPs; of half of them 16 bits do the least noise, of the other half, oddly, 8."""
    adds = {f"add{i}": (option("W8A16", i % 2 * 1e-3, 0), option("W8A8", (i + 1) % 2 * 1e-3, 0)) for i in range(12)}
    convolutions = {f"conv{i}": (option("W8A16", 1e-6, 9 + i), option("W8A8", 0.3, 9 + i)) for i in range(6)}
    found = cheapest(Problem({**adds, **convolutions}, {}, {}), "bops", 1.0)
    assert {group for group, precision in found.assignment.items() if precision == Precision(8, 8)} == {
        "add1", "add3", "add5", "add7", "add9", "add11", "conv3", "conv4", "conv5",
    }  # fmt: skip


def test_a_noise_under_a_much_greater_one_is_still_minimised() -> None:
    """One group is fixed at a noise of 100; those of the others are 1e-8 and must be the least all the same."""
    loud = (option("W8A16", 100.0, 1),)
    small = {f"s{i}": (option("W8A16", 1e-10, 1), option("W8A8", (i + 1) * 1e-8, 1)) for i in range(8)}
    problem = Problem({"loud": loud, **small}, {}, {"bops": 9 * 128.0})
    found = least_noise(problem, {"bops": (9 * 128.0 - 3 * 64) / (9 * 128.0)})
    lowered = {group for group, precision in found.assignment.items() if precision == Precision(8, 8)}
    assert lowered == {"s0", "s1", "s2"}


def test_a_ruinous_option_does_not_hide_what_the_others_differ_by() -> None:
    """The cheapest assignment has 1e13 times the least noise that the limit allows."""
    ruinous = (option("W8A16", 0.0, 1), option("W4A8", 1e5, 1))
    small = {f"s{i}": (option("W8A16", 0.0, 1), option("W8A8", (8 - i) * 1e-9, 1)) for i in range(8)}
    problem = Problem({"ruinous": ruinous, **small}, {}, {})
    found = least_noise(problem, {"bops": 9 * 128.0 - 3 * 64})
    assert {group for group, precision in found.assignment.items() if precision == Precision(8, 8)} == {
        "s5",
        "s6",
        "s7",
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_choice_that_only_the_solver_counts_as_within_the_limit_is_not_returned(seed: int) -> None:
    problem = random_problem(seed, 30)
    best = least_noise(problem, {"bops": 0.6})
    # The tolerance of limits now ends just below that choice, by far less than HiGHS would notice.
    limit = best.costs["bops"] / (1 + TOLERANCE) * (1 - 1e-12)
    assert not holds(best.costs["bops"], limit)
    found = least_noise(problem, {"bops": limit})
    assert holds(found.costs["bops"], limit)
    assert best.noise < found.noise < best.noise * 1.1


def test_a_limit_that_is_exactly_uniform_w8a8_is_met() -> None:
    problem = random_problem(3, 40)
    assert least_noise(problem, {"bops": 0.5}).costs["bops"] <= 0.5 * SLIGHTLY_MORE
    least = sum(own[-1].cost["bops"] for own in problem.options.values()) / problem.unit["bops"]
    found = least_noise(problem, {"bops": least})
    assert set(found.assignment.values()) == {Precision(4, 8)}


def test_without_a_limit_in_the_way_every_group_has_its_least_noise() -> None:
    problem = random_problem(5, 30)
    for limits in ({}, {"bops": 1.0}):
        found = least_noise(problem, limits)
        assert found.noise == pytest.approx(sum(min(o.noise for o in own) for own in problem.options.values()))
        assert found.proved


@pytest.mark.parametrize("names", [GENERIC, WIDE])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_never_worse_than_the_walk_at_equal_cost(seed: int, names: str) -> None:
    problem = random_problem(seed, 25, names)
    path = greedy(problem)
    costs, noises = path.costs("bops"), path.noises()
    for position in np.linspace(0, path.last, 7, dtype=int):
        found = least_noise(problem, {"bops": float(costs[position])})
        assert found.noise <= noises[position] * (1 + 2e-6)


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """HiGHS itself prints a line of debugging on some of these."""
    for seed in range(3):
        front(random_problem(seed, 60), "bops", 20)
    ctypes.CDLL(None).fflush(None)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("cost", ["bops", "bytes"])
def test_an_impossible_limit_names_one_that_is_possible(cost: str) -> None:
    problem = random_problem(1, 10)
    with pytest.raises(VeriQuantError, match=f"no assignment meets {cost}=") as error:
        least_noise(problem, {cost: 1e-3})
    named = re.findall(rf"possible is {cost}=([\d.e+-]+);", str(error.value))
    assert least_noise(problem, {cost: float(named[0])}).costs[cost] <= float(named[0]) * SLIGHTLY_MORE
    assert "\n" not in str(error.value)


def test_limits_that_exclude_each_other_name_what_is_possible() -> None:
    """Few bits of weights save bytes, few of activations BOPs: one group can have either."""
    own = (option("W8A16", 0.0, 1, 8), option("W8A4", 0.1, 1, 8), option("W4A16", 0.1, 1, 8))
    problem = Problem({"a": own}, {}, {})
    with pytest.raises(VeriQuantError, match=r"bops=32 and bytes=4: .* with the other limits kept is bops=64;"):
        least_noise(problem, {"bops": 32, "bytes": 4})
    assert least_noise(problem, {"bops": 64, "bytes": 4}).assignment == {"a": Precision(4, 16)}


def test_a_noise_out_of_reach_names_the_least() -> None:
    problem = random_problem(2, 8)
    least = sum(min(o.noise for o in own) for own in problem.options.values())
    with pytest.raises(VeriQuantError, match="the least possible is noise=") as error:
        cheapest(problem, "bops", least / 2)
    assert f"{least:.4g}"[:5] in str(error.value)


def test_options_without_a_finite_noise_are_never_chosen() -> None:
    own = (option("W8A16", 0.1, 1), option("W8A8", np.inf, 1, order=-np.inf), option("W4A8", np.nan, 1, order=-np.inf))
    with np.errstate(invalid="ignore"):
        problem = Problem({"a": own, "b": own[:1]}, {}, {})
    assert least_noise(problem, {}).assignment == {"a": Precision(8, 16), "b": Precision(8, 16)}
    with pytest.raises(VeriQuantError, match="group 'a' has no candidate with a finite noise"):
        least_noise(Problem({"a": own[1:]}, {}, {}), {})


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_the_true_one_at_its_points_and_has_both_ends(seed: int) -> None:
    problem = random_problem(seed, 6, spread=6)
    every = [(problem.cost(each, "bops"), problem.noise(each)) for each in assignments(problem)]
    points = front(problem, "bops", 15)
    costs, noises = [p.cost for p in points], [p.noise for p in points]
    assert (np.diff(costs) > 0).all()
    assert (np.diff(noises) < 0).all()
    assert costs[0] == pytest.approx(min(cost for cost, _ in every))
    assert noises[-1] == pytest.approx(min(noise for _, noise in every))
    for point in points:
        assert point.proved
        assert point.cost == problem.cost(point.assignment, "bops")
        assert point.noise == problem.noise(point.assignment)
        best = min(noise for cost, noise in every if cost <= point.cost * SLIGHTLY_MORE)
        assert point.noise == pytest.approx(best, rel=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_corners_of_the_hull_are_convex_and_lie_below_every_assignment(seed: int) -> None:
    problem = random_problem(seed, 4, WIDE, spread=2)
    corners = hull(problem, "bops")
    costs, noises = np.array([c.cost for c in corners]), np.array([c.noise for c in corners])
    steepness = -np.diff(noises) / np.diff(costs)
    assert (np.diff(steepness) <= 1e-9 * steepness[:-1]).all()
    every = [(problem.cost(each, "bops"), problem.noise(each)) for each in assignments(problem)]
    # Beyond the last corner the line goes on level: no assignment has less noise.
    below = np.interp([cost for cost, _ in every], costs, noises)
    assert (below <= np.array([noise for _, noise in every]) * SLIGHTLY_MORE).all()


def test_the_front_has_exact_points_that_no_price_finds() -> None:
    """Between the two corners of one group lies a third option above the line: only the programme finds it."""
    own = (option("W8A16", 0.0, 1), option("W8A8", 0.9, 1), option("W4A8", 1.0, 1))
    problem = Problem({"a": own}, {}, {})
    assert [point.noise for point in hull(problem, "bops")] == [1.0, 0.0]
    assert [point.noise for point in front(problem, "bops", 9)] == [1.0, 0.9, 0.0]


def test_a_problem_with_nothing_to_choose_has_a_front_of_one_point() -> None:
    problem = Problem({"a": (option("W8A16", 0.1, 1),)}, {}, {})
    assert [(point.cost, point.noise) for point in front(problem, "bops")] == [(128.0, 0.1)]
