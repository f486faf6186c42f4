"""What plans cost, against hand computation and the sizes that the sources print."""

from __future__ import annotations

import pytest
import torch
from hand_made import NETWORKS, SIDE, Sketch, attention, network, residual, simulated

from veriquant.frontends.spec import InputSpec
from veriquant.networks.export import export_onnx
from veriquant.networks.families import FAMILIES
from veriquant.simulation import FP32, TARGETS, Costs, KernelTable, Precision, simulate

W8A16, W8A8, W4A8, W4A4 = (Precision.parse(text) for text in ("W8A16", "W8A8", "W4A8", "W4A4"))


def two_convolutions() -> Costs:
    """A 3×3 convolution from 3 to 4 channels with bias and PReLU, a depth-wise one of 4 without, both on 8×8 pixels."""
    net = Sketch()
    net.prelu(net.conv("image", "c1", 3, 4), "p1", 4)
    net.op("Conv", ["p1", net.weight("c2_w", 4, 1, 3, 3)], "c2", kernel_shape=[3, 3], pads=[1] * 4, group=4)
    net.op("Flatten", ["c2"], "embedding")
    return Costs(simulated(net.bytes()))


PLACES = SIDE * SIDE
WEIGHTS = {"c1": 4 * 3 * 9, "c2": 4 * 9}
MACS = {name: count * PLACES for name, count in WEIGHTS.items()}
OTHERS = 4 + 4  # biases of c1, slopes


def test_bit_operations_by_hand() -> None:
    costs = two_convolutions()
    groups = costs.simulation.groups
    for name, macs in MACS.items():
        for precision in (W8A16, W8A8, W4A4, FP32, Precision(32, 8), Precision(4, 32)):
            assert costs.bops(groups[name], precision) == macs * precision.weight_bits * precision.activation_bits
    assert costs.reference_bops() == 128 * sum(MACS.values())
    mixed = {"c1": W8A8, "c2": W4A4}
    by_hand = 64 * MACS["c1"] + 16 * MACS["c2"]
    assert costs.relative_bops(mixed) == pytest.approx(by_hand / (128 * sum(MACS.values())))
    # A group that is not named is in floating point.
    left = 64 * MACS["c1"] + 1024 * MACS["c2"]
    assert costs.relative_bops({"c1": W8A8}) == pytest.approx(left / (128 * sum(MACS.values())))


def test_bytes_by_hand() -> None:
    costs = two_convolutions()
    groups = costs.simulation.groups
    assert costs.fixed_bytes() == 4 * OTHERS
    assert costs.weight_bytes(groups["c1"], W4A8) == WEIGHTS["c1"] / 2
    assert costs.nominal_bytes({}) == 4 * (sum(WEIGHTS.values()) + OTHERS)
    assert costs.nominal_bytes({"c1": W8A8, "c2": W4A4}) == WEIGHTS["c1"] + WEIGHTS["c2"] / 2 + 4 * OTHERS
    # A scale for each of 4 output channels; none where weights are in floating point.
    assert costs.overhead_bytes(groups["c1"], W4A8) == 16
    assert costs.overhead_bytes(groups["c1"], Precision(32, 8)) == 0


def test_average_bits_by_hand() -> None:
    costs = two_convolutions()
    mixed = {"c1": W8A8, "c2": Precision(3, 8)}
    expected = (8 * WEIGHTS["c1"] + 3 * WEIGHTS["c2"]) / sum(WEIGHTS.values())
    assert costs.average_bits(mixed) == pytest.approx(expected)
    assert costs.average_bits({}) == 32


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("precision", "ratio"), [(W8A16, 1.0), (W8A8, 0.5), (W4A8, 0.25), (W4A4, 0.125)])
def test_fixed_precisions_have_the_ratios_of_the_source(name: str, precision: Precision, ratio: float) -> None:
    if name == "attention":
        pytest.skip("its products of activations count the activations' width twice: see below")
    costs = Costs(simulated(NETWORKS[name]()))
    assert costs.relative_bops(dict.fromkeys(costs.simulation.groups, precision)) == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_floating_point_counts_as_32_by_32_bits(name: str) -> None:
    costs = Costs(simulated(NETWORKS[name]()))
    assert costs.relative_bops({}) == pytest.approx(
        sum(costs.bops(group, FP32) for group in costs.simulation.groups.values()) / costs.reference_bops()
    )
    if name != "attention":
        assert costs.relative_bops({}) == pytest.approx(8.0)


def test_a_weight_that_two_operations_share_is_counted_once() -> None:
    net = Sketch()
    weight = net.weight("shared_w", 3, 3, 3, 3)
    for name, source in (("c1", "image"), ("c2", "c1")):
        net.op("Conv", [source, weight], name, kernel_shape=[3, 3], pads=[1] * 4)
    net.op("Flatten", ["c2"], "embedding")
    costs = Costs(simulated(net.bytes()))
    assert costs.nominal_bytes({}) == 4 * 81
    assert costs.fixed_bytes() >= 0
    assert costs.relative_bops(dict.fromkeys(costs.simulation.groups, W8A8)) == pytest.approx(0.5)


def test_a_product_of_two_activations_counts_their_width_twice() -> None:
    costs = Costs(simulated(attention()))
    places, width = SIDE * SIDE, 4
    scores = costs.simulation.groups["scores"]
    assert costs.bops(scores, W4A8) == places * places * width * 8 * 8
    assert costs.bops(scores, W8A16) == places * places * width * 16 * 16


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_baseline_of_every_target_costs_the_most(target: str | KernelTable) -> None:
    costs = Costs(simulated(residual(), target))
    for group in costs.simulation.groups.values():
        bops = [costs.bops(group, each) for each in group.candidates]
        assert max(bops) == bops[0]


def test_a_byte_for_every_parameter_is_the_size_that_sources_print() -> None:
    parameters = 1_003_136  # of MobileFaceNet, with the batch norms that are folded here
    found = FAMILIES.get("mobilefacenet")
    with torch.no_grad():
        module = found.build(**found.defaults).eval()
    content = export_onnx(module, found.spec)
    costs = Costs(simulate(_network(content, found.spec)))
    eight = costs.nominal_bytes(dict.fromkeys(costs.simulation.groups, W8A8))
    # Biases and slopes at 32 bits make it a little larger, folded batch norms a little smaller.
    assert eight / 1e6 == pytest.approx(parameters / 1e6, rel=0.02)
    weights = eight - costs.fixed_bytes()
    assert weights == sum(costs.simulation.weighted(n).weight.numel() for n in _weighted(costs))
    assert weights < parameters
    assert weights + costs.fixed_bytes() / 4 == pytest.approx(parameters, rel=0.02)
    assert costs.nominal_bytes({}) == pytest.approx(4 * parameters, rel=0.02)
    assert costs.average_bits(dict.fromkeys(costs.simulation.groups, W4A8)) == 4
    four = costs.nominal_bytes(dict.fromkeys(costs.simulation.groups, W4A8))
    assert four == pytest.approx(weights / 2 + costs.fixed_bytes())


def _weighted(costs: Costs) -> list[str]:
    return [name for group in costs.simulation.groups.values() for name in group.weights]


def _network(content: bytes, spec: InputSpec):
    from dataclasses import replace

    return replace(network(content), spec=spec)
