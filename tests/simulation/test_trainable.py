"""A simulated network that learns: it computes what the simulation computes, learns, and becomes a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import NETWORKS, Sketch, cosines, fitted, in_onnxruntime, pixels

from veriquant.deploy.pack import load_module, pack_planned, save_module
from veriquant.deploy.pack.safetensors_pack import load_pack, save_pack
from veriquant.schemes import AffineQuantizer, LearnedStepQuantizer
from veriquant.schemes.dorefa import DorefaQuantizer
from veriquant.schemes.mixed_step import MixedStepQuantizer
from veriquant.schemes.pact import PactQuantizer
from veriquant.simulation import Precision, QuantizerCache
from veriquant.simulation.trainable import Trainable

IMAGES = pixels(16, seed=5)
PIXELS = torch.as_tensor(IMAGES)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learning(made: QuantizerCache, precision: str) -> Trainable:
    """Return the network with learned steps, from the fitted levels."""
    change = made.change(dict.fromkeys(made.simulation.groups, Precision.parse(precision)))
    bits = Precision.parse(precision).weight_bits
    weights = {}
    for name in change.weights:
        levels = made.weight(name, bits).quantizer
        assert isinstance(levels, AffineQuantizer)
        weights[name] = LearnedStepQuantizer.of(levels)
    activations = {}
    for tensor, levels in change.activations.items():
        assert isinstance(levels, AffineQuantizer)
        activations[tensor] = LearnedStepQuantizer.of(levels, batched=True, learn_offset=True)
    return Trainable(made.simulation, weights, activations)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_quantizers_it_is_the_full_precision_network(name: str) -> None:
    made = fitted(NETWORKS[name](), ranges="minmax")
    network = Trainable(made.simulation, {}, {})
    np.testing.assert_allclose(network(PIXELS).detach().numpy(), made.simulation.embed(PIXELS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["W8A8", "W4A8", "W2A8"])
def test_before_training_it_is_the_simulation_at_that_precision(precision: str) -> None:
    made = fitted(NETWORKS["residual_concat"](), ranges="minmax")
    change = made.change(dict.fromkeys(made.simulation.groups, Precision.parse(precision)))
    found = learning(made, precision)(PIXELS).detach().numpy()
    assert cosines(found, made.simulation.embed(PIXELS, change)).min() > 0.9999


@pytest.mark.parametrize("name", NETWORKS)
def test_training_lowers_the_distance_and_leaves_the_simulation_as_it_is(name: str) -> None:
    made = fitted(NETWORKS[name](), ranges="minmax")
    full = made.simulation.embed(PIXELS)
    wanted = torch.from_numpy(full.copy())
    network = learning(made, "W3A8").train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (1 - torch.cosine_similarity(network(PIXELS), wanted)).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.8 * losses[0], losses
    np.testing.assert_allclose(made.simulation.embed(PIXELS), full, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["W8A8", "W4A8", "W2A8", "W4A4"])
def test_what_was_trained_is_what_the_file_computes(precision: str) -> None:
    made = fitted(NETWORKS["residual_concat"](), ranges="minmax")
    network = learning(made, precision)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=draw))
    trained = network.eval()(PIXELS).detach().numpy()
    before = made.simulation.embed(PIXELS, made.planned(_plan(made, precision)))
    network.freeze_into(made)
    plan = _plan(made, precision)
    frozen = made.simulation.embed(PIXELS, made.planned(plan))
    # Scales and biases go to float16, no more: here and there a value falls on the next level.
    assert cosines(frozen, trained).mean() > 0.999
    assert np.linalg.norm(frozen - before) > 5 * np.linalg.norm(frozen - trained)
    file = in_onnxruntime(pack_planned(made.simulation, made, plan), IMAGES)
    np.testing.assert_allclose(file, frozen, rtol=1e-5, atol=1e-5 * np.abs(frozen).max())


@pytest.mark.parametrize(
    ("levels", "mixture"),
    [
        *(("dorefa", widths) for widths in [(8,), (2,), (4, 2), (8, 4, 2), (8, 6)]),
        *(("steps", widths) for widths in [(8,), (2,), (4, 2), (8, 4, 2)]),
    ],
)
def test_weights_of_widths_of_their_own_are_what_the_files_compute(
    levels: str, mixture: tuple[int, ...], tmp_path: Path
) -> None:
    made = fitted(NETWORKS["residual_concat"](), ranges="minmax")
    change = made.change(dict.fromkeys(made.simulation.groups, Precision(8, 8)))
    draw = torch.Generator().manual_seed(0)
    weights, activations = {}, {}
    for name in change.weights:
        weight = made.simulation.weighted(name).weight.detach()
        widths = torch.tensor(mixture, dtype=torch.uint8)[torch.randint(len(mixture), weight.shape, generator=draw)]
        if levels == "dorefa":
            weights[name] = DorefaQuantizer.of(weight, widths, output="channel", normalised="channel")
        else:
            weights[name] = MixedStepQuantizer(weight, widths)
    for tensor, observed in change.activations.items():
        assert isinstance(observed, AffineQuantizer)
        low = float(-observed.zero_point * observed.scale)
        activations[tensor] = PactQuantizer.over(low, low + 255 * float(observed.scale))
    network = Trainable(made.simulation, weights, activations).eval()
    trained = network(PIXELS).detach().numpy()
    network.freeze_into(made)
    bits = max(quantizer.bits for _, quantizer in network.quantized().values())
    plan = made.plan(dict.fromkeys(made.simulation.groups, Precision(bits, 8)))
    frozen = made.simulation.embed(PIXELS, made.planned(plan))
    assert cosines(frozen, trained).mean() > 0.999
    file = pack_planned(made.simulation, made, plan)
    if bits <= 8:
        np.testing.assert_allclose(in_onnxruntime(file, IMAGES), frozen, rtol=1e-5, atol=1e-5 * np.abs(frozen).max())
    codes = {name: made.weight(name, bits).quantizer.codes(made.weight(name, bits).weight) for name in weights}
    save_pack(tmp_path / "net.safetensors", codes, {})
    for name, found in load_pack(tmp_path / "net.safetensors").codes.items():
        assert torch.equal(found.decode(), codes[name].decode())
        assert (found.exponents is None) == (levels == "dorefa")
        assert (found.widths is None) == (len(mixture) == 1 and levels == "dorefa")
    save_module(tmp_path / "module.safetensors", made.simulation, made, plan)
    loaded = load_module(tmp_path / "module.safetensors")(PIXELS).numpy()
    np.testing.assert_allclose(loaded, frozen, rtol=1e-6, atol=1e-6 * np.abs(frozen).max())


def test_a_state_dict_brings_all_that_was_learned_back() -> None:
    made = fitted(NETWORKS["residual"](), ranges="minmax")
    one, other = learning(made, "W4A8"), learning(made, "W4A8")
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(1.05)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(PIXELS), other(PIXELS))


def layer_norm(seed: int = 0) -> bytes:
    """conv-PReLU, GAP, a layer norm, Gemm."""
    net = Sketch(seed)
    net.prelu(net.conv("image", "c1", 3, 8), "p1", 8)
    net.op("GlobalAveragePool", ["p1"], "gap")
    net.op("Flatten", ["gap"], "flat")
    scale, shift = (net.constant(f"ln_{name}", net.draw.uniform(0.5, 1.5, 8)) for name in ("scale", "shift"))
    net.op("LayerNormalization", ["flat", scale, shift], "ln")
    net.op("Gemm", ["ln", net.weight("embedding_w", 6, 8)], "embedding", transB=1)
    return net.bytes()


@pytest.mark.parametrize("content", [NETWORKS["residual_concat"](), layer_norm()])
def test_all_of_it_moves_to_a_device_and_the_simulation_stays(content: bytes) -> None:
    made = fitted(content, ranges="minmax")
    before = made.simulation.embed(PIXELS)
    network = learning(made, "W4A8").to("meta").train()
    # A module that stayed behind would meet a tensor on another device, which PyTorch refuses.
    assert network(PIXELS.to("meta")).shape == (len(PIXELS), 6)
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"meta"}
    np.testing.assert_array_equal(made.simulation.embed(PIXELS), before)


def test_what_does_not_learn_is_kept_in_training_mode_and_is_no_part_of_the_state() -> None:
    made = fitted(layer_norm(), ranges="minmax")
    network = Trainable(made.simulation, {}, {}).train()
    assert not any(module.training for module in network._others.modules())
    # c1 and the Gemm have weights, c1 a bias: nothing else is kept, and nothing else learns.
    names = ["weights.0", "weights.1", "biases.0"]
    assert list(network.state_dict()) == names
    assert [name for name, _ in network.named_parameters()] == names


def _plan(made: QuantizerCache, precision: str):
    return made.plan(dict.fromkeys(made.simulation.groups, Precision.parse(precision)))
