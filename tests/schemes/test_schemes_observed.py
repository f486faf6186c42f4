"""Ranges by observation: they follow what passes until they are frozen, and not in evaluation mode."""

from __future__ import annotations

import pytest
import torch

from veriquant.schemes import AffineQuantizer
from veriquant.schemes.observed import ObservedQuantizer


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_the_ends_of_a_range_that_holds_zero_are_levels(bits: int) -> None:
    quantizer = ObservedQuantizer(bits, 0, 3, running=False)
    values = torch.tensor([[-1.0, 0.25, 2.0], [0.0, 0.5, 1.0], [-3.0, -0.5, 0.0]])
    rounded = quantizer(values)
    assert rounded[1, 2].item() == pytest.approx(1.0, rel=1e-6)
    assert rounded[2, 0].item() == pytest.approx(-3.0, rel=1e-6)
    # Zero has to be a level: an end may move by half a step.
    assert (rounded[0] - values[0]).abs().max() <= 3.0 / (2**bits - 1) / 2 + 1e-6


def test_running_ranges_only_widen_and_others_follow() -> None:
    running, following = (ObservedQuantizer(8, None, 1, running=each) for each in (True, False))
    for quantizer in (running, following):
        quantizer(torch.tensor([-4.0, 4.0]))
        quantizer(torch.tensor([-1.0, 1.0]))
    assert (running.low.item(), running.high.item()) == (-4.0, 4.0)
    assert (following.low.item(), following.high.item()) == (-1.0, 1.0)
    assert running.scale.item() == pytest.approx(8 / 255)


@pytest.mark.parametrize("how", ["frozen", "evaluation"])
def test_nothing_is_observed_when_it_should_not_be(how: str) -> None:
    quantizer = ObservedQuantizer(8, None, 1, running=True)
    quantizer(torch.tensor([-1.0, 1.0]))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    if how == "frozen":
        quantizer.stop_observing()
    else:
        quantizer.eval()
    assert quantizer(torch.tensor([9.0])).item() == pytest.approx(1.0, abs=1 / 127)
    assert all(torch.equal(before[name], quantizer.state_dict()[name]) for name in ("low", "high", "scale"))


def test_settled_levels_are_the_same_and_stay() -> None:
    quantizer = ObservedQuantizer(4, 0, 2, running=False)
    values = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    rounded = quantizer(values)
    frozen = quantizer.freeze()
    quantizer(values * 3)
    assert torch.equal(frozen(values), rounded)


def test_it_starts_from_what_was_fitted() -> None:
    fitted = AffineQuantizer.over(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 1.0]), 8, axis=0)
    values = torch.linspace(-1, 1, 8).reshape(2, 4)
    assert torch.equal(ObservedQuantizer.like(fitted, running=True).eval()(values), fitted(values))


def test_a_state_dict_holds_range_and_freezing() -> None:
    one, other = (ObservedQuantizer(8, None, 1, running=True) for _ in range(2))
    one(torch.tensor([-1.0, 3.0]))
    one.stop_observing()
    other.load_state_dict(one.state_dict())
    values = torch.linspace(-5, 5, 11)
    assert torch.equal(one(values), other(values))
    assert bool(other.frozen)
