from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.schemes import BINS, RULES, AffineQuantizer, Histogram, activation_range, ranges, weight_range
from veriquant.schemes.uniform_grid import WIDTHS


def observed(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


def shapes() -> dict[str, np.ndarray]:
    """Activations as they come out of ReLU, PReLU, a normalisation, and a layer with outliers."""
    draw = np.random.default_rng(0)
    normal = draw.standard_normal(20_000)
    return {
        "relu": np.maximum(normal, 0.0),
        "prelu": np.where(normal < 0, 0.2 * normal, normal),
        "normal": normal,
        "outliers": draw.standard_t(3, 20_000),
        "far from zero": 3.0 + 0.2 * normal,
        "below zero": -np.abs(normal),
    }


SHAPES = shapes()


def error(values: np.ndarray, low: float, high: float, bits: int, symmetric: bool = False) -> float:
    tensor = torch.from_numpy(values).float()
    quantizer = AffineQuantizer.over(torch.tensor(low), torch.tensor(high), bits, symmetric=symmetric)
    return float((quantizer(tensor) - tensor).double().square().mean())


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("rule", RULES)
def test_a_range_holds_zero_and_little_that_was_never_seen(rule: str, bits: int, symmetric: bool) -> None:
    for values in SHAPES.values():
        low, high = activation_range(observed(values), bits, rule, symmetric)
        assert low <= 0.0 <= high
        assert low < high
        if symmetric:
            assert low == -high
            assert high <= np.abs(values).max() * (1 + 1e-9)
        else:
            step = (high - low) / (2**bits - 1)
            assert low >= min(values.min(), 0.0) - 0.51 * step
            assert high <= max(values.max(), 0.0) + 0.51 * step


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_extremes_are_all_that_was_seen(bits: int) -> None:
    values = SHAPES["prelu"]
    assert activation_range(observed(values), bits, "minmax") == (values.min(), values.max())
    assert activation_range(observed(values), bits, "minmax", symmetric=True) == (-values.max(), values.max())


def test_the_percentile_leaves_out_the_tails() -> None:
    values = np.random.default_rng(3).standard_t(3, 200_000)
    low, high = activation_range(observed(values), 8, "percentile")
    width = (values.max() - values.min()) / BINS
    assert low == pytest.approx(np.quantile(values, 1e-4), abs=2 * width)
    assert high == pytest.approx(np.quantile(values, 1 - 1e-4), abs=2 * width)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_least_error_is_as_good_as_a_search_through_everything(shape: str, bits: int, symmetric: bool) -> None:
    values = SHAPES[shape][:2000]
    histogram = observed(values)
    chosen = error(values, *activation_range(histogram, bits, "mse", symmetric), bits, symmetric)
    assert chosen <= error(values, *activation_range(histogram, bits, "minmax", symmetric), bits, symmetric) * 1.01
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    shares = np.linspace(0.04, 1.0, 25)
    ends = [(low * a, high * b) for a in ([1.0] if low == 0 else shares) for b in ([1.0] if high == 0 else shares)]
    if symmetric:
        ends = [(-share * max(-low, high),) * 2 for share in np.linspace(0.02, 1.0, 100)]
    assert chosen <= 1.03 * min(error(values, *pair, bits, symmetric) for pair in ends)


def test_least_error_is_quick() -> None:
    histogram = observed(SHAPES["prelu"])
    took = []
    for _ in range(20):
        start = time.process_time()
        activation_range(histogram, 8, "mse")
        took.append(time.process_time() - start)
    # 150 tensors at three widths in a few seconds.
    assert min(took) < 0.02


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_entropy_takes_all_where_levels_are_as_fine_as_bins(bits: int, symmetric: bool) -> None:
    histogram = observed(SHAPES["outliers"])
    chosen = activation_range(histogram, bits, "entropy", symmetric)
    full = activation_range(histogram, bits, "minmax", symmetric)
    if 2**bits >= BINS:
        assert chosen == full
    elif bits <= 6:
        assert full[0] < chosen[0] < chosen[1] < full[1]


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_entropy_takes_the_threshold_of_least_divergence(bits: int) -> None:
    values = SHAPES["relu"]
    histogram = observed(values)
    _, high = activation_range(histogram, bits, "entropy")
    found = divergence(histogram, high, bits)
    others = [divergence(histogram, histogram.high * share, bits) for share in np.geomspace(1, 0.01, 128)]
    assert found == pytest.approx(min(others), rel=1e-9)


def divergence(histogram: Histogram, high: float, bits: int) -> float:
    """KL(P‖Q) of a non-negative tensor clipped at `high`, bin by bin as its definition says."""
    counts = histogram.counts.astype(float)
    counts[0] = 0.0
    step = high / (2**bits - 1)
    if step < histogram.high / BINS:
        return np.inf
    codes = np.floor(histogram.centres / step + 0.5).astype(int)
    inside = codes <= 2**bits - 1
    kept = counts[inside].copy()
    p = kept.copy()
    p[-1] += counts[~inside].sum()
    q = np.zeros_like(p)
    for code in range(2**bits):
        here = (codes[inside] == code) & (p > 0)
        if here.any():
            q[here] = kept[here].sum() / here.sum()
    held = p > 0
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore"):
        return float(np.sum(p[held] * np.log(p[held] / q[held])))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_a_tensor_without_a_distribution_has_a_range(rule: str, symmetric: bool) -> None:
    nothing = np.zeros(BINS, dtype=np.int64)
    assert activation_range(Histogram(0.5, 0.5, nothing), 4, rule) == (0.0, 0.5)
    assert activation_range(Histogram(0.0, 0.0, nothing), 4, rule, symmetric) == (0.0, 0.0)
    assert activation_range(Histogram(-1.0, 2.0, nothing), 4, rule) == (-1.0, 2.0)
    single = nothing.copy()
    single[[0, -1]] = 5, 7
    for histogram in (Histogram(0.0, 1.0, single), Histogram(-1.0, 1e-3, single), Histogram(2.0, 2.5, single)):
        low, high = activation_range(histogram, 8, rule, symmetric)
        assert np.isfinite([low, high]).all()
        assert low <= 0.0 <= high
        assert low < high


def some_rows() -> Tensor:
    rows = torch.randn(8, 200, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 1, 8)[:, None]
    rows[2] = 0.0
    rows[3] = rows[3].abs()
    rows[4, 7] *= 12
    return rows


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("rule", RULES)
def test_each_channel_of_a_weight_has_a_range_of_its_own(rule: str, bits: int, symmetric: bool) -> None:
    rows = some_rows()
    low, high = weight_range(rows, bits, rule, symmetric)
    assert low.shape == high.shape == (8,)
    assert (low <= 0).all()
    assert (high >= 0).all()
    assert low[2] == high[2] == 0
    largest = rows.abs().amax(dim=1)
    assert (torch.maximum(-low, high) <= largest * (1 + 1e-6)).all()
    assert (high[[0, 1, 3, 4, 5, 6, 7]] > 0).all()
    if symmetric:
        assert torch.equal(low, -high)
    # The scale of a channel changes its range and no more.
    for got, expected in zip(weight_range(rows * 4, bits, rule, symmetric), (low, high), strict=True):
        assert torch.allclose(got, 4 * expected)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_no_shrunken_range_of_a_weight_errs_much_less(bits: int, symmetric: bool) -> None:
    rows = some_rows()

    def errors(low: Tensor, high: Tensor) -> Tensor:
        quantizer = AffineQuantizer.over(low, high, bits, symmetric=symmetric, axis=0)
        return (quantizer(rows) - rows).double().square().sum(dim=1)

    low, high = weight_range(rows, bits, "minmax", symmetric)
    least = torch.stack([errors(low * share, high * share) for share in np.linspace(0.03, 1, 400)]).amin(dim=0)
    assert (errors(*weight_range(rows, bits, "mse", symmetric)) <= 1.05 * least).all()


@pytest.mark.parametrize("rule", RULES)
def test_channels_worked_through_a_few_at_a_time_get_the_same_ranges(rule: str, monkeypatch: Any) -> None:
    at_once = weight_range(some_rows(), 4, rule, False)
    monkeypatch.setattr(ranges, "_CHUNK", 600)
    for got, expected in zip(weight_range(some_rows(), 4, rule, False), at_once, strict=True):
        assert torch.equal(got, expected)


def test_an_unknown_rule_names_those_there_are() -> None:
    with pytest.raises(VeriQuantError, match="entropy, minmax, mse, percentile"):
        weight_range(some_rows(), 8, "magic", False)
    with pytest.raises(VeriQuantError, match="unknown range rule 'magic'"):
        activation_range(observed(SHAPES["relu"]), 8, "magic")


def test_values_that_are_not_finite_are_refused() -> None:
    rows = some_rows()
    rows[1, 1] = torch.nan
    with pytest.raises(VeriQuantError, match="NaN"):
        weight_range(rows, 8, "mse", False)
    with pytest.raises(VeriQuantError, match="finite"):
        activation_range(Histogram(0.0, np.inf, np.ones(BINS, dtype=np.int64)), 8, "mse")
