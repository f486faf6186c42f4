"""TransFace and EdgeFace: exports that equal their modules at any batch, and the real EdgeFace-XS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
import torch
from networks_tiny import unlike_any_other
from torch import Tensor, nn
from torch.nn import functional as F

from veriquant.frontends.spec import ARCFACE, InputSpec
from veriquant.networks import FAMILIES, load_network
from veriquant.networks.edgeface import CrossCovarianceAttention, EdgeFace, FourierPositions
from veriquant.networks.export import INPUT, OPSET, export_onnx
from veriquant.networks.transface import HEADS, Attention, TransFace

NARROW = {
    "transface": lambda size: TransFace(channels=16, depth=2, embedding=24, size=size),
    "edgeface": lambda size: EdgeFace((8, 16, 20, 24), (1, 2, 2, 2), heads=4, embedding=24),
    "edgeface of low rank": lambda size: EdgeFace((8, 16, 20, 24), (1, 2, 2, 2), heads=4, rank=0.5, embedding=24),
}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("size", [112, 96])
def test_the_export_gives_the_same_embeddings_at_any_batch(name: str, size: int) -> None:
    module = unlike_any_other(NARROW[name](size))
    content = export_onnx(module, InputSpec(size=(size, size)))
    session = onnxruntime.InferenceSession(content)
    for batch in (1, 2, 5):
        images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(batch)) * 2 - 1
        with torch.no_grad():
            expected = module(images).numpy()
        (found,) = session.run(None, {INPUT: images.numpy()})
        assert found.shape == (batch, 24)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET
    kinds = {node.op_type for node in model.graph.node}
    assert "LayerNormalization" in kinds
    assert not kinds & {"CumSum", "Range", "ConstantOfShape", "Expand", "If", "Loop"}


def test_attention_is_torchs_own() -> None:
    attention = unlike_any_other(Attention(32))
    x = torch.randn(2, 7, 32)
    query, key, value = attention.qkv(x).reshape(2, 7, 3, HEADS, 4).permute(2, 0, 3, 1, 4)
    expected = attention.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)


def test_cross_covariance_attention_mixes_channels_not_positions() -> None:
    attention = unlike_any_other(CrossCovarianceAttention(12, heads=3, rank=0.0))
    x = torch.randn(2, 9, 12)
    order = torch.randperm(9)
    torch.testing.assert_close(attention(x)[:, order], attention(x[:, order]))
    with torch.no_grad():
        assert not torch.allclose(attention(x), attention(x + torch.randn(12)))


def test_positions_differ_and_depend_on_the_share_of_the_way() -> None:
    positions = FourierPositions(16)
    found = positions(5, 7)[0].flatten(1).T
    assert found.shape == (35, 16)
    assert torch.cdist(found, found).fill_diagonal_(1).min() > 1e-3


def test_the_gate_weighs_patches() -> None:
    module = unlike_any_other(TransFace(channels=16, depth=1, embedding=8, size=27))
    image = torch.rand(1, 3, 27, 27)
    with torch.no_grad():
        before = module(image)
        module.senet[2].weight.zero_()  # a gate of one half everywhere
        halved = module(image)
        x = module.norm(module.blocks[0](module.patch_embed(image) + module.pos_embed))
        torch.testing.assert_close(halved, module.feature(0.5 * x.flatten(1)))
    assert not torch.allclose(before, halved)


def test_pixels_beyond_the_last_patch_are_not_seen() -> None:
    module = unlike_any_other(TransFace(channels=16, depth=1, embedding=8, size=112))
    image = torch.rand(1, 3, 112, 112)
    other = image.clone()
    other[..., 108:] = 0
    with torch.no_grad():
        torch.testing.assert_close(module(image), module(other))
    with pytest.raises(ValueError, match="multiple of 8"):
        TransFace(channels=20)


@pytest.mark.parametrize("name", ["edgeface-xxs", "edgeface-xs-gamma-06"])
def test_a_published_layout_loads(tmp_path: Path, name: str) -> None:
    """EdgeFace's checkpoints hold their names behind ``model.``."""
    family = FAMILIES.get(name)
    module = unlike_any_other(family.build(embedding=64))
    torch.save({f"model.{key}": tensor for key, tensor in module.state_dict().items()}, tmp_path / "a.pt")
    network = load_network(f"{name}:{tmp_path / 'a.pt'}")
    assert network.dim == 64
    assert "'model.'" in network.notes[0]


@pytest.mark.real
def test_the_real_edgeface_is_the_same_network(real: Path) -> None:
    """The weights of the published file, carried over, give its embeddings to 1e-5."""
    file = real / "networks" / "edgeface-xs" / "edgeface-xs.onnx"
    model = onnx.load(str(file))
    stored = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}  # fmt: skip  # noqa: E501
    module = FAMILIES.get("edgeface-xs").build()
    state: dict[str, Tensor] = {name: stored[name] for name in module.state_dict() if name in stored}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            steps = node.name.strip("/").split("/")[:-1]
            owner = ".".join(a for a, b in zip(steps, [*steps[1:], ""], strict=True) if not b.startswith(f"{a}."))
            state[f"{owner}.weight"] = stored[node.input[1]].T
    assert set(state) == set(module.state_dict())
    module.load_state_dict(state)
    module.eval()
    images = torch.rand(4, 3, *ARCFACE.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session = onnxruntime.InferenceSession(str(file))
    (expected,) = session.run(None, {"x": images.numpy()})
    with torch.no_grad():
        found = module(images).numpy()
    assert np.abs(found - expected).max() < 1e-5
    (exported,) = onnxruntime.InferenceSession(export_onnx(module, ARCFACE)).run(None, {INPUT: images.numpy()})
    assert np.abs(exported - expected).max() < 1e-5


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_low_rank_layers_have_fewer_parameters() -> None:
    assert parameters(NARROW["edgeface of low rank"](112)) < parameters(NARROW["edgeface"](112))
