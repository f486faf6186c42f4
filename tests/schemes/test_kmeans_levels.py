from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from veriquant.errors import VeriQuantError
from veriquant.schemes import CodebookQuantizer, fit_codebook


def least_error(values: np.ndarray, parts: int) -> float:
    """The least squared error of `parts` levels, by trying every way to cut the sorted values."""
    values = np.sort(values)
    return min(
        sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(values, cuts))
        for cuts in combinations(range(1, len(values)), parts - 1)
    )


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_one_channel_gets_the_optimum(bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 14).astype(np.float32)
    weight = torch.from_numpy(values)[None]
    got = float((fit_codebook(weight, bits)(weight) - weight).double().square().sum())
    assert got == pytest.approx(least_error(values.astype(np.float64), 2**bits), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("bits", "gaussian"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_gaussian_weights_get_the_lloyd_max_quantizer(bits: int, gaussian: float) -> None:
    # Max 1960, 'Quantizing for minimum distortion', table I.
    weight = torch.randn(4, 50_000, generator=torch.Generator().manual_seed(0))
    error = (fit_codebook(weight, bits)(weight) - weight).square().mean() / weight.square().mean()
    assert float(error) == pytest.approx(gaussian, rel=0.01)


def test_one_bit_has_a_level_on_either_side() -> None:
    weight = torch.randn(4, 20_000, generator=torch.Generator().manual_seed(0))
    low, high = fit_codebook(weight, 1).levels.tolist()
    # Of a Gaussian: ±sqrt(2/pi).
    assert (low, high) == pytest.approx((-0.798, 0.798), abs=0.03)


def test_one_table_serves_channels_of_every_size() -> None:
    weight = torch.randn(6, 5000, generator=torch.Generator().manual_seed(0))
    sizes = torch.logspace(-4, 4, 6)[:, None]
    quantizer = fit_codebook(weight * sizes, 3)
    assert quantizer.levels.shape == (8,)
    noise = (quantizer(weight * sizes) - weight * sizes).square().sum(1) / (weight * sizes).square().sum(1)
    assert (noise < 0.05).all()


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_fewer_values_than_levels_are_kept_as_they_are(bits: int) -> None:
    weight = torch.tensor([[0.5, -0.5, 0.5, 1.5]]).expand(3, -1) * torch.tensor([[1.0], [2.0], [0.125]])
    quantizer = fit_codebook(weight, bits)
    assert torch.allclose(quantizer(weight), weight, rtol=1e-5)
    assert torch.isfinite(quantizer.levels).all()
    assert len(quantizer.levels) == 2**bits


@pytest.mark.parametrize("bits", [1, 8])
def test_a_constant_weight_stays(bits: int) -> None:
    weight = torch.full((3, 7), -0.3)
    assert torch.allclose(fit_codebook(weight, bits)(weight), weight, rtol=1e-5)


def test_values_next_to_one_another_do_not_break_idempotence() -> None:
    start = torch.tensor(0.1)
    near = [start]
    for _ in range(40):
        near.append(torch.nextafter(near[-1], torch.tensor(1.0)))
    weight = torch.stack([*near, torch.tensor(3.0)])[None]
    quantizer = fit_codebook(weight, 4)
    once = quantizer(weight)
    assert torch.equal(quantizer(once), once)


def test_more_values_than_points_lose_next_to_nothing() -> None:
    draw = np.random.default_rng(0)
    weight = torch.from_numpy(draw.laplace(size=(1, 50_000)).astype(np.float32))
    weight[0, 0] = 100.0
    for bits in (4, 7):
        error = float((fit_codebook(weight, bits)(weight) - weight).square().mean())
        # Panter and Dite 1951: (∫ p^(1/3))³ / 12 · 4^(−bits), 9 · 4^(−bits) for a Laplace distribution of scale 1.
        assert error == pytest.approx(9 * 4.0**-bits, rel=0.15)


@pytest.mark.parametrize("bits", [0, 9])
def test_a_width_beyond_the_table_is_refused(bits: int) -> None:
    with pytest.raises(VeriQuantError, match=f"kmeans cannot have {bits} bits"):
        fit_codebook(torch.randn(2, 9), bits)


def test_a_weight_that_is_not_finite_is_refused() -> None:
    with pytest.raises(VeriQuantError, match="NaN"):
        fit_codebook(torch.tensor([[1.0, torch.nan]]), 2)


def test_the_table_has_a_level_for_every_code() -> None:
    with pytest.raises(ValueError, match="4 levels"):
        CodebookQuantizer(torch.zeros(3), torch.ones(()), 2)
