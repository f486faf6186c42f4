from __future__ import annotations

import pytest
import torch
from recovery_networks import batch, every_layer, simulation
from torch import Tensor

from veriquant.recovery import AdaRound, BiasCorrection, collect_moments
from veriquant.simulation import Change, Fitted, Precision
from veriquant.simulation.observe import watch

IMAGES = torch.from_numpy(batch(12))


@pytest.mark.parametrize("layer", ["c1", "c2", "c3", "c4", "g5", "embedding"])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_mean_output_on_the_calibration_images_is_restored(layer: str, bits: int) -> None:
    network = simulation(every_layer())
    moments = collect_moments(network, IMAGES)
    means: list[Tensor] = []
    plain, corrected = (
        Fitted(network, {}, correct=correct).weight(layer, bits) for correct in (None, BiasCorrection(moments, network))
    )
    for rounded in (None, plain, corrected):
        change = Change() if rounded is None else Change({layer: (rounded.weight, rounded.bias)})
        batches: list[Tensor] = []
        watch(network, IMAGES, {layer}, lambda _, x, into=batches: into.append(x.clone()), "", change)
        means.append(torch.cat(batches).movedim(1, 0).flatten(1).mean(dim=1))
    truth, shifted, restored = means
    assert float((shifted - truth).abs().max()) > 1e-3
    assert torch.allclose(restored, truth, atol=2e-4 * float((shifted - truth).abs().max() + truth.abs().max()))


def test_a_weight_that_is_exact_needs_no_correction() -> None:
    network = simulation(every_layer())
    correct = BiasCorrection(collect_moments(network, IMAGES), network)
    bias = torch.arange(8.0)
    assert torch.equal(correct("c1", bias, network.weighted("c1").weight.detach()), bias)


def test_each_recovery_brings_the_whole_network_nearer() -> None:
    network = simulation(every_layer())
    moments = collect_moments(network, IMAGES)
    others = torch.from_numpy(batch(40, seed=9))
    truth = network.embed(others)

    def noise(fitted: Fitted) -> float:
        found = network.embed(others, fitted.change(dict.fromkeys(network.groups, Precision(3, 32))))
        return float(((found - truth) ** 2).sum() / (truth**2).sum())

    nearest = noise(Fitted(network, {}))
    correct = BiasCorrection(moments, network)
    assert noise(Fitted(network, {}, correct=correct)) < nearest
    adaround = noise(Fitted(network, {}, recover=AdaRound(moments)))
    assert adaround < 0.7 * nearest
    assert noise(Fitted(network, {}, recover=AdaRound(moments, centred=True), correct=correct)) < 0.7 * nearest
