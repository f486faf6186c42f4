"""The iterative magnitude mask."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from veriquant.allocation.magnitude import MaskState, average_bits, halve_least
from veriquant.errors import VeriQuantError


def some_weights(seed: int = 0) -> dict[str, Tensor]:
    """2**14 weights in three layers of different sizes of weights."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"stem": (64, 4, 4, 4), "middle": (128, 64), "last": (64, 64)}
    sizes = {"stem": 3.0, "middle": 1.0, "last": 0.3}
    return {name: torch.randn(shape, generator=draw) * sizes[name] for name, shape in shapes.items()}


def states(weights: dict[str, Tensor]) -> list[MaskState]:
    found = [MaskState.first(weights)]
    while found[-1].iteration < 12:
        found.append(found[-1].next(weights))
    return found


def test_with_frozen_magnitudes_the_averages_are_those_that_the_rule_implies() -> None:
    averages = [state.average for state in states(some_weights())]
    assert averages == [8, 6, 5, 4, 3.5, 3, 2.75, 2.5, 2.375, 2.25, 2.1875, 2]


def test_twelve_iterations_count_from_one_and_the_last_has_two_bits_throughout() -> None:
    found = states(some_weights())
    assert [state.iteration for state in found] == list(range(1, 13))
    assert all(bool((each == 2).all()) for each in found[-1].widths.values())
    with pytest.raises(VeriQuantError, match="iteration 12 of 12 was the last"):
        found[-1].next(some_weights())


def test_the_ranking_is_over_all_layers_together() -> None:
    averages = states(some_weights())[2].by_layer()
    assert averages["last"] < averages["middle"] < averages["stem"]
    assert averages["last"] < 4
    assert averages["stem"] > 6.5


def test_widths_order_as_magnitudes_do_while_these_are_frozen() -> None:
    weights = some_weights()
    magnitudes = torch.cat([each.abs().flatten() for each in weights.values()])
    order = magnitudes.argsort()
    for state in states(weights):
        widths = torch.cat([each.flatten() for each in state.widths.values()])[order].int()
        assert (widths.diff() >= 0).all()


def test_magnitudes_that_change_only_move_weights_above_two_bits() -> None:
    state = MaskState.first(some_weights())
    for seed in range(1, 9):
        after = state.next(some_weights(seed))
        for name, before in state.widths.items():
            now = after.widths[name]
            assert ((now == before) | (now == before // 2)).all()
            assert (now[before == 2] == 2).all()
        state = after
    assert state.iteration == 9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([2, 4, 8]), st.integers(0, 3)), min_size=1, max_size=40),
    st.floats(0.01, 1),
    st.integers(0, 40),
)
def test_exactly_the_share_is_halved_and_it_is_the_least(drawn: list[tuple[int, int]], share: float, cut: int) -> None:
    """Few distinct magnitudes: ties everywhere."""
    widths = torch.tensor([each[0] for each in drawn], dtype=torch.uint8)
    weights = -torch.tensor([each[1] for each in drawn]).float()
    split = [min(cut, len(drawn)), len(drawn) - min(cut, len(drawn))]
    named = (dict(zip(("a", "b"), each.split(split), strict=True)) for each in (widths, weights))
    halved = torch.cat(list(halve_least(*named, share).values()))
    moved = halved != widths
    open_ones = widths > 2
    # As exact as the product of two floats is.
    assert abs(int(moved.sum()) - share * int(open_ones.sum())) < 1 + 1e-9
    assert int(moved.sum()) >= share * int(open_ones.sum()) - 1e-9
    assert (halved[moved] == widths[moved] // 2).all()
    if moved.any() and (open_ones & ~moved).any():
        magnitude = weights.abs()
        greatest, least = magnitude[moved].max(), magnitude[open_ones & ~moved].min()
        assert greatest <= least
        # Of equal ones the first.
        ties = torch.nonzero(open_ones & (magnitude == greatest)).flatten()
        assert all(bool(one) >= bool(other) for one, other in pairwise(moved[ties]))


def test_where_one_weight_is_left_it_is_halved_in_the_end() -> None:
    widths = {"only": torch.tensor([8, 2], dtype=torch.uint8)}
    weights = {"only": torch.tensor([0.1, -3.0])}
    once = halve_least(widths, weights)
    twice = halve_least(once, weights)
    assert once["only"].tolist() == [4, 2]
    assert twice["only"].tolist() == [2, 2]
    assert halve_least(twice, weights)["only"].tolist() == [2, 2]
    assert widths["only"].tolist() == [8, 2]


def test_odd_widths_are_halved_downwards_and_never_below_the_least() -> None:
    widths = {"w": torch.tensor([7, 6, 5, 3], dtype=torch.uint8)}
    weights = {"w": torch.ones(4)}
    assert halve_least(widths, weights, 1.0)["w"].tolist() == [3, 3, 2, 2]
    assert halve_least(widths, weights, 1.0, least=3)["w"].tolist() == [3, 3, 3, 3]


def test_average_counts_weights_not_layers() -> None:
    widths = {"a": torch.full((3, 5), 8, dtype=torch.uint8), "b": torch.full((5,), 2, dtype=torch.uint8)}
    assert average_bits(widths) == 6.5


def test_what_does_not_fit_is_refused() -> None:
    state = MaskState.first({"conv": torch.ones(2, 3)})
    with pytest.raises(VeriQuantError, match=r"another network: it has conv of shape \(2, 3\), the network has none"):
        state.next({"other": torch.ones(2, 3)})
    with pytest.raises(VeriQuantError, match=r"the network has one of shape \(3, 2\)"):
        state.next({"conv": torch.ones(3, 2)})
    for value in (torch.nan, -torch.inf):
        with pytest.raises(VeriQuantError, match="conv are NaN or infinite"):
            state.next({"conv": torch.full((2, 3), value)})
    with pytest.raises(VeriQuantError, match="share of 0"):
        state.next({"conv": torch.ones(2, 3)}, share=0)
