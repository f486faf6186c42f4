from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from veriquant.quantization.ranges import BINS, RULES, Histogram, least_error
from veriquant.quantization.saturation import channel_scales


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_stays_within_what_was_seen(rule: str) -> None:
    values = np.random.default_rng(0).standard_normal(20_000)
    low, high = RULES[rule](histogram(values))
    assert values.min() - 1e-6 <= low < high <= values.max() + 1e-6


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_constant_tensor_has_a_range(rule: str) -> None:
    assert RULES[rule](Histogram(0.5, 0.5, np.zeros(BINS, dtype=np.int64))) == (0.5, 0.5)


def test_least_error_is_better_than_the_extremes_on_a_heavy_tail() -> None:
    values = np.random.default_rng(1).standard_t(3, 50_000)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(np.mean((np.clip(np.round((values - low) / step), 0, 255) * step + low - values) ** 2))

    chosen = least_error(histogram(values))
    assert error(*chosen) < error(values.min(), values.max())
    grid = [
        error(a * values.min(), b * values.max()) for a in np.linspace(0.05, 1, 25) for b in np.linspace(0.05, 1, 25)
    ]
    assert error(*chosen) < 1.1 * min(grid)


weights = st.integers(1, 4).flatmap(
    lambda outputs: st.integers(1, 7).flatmap(
        lambda ins: arrays(np.float32, (outputs, ins, 3), elements=st.floats(-4, 4, width=32, allow_subnormal=False))
    )
)


@given(weights)
@settings(max_examples=60, deadline=None)
def test_no_pair_of_rounded_weights_can_saturate(weight: np.ndarray) -> None:
    codes = np.round(weight / channel_scales(weight)[:, None, None])
    assert np.abs(codes).max(initial=0) <= 127
    for order in (codes, np.moveaxis(codes, 1, -1)):
        row = np.abs(order.reshape(len(codes), -1))
        row = np.pad(row, ((0, 0), (0, row.shape[1] % 2)))
        assert 255 * (row[:, 0::2] + row[:, 1::2]).max(initial=0) <= 32767


def test_a_channel_without_a_large_pair_keeps_all_its_levels() -> None:
    weight = np.zeros((1, 8), dtype=np.float32)
    weight[0, [0, 2, 4]] = 1.0, -0.5, 0.25
    assert np.abs(np.round(weight / channel_scales(weight)[:, None])).max() == 127
