from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.schemes import (
    BINS,
    RULES,
    SCHEMES,
    Histogram,
    Quantizer,
    WidthPerWeightQuantizer,
    power_of_two_levels,
)

OF_WEIGHTS = [name for name in SCHEMES if SCHEMES.get(name).fit_weight]
EVERY = [(name, bits) for name in OF_WEIGHTS for bits in SCHEMES.get(name).widths]
ACTIVATIONS = [
    (name, bits) for name in SCHEMES if SCHEMES.get(name).fit_activation for bits in SCHEMES.get(name).widths
]
LEARNING = [(name, bits) for name, bits in EVERY if SCHEMES.get(name).learn_weight]
MIXING = [name for name in SCHEMES if SCHEMES.get(name).mix_widths]


def some_weight(seed: int = 0) -> Tensor:
    """Ten channels of different sizes and skews; one of zeros, one constant, one positive throughout."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(10, 6, 3, 3, generator=generator) * torch.logspace(-3, 1, 10)[:, None, None, None]
    weight[3] = 0.0
    weight[4] = 0.25
    weight[5] = weight[5].abs()
    return weight


def fitted(name: str, bits: int, weight: Tensor, rule: str = "mse") -> Quantizer:
    return SCHEMES.get(name).for_weights()(weight, bits, rule)


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
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_shape_and_dtype_stay(name: str, dtype: torch.dtype) -> None:
    weight = some_weight().to(dtype)
    values = fitted(name, 4, weight)(weight)
    assert values.dtype == dtype
    assert values.shape == weight.shape


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_the_gradient_goes_straight_through_inside_the_range_alone(name: str) -> None:
    weight = some_weight()[:1].clone()
    quantizer = fitted(name, 4, weight, "minmax")
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


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_what_is_computed_does_not_depend_on_the_gradient(name: str) -> None:
    weight = some_weight()
    quantizer = fitted(name, 4, weight)
    assert torch.equal(quantizer(weight.clone().requires_grad_()), quantizer(weight))


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_the_input_is_left_as_it_was(name: str) -> None:
    weight = some_weight()
    before = weight.clone()
    quantizer = fitted(name, 4, weight)
    quantizer(weight)
    quantizer.codes(weight)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("name", OF_WEIGHTS)
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
@pytest.mark.parametrize("name", OF_WEIGHTS)
@pytest.mark.parametrize("few", [True, False])
def test_zeros_stay_zeros(name: str, rule: str, few: bool) -> None:
    bits = next(each for each in SCHEMES.get(name).widths if each >= 2) if few else min(SCHEMES.get(name).widths[-1], 8)
    for weight in (some_weight(), torch.zeros(4, 9)):
        quantizer = fitted(name, bits, weight, rule)
        values = quantizer(weight)
        assert torch.isfinite(values).all()
        zeros = weight.flatten(1).abs().amax(dim=1) == 0
        if quantizer.axis == 0:
            assert values[zeros].abs().max() < 1e-20
        assert (quantizer.state_dict()["scale"] > 0).all()


@pytest.mark.parametrize("name", OF_WEIGHTS)
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


@pytest.mark.parametrize(("name", "bits"), LEARNING)
def test_a_weight_that_learns_moves_its_levels_and_freezes_to_the_same_numbers(name: str, bits: int) -> None:
    weight = some_weight()
    learn = SCHEMES.get(name).learn_weight
    assert learn is not None
    made = learn(fitted(name, bits, weight), weight)
    latent = (weight if made.latent is None else made.latent).clone().requires_grad_()
    values = made.quantizer(latent)
    (values - weight).square().sum().backward()
    assert latent.grad is not None
    assert latent.grad.any()
    scales = made.quantizer.parameter_scales()
    parameters = dict(made.quantizer.named_parameters())
    assert scales.keys() == parameters.keys()
    for key, parameter in parameters.items():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert (scales[key] > 0).all()
    frozen = made.quantizer.freeze()
    assert frozen.bits == bits
    assert not list(frozen.parameters())
    assert torch.equal(frozen(values.detach()), values.detach())


@pytest.mark.parametrize("name", MIXING)
def test_a_width_for_every_weight_leaves_so_many_values_each(name: str) -> None:
    weight = some_weight()
    widths = torch.full_like(weight, 8, dtype=torch.uint8)
    mix = SCHEMES.get(name).mix_widths
    assert mix is not None
    made = mix(weight, widths)
    assert isinstance(made.quantizer, WidthPerWeightQuantizer)
    latent = weight if made.latent is None else made.latent
    ranks = made.quantizer.magnitudes(latent).abs()
    assert float(ranks.max()) <= 1.0 + 1e-6
    widths[ranks < 0.3] = 2
    made.quantizer.assign_widths(latent, widths)
    values = made.quantizer(latent).detach()
    for channel in range(len(weight)):
        narrow = values[channel][widths[channel] == 2]
        assert len(narrow.unique()) <= 4


def test_what_a_scheme_is_not_for_is_named() -> None:
    with pytest.raises(VeriQuantError, match="'pact' is for activations alone"):
        SCHEMES.get("pact").for_weights()
    with pytest.raises(VeriQuantError, match="'kmeans' is for weights alone"):
        SCHEMES.get("kmeans").for_activations()


@pytest.mark.parametrize(
    ("bits", "levels"),
    [(1, [-1, 1]), (2, [-1, 0, 0, 1]), (3, [-1, -0.5, -0.25, 0, 0, 0.25, 0.5, 1])],
)
def test_powers_of_two_are_those_of_liu_equation_2_without_the_pair_too_many(bits: int, levels: list[float]) -> None:
    assert power_of_two_levels(bits).tolist() == levels
