from __future__ import annotations

import pytest
import torch
from recovery_networks import batch, every_layer, simulation
from torch import Tensor

from veriquant.recovery.adaround import AdaRound
from veriquant.recovery.bias_correction import BiasCorrection
from veriquant.recovery.moments import collect_moments
from veriquant.schemes import SCHEMES
from veriquant.simulation import Precision, QuantizationConfig, QuantizerCache
from veriquant.simulation.observe import watch

IMAGES = torch.from_numpy(batch(12))


@pytest.mark.parametrize("layer", ["c1", "c2", "c3", "c4", "g5", "embedding"])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_mean_output_on_the_calibration_images_is_restored(layer: str, bits: int) -> None:
    network = simulation(every_layer())
    correct = BiasCorrection(collect_moments(network, IMAGES), network)
    module = network.weighted(layer)
    weight = module.weight.detach()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach()
    rounded = SCHEMES.get("symmetric").for_weights()(weight, bits, "mse")(weight)
    means = []
    for change in ((weight, bias), (rounded, bias), (rounded, correct(layer, bias, rounded))):
        batches: list[Tensor] = []
        watch(
            network,
            IMAGES,
            {layer},
            lambda _, x, into=batches: into.append(x.clone()),
            "",
            QuantizationConfig({layer: change}),
        )
        means.append(torch.cat(batches).movedim(1, 0).flatten(1).mean(dim=1))
    truth, shifted, restored = means
    assert float((shifted - truth).abs().max()) > 1e-3
    assert torch.allclose(restored, truth, atol=1e-5 * float(truth.abs().max()))


def test_operations_without_a_bias_have_none_to_correct() -> None:
    network = simulation(every_layer())
    assert BiasCorrection(collect_moments(network, IMAGES), network).operations == {"c1", "c2", "c3", "g5"}


def test_a_weight_that_is_exact_needs_no_correction() -> None:
    network = simulation(every_layer())
    correct = BiasCorrection(collect_moments(network, IMAGES), network)
    bias = torch.arange(8.0)
    assert torch.equal(correct("c1", bias, network.weighted("c1").weight.detach()), bias)


@pytest.mark.parametrize("seed", range(3))
def test_the_recoveries_bring_the_whole_network_nearer_on_other_images(seed: int) -> None:
    network = simulation(every_layer(seed))
    moments = collect_moments(network, IMAGES)
    correct = BiasCorrection(moments, network)
    others = torch.from_numpy(batch(40, seed=9))
    truth = network.embed(others)

    def noise(recover: AdaRound | None, correct: BiasCorrection | None) -> float:
        fitted = QuantizerCache(network, {}, recover=recover, correct=correct)
        found = network.embed(others, fitted.change(dict.fromkeys(network.groups, Precision(3, 32))))
        return float(((found - truth) ** 2).sum() / (truth**2).sum())

    nearest = noise(None, None)
    assert noise(None, correct) < nearest
    assert noise(AdaRound(moments), None) < 0.7 * nearest
    assert noise(AdaRound(moments, corrected=correct.operations), correct) < 0.7 * nearest
