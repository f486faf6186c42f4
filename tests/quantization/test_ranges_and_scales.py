from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from veriquant.exports.saturation import channel_scales

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
