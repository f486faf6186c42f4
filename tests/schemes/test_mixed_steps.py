"""Learned steps for weights of 8, 4 and 2 bits side by side: levels, gradients, what they settle to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.schemes import DorefaQuantizer
from veriquant.schemes.mixed_levels import MixedLevels
from veriquant.schemes.mixed_step import MixedStepQuantizer

MIXTURES = [(8,), (4,), (2,), (8, 2), (4, 2), (8, 4, 2)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixture(weight: Tensor, *among: int, seed: int = 7) -> Tensor:
    picked = torch.randint(len(among), weight.shape, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(among, dtype=torch.uint8)[picked]


def by_magnitude(weight: Tensor) -> Tensor:
    """Return 2 bits for the smallest quarter, 4 for the next, 8 for the rest."""
    size = weight.abs()
    first, second = (size.flatten().quantile(share) for share in (0.25, 0.5))
    widths = torch.full_like(weight, 8, dtype=torch.uint8)
    widths[size < second] = 4
    widths[size < first] = 2
    return widths


@pytest.mark.parametrize("among", MIXTURES)
def test_each_width_has_no_more_levels_in_a_channel_than_codes_and_all_are_whole(among: tuple[int, ...]) -> None:
    weight = draw(3, 400, 3, 3) * torch.tensor([0.01, 1.0, 30.0])[:, None, None, None]
    quantizer = MixedStepQuantizer(weight, mixture(weight, *among))
    # Far beyond the range as well, so that every level there is is met.
    wide = 3 * weight
    codes = quantizer.codes(wide)
    own = codes.own_codes()
    assert codes.whole
    for row in range(len(weight)):
        for bits in among:
            here = quantizer.widths[row] == bits
            levels = codes.integers()[row][here].unique()
            assert len(levels) <= 2**bits
            assert len(levels) > 2**bits / 2
            assert bool((levels == levels.round()).all())
            assert -128 <= levels.min() <= levels.max() <= 127
            assert int(own[row][here].max()) < 2**bits
            if bits > 2:
                assert 0 in levels
                zeros = torch.where(here, 0.0, weight[row])
                assert bool((quantizer(torch.stack([zeros] * 3))[row][here] == 0).all())
    assert torch.equal(codes.decode(), quantizer(wide).detach())


def test_small_weights_of_few_bits_keep_far_less_error_than_on_levels_over_the_whole_range() -> None:
    weight = draw(32, 16, 3, 3)
    widths = by_magnitude(weight)
    steps = MixedStepQuantizer(weight, widths)
    dorefa = DorefaQuantizer.of(weight, widths, output="channel", normalised="channel")
    found, other = ((each(weight) - weight).square().mean().item() for each in (steps, dorefa))
    assert found < 0.02 * other


@pytest.mark.parametrize(("bits", "most"), [(8, 2e-4), (4, 0.014), (2, 0.14)])
def test_one_width_is_near_the_best_uniform_quantizer_of_a_normal_distribution(bits: int, most: float) -> None:
    # Max (1960), table II: 0.01154 and 0.1188 at 16 and 4 levels; a quarter of an octave off costs little.
    weight = draw(4, 4000)
    quantizer = MixedStepQuantizer(weight, torch.full_like(weight, bits, dtype=torch.uint8))
    assert (quantizer(weight) - weight).square().mean().item() < most


@pytest.mark.parametrize("among", MIXTURES)
def test_the_gradients_are_finite_differences_with_the_rounding_held(among: tuple[int, ...]) -> None:
    weight, given = draw(4, 5, 3, 3), draw(4, 5, 3, 3, seed=1)
    quantizer = MixedStepQuantizer(weight, mixture(weight, *among))
    values = (1.4 * weight).requires_grad_()
    (quantizer(values) * given).sum().backward()
    spacing = quantizer._spacing.double()
    step = quantizer.step().double()[:, None, None, None]
    low = quantizer._lowest.double()
    position = values.detach().double() / (step * spacing)
    levels = quantizer(values).detach().double() / (step * spacing)
    inside = (position > low - 0.5) & (position < low + quantizer._top.double() + 0.5)
    remainder = torch.where(inside, levels - position, 0.0)

    def computed(factor: Tensor, moved: Tensor) -> Tensor:
        """Return the levels with the step times `factor`, remainders and clamped codes as they are now."""
        unit = step * factor[:, None, None, None] * spacing
        result = torch.where(inside, unit * ((values.detach().double() + moved) / unit + remainder), unit * levels)
        return result * given.double()

    widest = quantizer._spacing.flatten(1).amax(1)
    reach = (quantizer._lowest.abs() * quantizer._spacing).flatten(1).amax(1) / widest
    tiny = 1e-6
    one = torch.ones(4, dtype=torch.float64)
    still = torch.zeros(4, 5, 3, 3, dtype=torch.float64)
    apart = (computed(one + tiny, still) - computed(one - tiny, still)).flatten(1).sum(1) / (2 * tiny)
    expected = apart / quantizer.scale.detach().double() / torch.sqrt(45 * reach.double())
    torch.testing.assert_close(quantizer.scale.grad.double(), expected, rtol=1e-4, atol=1e-5)
    slopes = (computed(one, still + tiny) - computed(one, still - tiny)) / (2 * tiny)
    torch.testing.assert_close(values.grad.double(), slopes, rtol=1e-4, atol=1e-5)
    assert bool(inside.any())
    assert not bool(inside.all())


def test_with_one_width_what_is_learned_is_that_widths_step() -> None:
    weight = draw(4, 100)
    for bits in (8, 4, 2):
        quantizer = MixedStepQuantizer(weight, torch.full_like(weight, bits, dtype=torch.uint8))
        levels = quantizer(weight).detach()[0].unique()
        torch.testing.assert_close(levels.diff().min(), quantizer.scale[0].detach(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("among", MIXTURES)
def test_what_was_learned_settles_bit_for_bit(among: tuple[int, ...]) -> None:
    weight = draw(6, 8, 3, 3)
    quantizer = MixedStepQuantizer(weight, mixture(weight, *among))
    start = quantizer.scale.detach().clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        (quantizer(weight) - 1.1 * weight).square().sum().backward()
        optimizer.step()
    assert not torch.equal(start, quantizer.scale)
    frozen = quantizer.freeze()
    values = quantizer(weight).detach()
    assert list(frozen.parameters()) == []
    assert torch.equal(frozen(weight), values)
    assert torch.equal(frozen(values), values)
    assert torch.equal(frozen.codes(values).decode(), values)
    # Scales are rounded to float16 for files: the codes stay what they were.
    rounded = MixedLevels(frozen.scale.half().float(), frozen.widths, frozen.exponents)
    assert torch.equal(rounded.codes(values).values, frozen.codes(weight).values)


def test_a_step_thrown_below_zero_stays_positive_and_comes_back() -> None:
    weight = draw(2, 50)
    quantizer = MixedStepQuantizer(weight, mixture(weight, 8, 2))
    with torch.no_grad():
        quantizer.scale.fill_(-1.0)
    assert bool((quantizer.step() > 0).all())
    loss = (quantizer(weight) - weight).square().sum()
    loss.backward()
    assert bool((quantizer.scale.grad < 0).all())


def test_new_widths_are_fitted_anew_and_kept_in_the_state() -> None:
    weight = draw(4, 300)
    quantizer = MixedStepQuantizer(weight, torch.full_like(weight, 8, dtype=torch.uint8))
    state = {name: value.clone() for name, value in quantizer.state_dict().items()}
    eight = quantizer(weight).detach()
    quantizer.set_widths(by_magnitude(weight))
    quantizer.fit(weight)
    mixed = quantizer(weight).detach()
    assert 1e-4 < (mixed - weight).square().mean() < 0.01
    other = MixedStepQuantizer(torch.ones_like(weight), torch.full_like(weight, 4, dtype=torch.uint8))
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(weight), mixed)
    quantizer.load_state_dict(state)
    assert torch.equal(quantizer(weight), eight)


def test_channels_of_zeros_and_other_widths() -> None:
    weight = draw(3, 40)
    weight[1] = 0
    quantizer = MixedStepQuantizer(weight, mixture(weight, 8, 4))
    assert bool((quantizer(weight)[1] == 0).all())
    assert math.isfinite(float(quantizer(weight).detach().sum()))
    with pytest.raises(VeriQuantError, match="3 bits"):
        quantizer.set_widths(torch.full_like(weight, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="shape"):
        quantizer.set_widths(torch.full((3, 4), 8, dtype=torch.uint8))
