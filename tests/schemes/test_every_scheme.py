from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from veriquant.schemes import BINS, RULES, SCHEMES, Histogram, Quantizer

EVERY = [(name, bits) for name in SCHEMES for bits in SCHEMES.get(name).widths]
ACTIVATIONS = [(name, bits) for name, bits in EVERY if SCHEMES.get(name).fit_activation]


def some_weight(seed: int = 0) -> Tensor:
    """Ten channels of different sizes and skews; one of zeros, one constant, one positive throughout."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(10, 6, 3, 3, generator=generator) * torch.logspace(-3, 1, 10)[:, None, None, None]
    weight[3] = 0.0
    weight[4] = 0.25
    weight[5] = weight[5].abs()
    return weight


def fitted(name: str, bits: int, weight: Tensor, rule: str = "mse") -> Quantizer:
    return SCHEMES.get(name).fit_weight(weight, bits, rule)


def observed(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


def error(quantizer: Quantizer, values: Tensor) -> float:
    return float((quantizer(values).detach() - values).double().square().sum())


@pytest.mark.parametrize(("name", "bits"), EVERY)
def test_a_group_has_no_more_values_than_codes(name: str, bits: int) -> None:
    weight = some_weight()
    quantizer = fitted(name, bits, weight)
    # Far more inputs than codes, also beyond the range.
    probe = torch.linspace(-2, 2, 2 ** min(bits, 12) * 5) * weight.abs().max()
    values = quantizer(probe.expand(10, -1).contiguous())
    groups = [values.flatten()] if quantizer.axis is None else list(values)
    assert max(len(group.unique()) for group in groups) <= 2**bits


@pytest.mark.parametrize(("name", "bits"), EVERY)
def test_codes_decode_to_what_forward_gives(name: str, bits: int) -> None:
    weight = some_weight()
    quantizer = fitted(name, bits, weight)
    codes = quantizer.codes(weight)
    assert codes.bits == quantizer.bits == bits
    assert codes.values.dtype == torch.int32
    assert codes.values.shape == weight.shape
    assert 0 <= int(codes.values.min()) <= int(codes.values.max()) < 2**bits
    assert torch.equal(codes.decode(), quantizer(weight))


@pytest.mark.parametrize(("name", "bits"), EVERY)
def test_quantizing_twice_is_quantizing_once(name: str, bits: int) -> None:
    weight = some_weight()
    quantizer = fitted(name, bits, weight)
    once = quantizer(weight)
    assert torch.isfinite(once).all()
    assert torch.equal(quantizer(once), once)
    assert torch.equal(quantizer.codes(once).values, quantizer.codes(weight).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SCHEMES)
def test_shape_and_dtype_stay(name: str, dtype: torch.dtype) -> None:
    weight = some_weight().to(dtype)
    values = fitted(name, 4, weight)(weight)
    assert values.dtype == dtype
    assert values.shape == weight.shape


@pytest.mark.parametrize("name", SCHEMES)
def test_the_gradient_goes_straight_through_inside_the_range_alone(name: str) -> None:
    weight = some_weight()[:1].clone()
    quantizer = fitted(name, 3, weight, "minmax")
    inputs = (weight * 0.9).requires_grad_()
    outside = (weight.abs().max() * torch.tensor([-5.0, 5.0])).reshape(1, 2).requires_grad_()
    given = torch.randn_like(inputs)
    quantizer(inputs).backward(given)
    quantizer(outside).sum().backward()
    within = inputs.detach().abs() <= quantizer(weight).abs().max()
    assert within.sum() > 30
    assert inputs.grad is not None
    assert torch.equal(inputs.grad[within], given[within])
    assert outside.grad is not None
    assert not outside.grad.any()


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_computed_does_not_depend_on_the_gradient(name: str) -> None:
    weight = some_weight()
    quantizer = fitted(name, 4, weight)
    assert torch.equal(quantizer(weight.clone().requires_grad_()), quantizer(weight))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_input_is_left_as_it_was(name: str) -> None:
    weight = some_weight()
    before = weight.clone()
    quantizer = fitted(name, 4, weight)
    quantizer(weight)
    quantizer.codes(weight)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("name", SCHEMES)
def test_more_bits_err_less(name: str) -> None:
    weight = some_weight()
    errors = [error(fitted(name, bits, weight), weight) for bits in SCHEMES.get(name).widths]
    assert all(more < less for less, more in pairwise(errors))


@pytest.mark.parametrize(("name", "bits"), EVERY)
def test_the_mse_rule_never_errs_more_than_the_extremes(name: str, bits: int) -> None:
    weight = some_weight()
    by_error, by_extremes = (error(fitted(name, bits, weight, rule), weight) for rule in ("mse", "minmax"))
    assert by_error <= by_extremes * (1 + 1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("bits", [2, 8])
def test_zeros_stay_zeros(name: str, rule: str, bits: int) -> None:
    for weight in (some_weight(), torch.zeros(4, 9)):
        quantizer = fitted(name, bits, weight, rule)
        values = quantizer(weight)
        assert torch.isfinite(values).all()
        zeros = weight.flatten(1).abs().amax(dim=1) == 0
        if quantizer.axis == 0:
            assert values[zeros].abs().max() < 1e-20
        assert (quantizer.state_dict()["scale"] > 0).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_state_dict_holds_all_there_is(name: str) -> None:
    weight, other = some_weight(), some_weight(seed=1) * 3
    saved, fresh = fitted(name, 4, weight), fitted(name, 4, other)
    assert not torch.equal(fresh(weight), saved(weight))
    fresh.load_state_dict(saved.state_dict())
    assert torch.equal(fresh(weight), saved(weight))


@pytest.mark.parametrize(("name", "bits"), ACTIVATIONS)
def test_an_activation_is_quantized_as_well_as_its_bits_allow(name: str, bits: int) -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    fit = SCHEMES.get(name).fit_activation
    assert fit is not None
    quantizer = fit(observed(values), bits, "mse")
    assert quantizer.axis is None
    noise = error(quantizer, torch.from_numpy(values)) / len(values)
    # Uniform levels over ±5 standard deviations, which hold all values, do no better than step²/12.
    assert noise < (10 / (2**bits - 1)) ** 2 / 12 * 1.5


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", sorted({name for name, _ in ACTIVATIONS}))
@pytest.mark.parametrize("constant", [0.0, 0.5, -3.0])
def test_a_constant_activation_keeps_its_value(name: str, rule: str, constant: float) -> None:
    fit = SCHEMES.get(name).fit_activation
    assert fit is not None
    quantizer = fit(Histogram(constant, constant, np.zeros(BINS, dtype=np.int64)), 8, rule)
    assert float(quantizer(torch.tensor(constant)).detach()) == pytest.approx(constant, rel=1e-6)
