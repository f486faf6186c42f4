from __future__ import annotations

import numpy as np
import pytest
from random_problems import GENERIC, WIDE, option, random_problem

from veriquant.allocation import Problem, Step, greedy
from veriquant.errors import VeriQuantError
from veriquant.simulation.precision import Precision

W8A16, W8A8, W4A8, W6A6 = (Precision.parse(text) for text in ("W8A16", "W8A8", "W4A8", "W6A6"))


def by_hand() -> Problem:
    """Order of the list: b W8A8 (50 dB), a W8A8 (40), b W4A8 (30), c W8A8 (20), a W4A8 (10), c W4A8 (5)."""
    return Problem(
        {
            "a": (option("W8A16", 1e-6, 10), option("W8A8", 1e-4, 10), option("W4A8", 1e-1, 10)),
            "b": (option("W8A16", 1e-7, 20), option("W8A8", 1e-5, 20), option("W4A8", 1e-3, 20)),
            "c": (option("W8A16", 1e-3, 5), option("W8A8", 1e-2, 5), option("W4A8", 10**-0.5, 5)),
        },
        {"bops": 0.0},
        {"bops": 35 * 128.0},
    )


def test_a_walk_by_hand() -> None:
    found = greedy(by_hand())
    wanted = [("b", W8A8), ("a", W8A8), ("b", W4A8), ("c", W8A8), ("a", W4A8), ("c", W4A8)]
    assert found.steps == tuple(Step(*each) for each in wanted)
    assert found.skipped == ()
    assert found.assignment(0) == {"a": W8A16, "b": W8A16, "c": W8A16}
    assert found.assignment(3) == {"a": W8A8, "b": W4A8, "c": W8A16}
    assert found.assignment(found.last) == {"a": W4A8, "b": W4A8, "c": W4A8}
    bops = np.array([35 * 128, 15 * 128 + 20 * 64, 5 * 128 + 30 * 64, 5 * 128 + 10 * 64 + 20 * 32])
    assert found.costs("bops")[:4] == pytest.approx(bops / (35 * 128))
    assert found.costs("bops")[-1] == 0.25
    assert found.noises()[:2] == pytest.approx([1e-6 + 1e-7 + 1e-3, 1e-6 + 1e-5 + 1e-3])


@pytest.mark.parametrize("names", [GENERIC, WIDE])
@pytest.mark.parametrize("seed", range(5))
def test_costs_and_noises_are_those_of_the_assignments_and_costs_never_rise(seed: int, names: str) -> None:
    problem = random_problem(seed, 12, names, spread=10)
    found = greedy(problem)
    assert len(found.steps) + len(found.skipped) == sum(len(options) - 1 for options in problem.options.values())
    for position in range(found.last + 1):
        assignment = found.assignment(position)
        for name in ("bops", "bytes"):
            assert found.costs(name)[position] == pytest.approx(problem.cost(assignment, name), rel=1e-12)
        assert found.noises()[position] == pytest.approx(problem.noise(assignment), rel=1e-12)
    assert (np.diff(found.costs("bops")) <= 0).all()
    cheapest = sum(min(each.cost["bops"] for each in options) for options in problem.options.values())
    assert found.costs("bops")[-1] == pytest.approx(cheapest / problem.unit["bops"])


def test_of_two_entries_that_do_not_dominate_only_the_saving_one_follows() -> None:
    head = option("W8A16", 0.0, 1, 8)
    narrow, square = option("W4A8", 0.01, 1, 8), option("W6A6", 0.1, 1, 8)
    found = greedy(Problem({"a": (head, square, narrow)}, {}, {}))
    assert found.steps == (Step("a", W4A8),)
    assert found.skipped == (Step("a", W6A6),)
    # The other way round the square one is less harmful, and the narrow one, with fewer BOPs, replaces it.
    narrow, square = option("W4A8", 0.1, 1, 8), option("W6A6", 0.01, 1, 8)
    assert greedy(Problem({"a": (head, square, narrow)}, {}, {})).steps == (Step("a", W6A6), Step("a", W4A8))


def test_as_many_bops_in_another_shape_are_no_step() -> None:
    options = (option("W8A16", 0.0, 1), option("W8A6", 0.01, 1), option("W6A8", 0.1, 1))
    assert greedy(Problem({"a": options}, {}, {})).steps == (Step("a", Precision(8, 6)),)


def test_a_group_without_operations_goes_down_too() -> None:
    options = (option("W8A16", 0.0, 0), option("W8A8", 0.01, 0), option("W4A8", 0.1, 0))
    assert greedy(Problem({"add": options}, {}, {})).steps == (Step("add", W8A8), Step("add", W4A8))


def test_equal_orders_go_by_saving_and_then_by_name_whatever_the_order_of_the_groups() -> None:
    def own(macs: float) -> tuple:
        return (option("W8A16", 0.0, macs), option("W8A8", 0.01, macs))

    groups = {"b": own(10), "a": own(10), "big": own(99)}
    wanted = (Step("big", W8A8), Step("a", W8A8), Step("b", W8A8))
    assert greedy(Problem(groups, {}, {})).steps == wanted
    assert greedy(Problem(dict(reversed(groups.items())), {}, {})).steps == wanted


def test_the_first_position_within_limits() -> None:
    found = greedy(by_hand())
    assert found.first_within({"bops": 1.0}) == 0
    assert found.first_within({"bops": 0.25}) == found.last
    position = found.first_within({"bops": 0.5})
    assert found.costs("bops")[position] <= 0.5 < found.costs("bops")[position - 1]


def test_a_limit_out_of_reach_names_the_least_cost() -> None:
    with pytest.raises(VeriQuantError, match=r"no assignment meets bops=0\.2: .* bops=0\.25;"):
        greedy(by_hand()).first_within({"bops": 0.2})


def test_a_limit_that_only_other_assignments_meet_is_told_apart() -> None:
    """The walk by BOPs ends at W4A8; the fewest bytes are at W2A16, which has as many BOPs and stands elsewhere."""
    options = (option("W8A16", 0.0, 1, 8), option("W4A8", 0.01, 1, 8), option("W2A16", 0.1, 1, 8))
    problem = Problem({"a": options}, {}, {})
    with pytest.raises(VeriQuantError, match="no position of the walk by bops meets bytes=2, although other"):
        greedy(problem).first_within({"bytes": 2})
    assert greedy(problem, "bytes").first_within({"bytes": 2}) == 2


def test_a_sensitivity_that_is_no_number_and_an_unknown_cost_are_errors() -> None:
    options = (option("W8A16", 0.0, 1), option("W8A8", 0.1, 1, order=float("nan")))
    with pytest.raises(VeriQuantError, match="group 'a' at W8A8"):
        greedy(Problem({"a": options}, {}, {}))
    with pytest.raises(VeriQuantError, match=r"cost 'latency' was not computed .* bops, bytes"):
        greedy(by_hand(), "latency")


@pytest.mark.parametrize("position", [-1, 7])
def test_a_position_beyond_the_walk_is_our_own_mistake(position: int) -> None:
    with pytest.raises(ValueError, match="walk of 6 steps"):
        greedy(by_hand()).assignment(position)
