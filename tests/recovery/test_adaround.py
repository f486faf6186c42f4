from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from veriquant.recovery.adaround import AdaRound, learn_rounding
from veriquant.recovery.descent import descend, output_error
from veriquant.recovery.moments import InputMoments
from veriquant.schemes import SCHEMES, AffineQuantizer

#: Schemes with uniform levels: the ones that have an up and a down.
UNIFORM = [name for name in SCHEMES if SCHEMES.get(name).uniform and SCHEMES.get(name).fit_weight]


def correlated(groups: int, inputs: int, samples: int = 2000, seed: int = 0) -> InputMoments:
    """Return the moments of inputs that share a few causes and are positive in the mean, as behind a ReLU."""
    draw = torch.Generator().manual_seed(seed)
    causes = torch.randn(groups, samples, 4, generator=draw)
    x = causes @ torch.randn(groups, 4, inputs, generator=draw)
    x = (x + 0.3 * torch.randn(groups, samples, inputs, generator=draw)).relu()
    return InputMoments(x.mT @ x / samples, x.mean(1), samples)


def draw_weight(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def output_errors(moments: InputMoments, weight: Tensor, rounded: Tensor) -> Tensor:
    blocks = moments.blocks(rounded - weight)
    return output_error(blocks, moments.gram)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("scheme", UNIFORM)
def test_output_error_is_far_below_that_of_the_nearest_level(scheme: str, bits: int) -> None:
    moments, weight = correlated(1, 32), draw_weight(24, 32)
    quantizer = SCHEMES.get(scheme).for_weights()(weight, bits, "mse")
    rounded = AdaRound({"layer": moments})("layer", quantizer, weight)
    nearest = output_errors(moments, weight, quantizer(weight))
    found = output_errors(moments, weight, rounded)
    assert bool((found <= nearest).all())
    assert found.sum() < 0.5 * nearest.sum()


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("scheme", UNIFORM)
def test_every_weight_goes_to_the_level_below_or_above_it(scheme: str, bits: int) -> None:
    weight = draw_weight(6, 3, 3, 3)
    quantizer = SCHEMES.get(scheme).for_weights()(weight, bits, "mse")
    assert isinstance(quantizer, AffineQuantizer)
    rounded = AdaRound({"layer": correlated(1, 27)})("layer", quantizer, weight)
    assert torch.equal(quantizer(rounded), rounded)
    scale = quantizer.scale.reshape(-1, 1, 1, 1)
    zero = quantizer.zero_point.reshape(-1, 1, 1, 1)
    inside = weight.clamp(-zero * scale, (2**bits - 1 - zero) * scale)
    assert bool(((rounded - inside).abs() < scale * (1 + 1e-4)).all())
    assert not torch.equal(rounded, quantizer(weight))


def test_weights_on_levels_stay() -> None:
    weight = draw_weight(8, 16)
    quantizer = SCHEMES.get("symmetric").for_weights()(weight, 4, "mse")
    settled = quantizer(weight)
    assert torch.equal(AdaRound({"layer": correlated(1, 16)})("layer", quantizer, settled), settled)


@pytest.mark.parametrize(("groups", "shape"), [(12, (12, 1, 3, 3)), (3, (12, 2, 3, 3)), (1, (5, 7))])
def test_groups_are_rounded_by_their_own_inputs(groups: int, shape: tuple[int, ...]) -> None:
    weight = draw_weight(*shape)
    moments = correlated(groups, weight[0].numel())
    quantizer = SCHEMES.get("symmetric").for_weights()(weight, 3, "mse")
    rounded = AdaRound({"layer": moments})("layer", quantizer, weight)
    assert rounded.shape == weight.shape
    each = len(weight) // groups
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        errors = (rounded - weight)[rows].flatten(1)
        nearest = (quantizer(weight) - weight)[rows].flatten(1)
        gram = moments.gram[group]
        assert bool((((errors @ gram) * errors).sum(1) <= ((nearest @ gram) * nearest).sum(1) * (1 + 1e-5)).all())
    assert output_errors(moments, weight, rounded).sum() < 0.8 * output_errors(moments, weight, quantizer(weight)).sum()


def test_equal_calls_give_equal_weights_whatever_the_scale_of_inputs_and_weights() -> None:
    moments, weight = correlated(1, 40), draw_weight(16, 40)
    quantizer = SCHEMES.get("symmetric").for_weights()(weight, 4, "mse")
    rounded = AdaRound({"layer": moments})("layer", quantizer, weight)
    assert torch.equal(AdaRound({"layer": moments})("layer", quantizer, weight), rounded)
    louder = InputMoments(moments.gram * 2**20, moments.mean * 2**10, moments.samples)
    finer = AffineQuantizer(quantizer.scale / 2**6, quantizer.zero_point, 4, 0)
    assert torch.equal(AdaRound({"layer": louder})("layer", finer, weight / 2**6) * 2**6, rounded)


def test_many_rows_are_cut_into_pieces_without_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from veriquant.recovery import adaround

    moments, weight = correlated(6, 9), draw_weight(12, 1, 3, 3)
    quantizer = SCHEMES.get("symmetric").for_weights()(weight, 4, "mse")
    whole = AdaRound({"layer": moments})("layer", quantizer, weight)
    monkeypatch.setattr(adaround, "_LEARNT", 9)
    monkeypatch.setattr(adaround, "_DESCENDED", 20)
    pieces = AdaRound({"layer": moments})("layer", quantizer, weight)
    nearest = output_errors(moments, weight, quantizer(weight)).sum()
    # The order of summing differs, and so may a choice that hangs by a hair.
    assert output_errors(moments, weight, pieces).sum() == pytest.approx(
        float(output_errors(moments, weight, whole).sum()), abs=0.02 * float(nearest)
    )


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    moments = correlated(1, 12)
    moments.gram[:, 3], moments.gram[:, :, 3] = 0.0, 0.0
    weight = draw_weight(4, 12)
    quantizer = SCHEMES.get("symmetric").for_weights()(weight, 4, "mse")
    rounded = AdaRound({"layer": moments})("layer", quantizer, weight)
    assert torch.equal(rounded[:, 3], quantizer(weight)[:, 3])
    silent = InputMoments(torch.zeros(1, 12, 12), torch.zeros(1, 12), 10)
    assert torch.equal(AdaRound({"layer": silent})("layer", quantizer, weight), quantizer(weight))


def test_where_the_bias_is_corrected_rounding_leaves_less_variance() -> None:
    moments, weight = correlated(1, 32), draw_weight(24, 32)
    quantizer = SCHEMES.get("symmetric").for_weights()(weight, 3, "mse")

    def variance(centred: bool) -> float:
        rounded = AdaRound({"layer": moments}, corrected=["layer"] if centred else [])("layer", quantizer, weight)
        return float(output_error(moments.blocks(rounded - weight), moments.centred()).sum())

    assert variance(centred=True) < 0.9 * variance(centred=False)


def cases(inputs: int, rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    gram = correlated(2, inputs).gram
    down = -torch.rand(2, rows, inputs, generator=torch.Generator().manual_seed(4))
    return down, down + 1, gram / gram.diagonal(dim1=1, dim2=2).mean()


def test_descent_ends_where_no_single_move_helps() -> None:
    down, up, gram = cases(200)
    start = torch.where(down > -0.5, down, up)
    found = descend(start, down + up - start, gram, passes=200)
    assert bool(((found == down) | (found == up)).all())
    assert bool((output_error(found, gram) <= output_error(start, gram)).all())
    other = down + up - found
    delta = other - found
    change = delta * (2 * (found @ gram) + delta * gram.diagonal(dim1=1, dim2=2).unsqueeze(1))
    assert float(change.min()) > -1e-3


def test_learning_then_descending_comes_near_the_best_of_all_roundings() -> None:
    down, up, gram = cases(10)
    choices = torch.tensor(list(itertools.product([0.0, 1.0], repeat=10)))
    every = down.unsqueeze(2) + choices * (up - down).unsqueeze(2)
    best = torch.einsum("brki,bij,brkj->brk", every, gram, every).min(dim=2).values
    nearest = torch.where(down > -0.5, down, up)
    learned = learn_rounding(down, up, gram, iterations=300, rate=0.1, strength=0.3)
    found = descend(learned, down + up - learned, gram)
    assert bool((output_error(found, gram) >= best - 1e-4).all())
    excess = (output_error(found, gram) - best).sum()
    assert excess < 0.15 * (output_error(nearest, gram) - best).sum()


def test_learning_is_a_better_start_for_descent_than_the_nearest_level() -> None:
    down, up, gram = cases(96, rows=32)
    nearest = torch.where(down > -0.5, down, up)
    learned = learn_rounding(down, up, gram, iterations=300, rate=0.1, strength=0.3)
    by_descent, by_both = (output_error(descend(e, down + up - e, gram), gram).sum() for e in (nearest, learned))
    assert by_both < by_descent < 0.5 * output_error(nearest, gram).sum()
