from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from recovery_networks import batch, every_layer, simulation

from veriquant.errors import VeriQuantError
from veriquant.recovery import moments
from veriquant.recovery.moments import InputMoments, collect_moments, parts_of, patches
from veriquant.simulation.weighted import Convolution

LAYERS = {"c1": "image", "c2": "r1", "c3": "c2", "c4": "p3", "g5": "f4", "embedding": "g5"}


def tensors_of(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return every tensor that a layer reads, by ONNX Runtime."""
    model = onnx.load_model_from_string(content)
    names = [name for name in LAYERS.values() if name != "image"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {"image": images, **dict(zip(names, session.run(names, {"image": images}), strict=True))}


def inputs_one_by_one(x: np.ndarray, node: onnx.NodeProto, weight: np.ndarray) -> np.ndarray:
    """Return the inputs that each group's weight meets, (groups, samples, inputs), by loops over ONNX's definition."""
    if node.op_type != "Conv":
        return x.reshape(1, -1, x.shape[-1])
    found = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    groups, strides, dilations = found.get("group", 1), found.get("strides", [1, 1]), found.get("dilations", [1, 1])
    top, left, bottom, right = found["pads"]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    channels, height, width = weight.shape[1:]
    reach = [(height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1]
    rows: list[list[np.ndarray]] = [[] for _ in range(groups)]
    for image in padded:
        for y in range(0, padded.shape[2] - reach[0] + 1, strides[0]):
            for z in range(0, padded.shape[3] - reach[1] + 1, strides[1]):
                window = image[:, y : y + reach[0] : dilations[0], z : z + reach[1] : dilations[1]]
                for group in range(groups):
                    rows[group].append(window[group * channels : (group + 1) * channels].reshape(-1))
    return np.array(rows)


@pytest.fixture(scope="module")
def content() -> bytes:
    return every_layer()


@pytest.mark.parametrize("layer", LAYERS)
def test_moments_are_those_of_every_input_of_the_layer(content: bytes, layer: str) -> None:
    images = batch(6)
    found = collect_moments(simulation(content), torch.from_numpy(images))[layer]
    model = onnx.load_model_from_string(content)
    node = next(n for n in model.graph.node if n.name == layer)
    weight = next(onnx.numpy_helper.to_array(i) for i in model.graph.initializer if i.name == node.input[1])
    x = inputs_one_by_one(tensors_of(content, images)[LAYERS[layer]], node, weight).astype(np.float64)
    gram = np.einsum("gni,gnj->gij", x, x) / x.shape[1]
    assert found.samples == x.shape[1]
    assert found.gram.shape == gram.shape
    assert np.allclose(found.gram, gram, rtol=1e-4, atol=1e-5 * np.abs(gram).max())
    assert np.allclose(found.mean, x.mean(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["c1", "c2", "c3", "g5"])
def test_the_quadratic_form_is_the_error_at_the_output(content: bytes, layer: str) -> None:
    images = torch.from_numpy(batch(5))
    network = simulation(content)
    found = collect_moments(network, images)[layer]
    module = network.weighted(layer)
    x = torch.from_numpy(tensors_of(content, images.numpy())[LAYERS[layer]])
    error = torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(0))
    moved = module.compute(x, error, None).movedim(1, 0).flatten(1)
    blocks = found.blocks(error)
    by_row = ((blocks @ found.gram) * blocks).sum(2).flatten()
    assert torch.allclose(by_row, moved.square().mean(1), rtol=1e-3)
    assert torch.allclose(found.mean_output(error), moved.mean(1), rtol=1e-3, atol=1e-4)


def test_a_convolution_over_one_axis_has_patches_too() -> None:
    module = Convolution(torch.randn(4, 3, 3), None, stride=[2], padding=[(2, 0)], dilation=[2], groups=2 - 1)
    x = torch.randn(2, 3, 11)
    seen = patches(x, module, torch.arange)
    expected = F.unfold(F.pad(x, (2, 0)).unsqueeze(2), (1, 3), dilation=(1, 2), stride=(1, 2)).mT.flatten(0, 1)
    assert torch.equal(seen, expected.unsqueeze(0))


def test_positions_are_drawn_alike_in_every_run_and_stand_for_all(content: bytes) -> None:
    images = torch.from_numpy(batch(16))
    network = simulation(content)
    every = collect_moments(network, images, ["c1"])["c1"]
    drawn, again = (collect_moments(network, images, ["c1"], samples=16 * 40)["c1"] for _ in range(2))
    assert drawn.samples == 16 * 40 < every.samples
    assert torch.equal(drawn.gram, again.gram)
    assert torch.equal(drawn.mean, again.mean)
    assert (drawn.gram - every.gram).norm() < 0.2 * every.gram.norm()
    assert not torch.equal(drawn.gram, every.gram)


def test_wide_inputs_are_cut_into_equal_parts(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(batch(6))
    network = simulation(content)
    whole = collect_moments(network, images, ["c1", "c2"])
    monkeypatch.setattr(moments, "WIDEST", 10)
    cut = collect_moments(network, images, ["c1", "c2"])
    assert (cut["c1"].parts, cut["c2"].parts) == (3, 3)
    for name, found in cut.items():
        size = found.gram.shape[1]
        for block, gram in enumerate(found.gram):
            group, part = divmod(block, found.parts)
            place = slice(part * size, (part + 1) * size)
            assert torch.allclose(gram, whole[name].gram[group, place, place], rtol=1e-4, atol=1e-5)
        weight = network.weighted(name).weight.detach()
        assert torch.equal(found.whole(found.blocks(weight), weight.shape), weight)


@pytest.mark.parametrize(("inputs", "parts"), [(1, 1), (1152, 1), (1153, 1153), (2304, 2), (4608, 4), (25088, 28)])
def test_parts_are_as_few_as_can_be(inputs: int, parts: int) -> None:
    assert parts_of(inputs) == parts


def test_centred_moments_are_covariances() -> None:
    x = torch.randn(2, 500, 6, generator=torch.Generator().manual_seed(3)) + 2
    found = InputMoments(x.mT @ x / 500, x.mean(1), 500)
    expected = torch.stack([torch.cov(each.T, correction=0) for each in x])
    assert torch.allclose(found.centred(), expected, atol=1e-4)


def test_without_images_or_with_nan_there_are_no_moments(content: bytes) -> None:
    network = simulation(content)
    images = torch.from_numpy(batch(2))
    with pytest.raises(VeriQuantError, match="no calibration image"):
        collect_moments(network, images[:0])
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(VeriQuantError, match="not finite"):
        collect_moments(network, images)
