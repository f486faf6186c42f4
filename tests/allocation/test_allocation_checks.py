from __future__ import annotations

import math

import pytest
from random_problems import option, random_problem

from veriquant.allocation import Problem, additivity, kendall_tau, uniform
from veriquant.allocation.limits import figure, holds
from veriquant.simulation.precision import FP32, Precision

W4A8, W8A8, W8A16 = (Precision.parse(text) for text in ("W4A8", "W8A8", "W8A16"))


def test_kendalls_tau_by_hand() -> None:
    one = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert kendall_tau(one, {k: 10 * v for k, v in one.items()}).tau == pytest.approx(1)
    assert kendall_tau(one, {k: -v for k, v in one.items()}).tau == pytest.approx(-1)
    # One of the six pairs is the other way round: (5 − 1) / 6.
    assert kendall_tau(one, {"a": 1.0, "b": 2.0, "c": 4.0, "d": 3.0}).tau == pytest.approx(4 / 6)


def test_only_common_entries_that_are_numbers_count_and_infinite_ones_have_their_place() -> None:
    one = {"a": -math.inf, "b": 2.0, "c": 3.0, "gone": 0.0, "nan": math.nan}
    other = {"c": 9.0, "b": 5.0, "a": 1.0, "new": 3.0, "nan": 1.0}
    found = kendall_tau(one, other)
    assert found.entries == 3
    assert found.tau == pytest.approx(1)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "fewer than two"),
        ({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}, "all entries equal"),
    ],
)
def test_where_there_is_no_order_there_is_no_tau(one: dict[str, float], other: dict[str, float], why: str) -> None:
    found = kendall_tau(one, other)
    assert found.tau is None
    assert why in found.note


@pytest.mark.parametrize(
    ("share", "adds_up", "words"),
    [
        (1.0, True, "Layers add up"),
        (0.51, True, "Layers add up"),
        (1.99, True, "Layers add up"),
        (0.4, False, "errors of different layers cancel"),
        (3.0, False, "errors of different layers reinforce one another"),
        (math.nan, False, "no numbers"),
    ],
)
def test_whether_layers_add_up_is_told_in_words(share: float, adds_up: bool, words: str) -> None:
    problem = random_problem(0, 5)
    assignment = dict.fromkeys(problem.options, W8A8)
    found = additivity(problem, assignment, share * problem.noise(assignment))
    assert found.predicted == problem.noise(assignment)
    assert found.adds_up is adds_up
    assert words in found.sentence
    assert ("sum that does not hold" in found.sentence) is not adds_up


def test_adding_up_from_nothing() -> None:
    problem = Problem({"a": (option("FP32", 0.0, 1),)}, {}, {})
    assert additivity(problem, {"a": FP32}, 0.0).adds_up
    assert additivity(problem, {"a": FP32}, 0.1).ratio == math.inf


def test_uniform_precision_and_what_stands_in_for_it() -> None:
    everything = tuple(option(text, 0.1, 1) for text in ("W8A16", "W8A8", "W4A8"))
    problem = Problem(
        {
            "all": everything,
            "no four": everything[:2],
            "float": (option("FP32", 0.0, 1),),
            "no weights": (option("W32A16", 0.0, 1), option("W32A8", 0.0, 1)),
            "lower only": (option("W8A4", 0.1, 1), option("W4A4", 0.1, 1)),
        },
        {},
        {},
    )
    found = uniform(problem, W4A8)
    assert found.assignment == {
        "all": W4A8, "no four": W8A8, "float": FP32, "no weights": Precision(32, 8), "lower only": Precision(8, 4),
    }  # fmt: skip
    assert set(found.replaced) == {"no four", "float", "lower only"}
    assert found.sentence.startswith("3 of 5 groups have no W4A8")


def test_the_nearest_higher_precision_has_the_fewest_bit_operations() -> None:
    own = tuple(option(text, 0.1, 1) for text in ("W8A16", "W8A8", "W6A8", "W8A6", "W4A4"))
    assert uniform(Problem({"a": own}, {}, {}), Precision(6, 6)).assignment == {"a": Precision(6, 8)}
    assert uniform(Problem({"a": own}, {}, {}), Precision(5, 10)).assignment == {"a": W8A16}


def test_uniform_precision_that_all_groups_have_replaces_nothing() -> None:
    found = uniform(random_problem(0, 4), W8A16)
    assert not found.replaced
    assert found.sentence == "all 4 groups have W8A16"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("bops", 0.5, "0.5"),
        ("bops", 0.25 + 1e-16, "0.25"),
        ("bops", 0.12345649, "0.123457"),
        ("bops", 2.5e-7, "2.5e-07"),
        ("bytes", 1234.2, "1235"),
        ("bytes", 1234.0, "1234"),
        ("bops", 0.0, "0"),
    ],
)
def test_a_figure_in_an_error_is_one_that_can_be_met(name: str, value: float, text: str) -> None:
    assert figure(name, value) == text
    assert holds(value, float(text))
