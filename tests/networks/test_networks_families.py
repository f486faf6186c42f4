from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks_tiny import unlike_any_other

from veriquant.frontends.spec import InputSpec
from veriquant.networks import FAMILIES, PRETRAINED, describe
from veriquant.networks.export import INPUT, OPSET, OUTPUT, export_onnx


@pytest.mark.parametrize(
    ("family", "arguments", "parameters"),
    [
        ("iresnet18", {}, 24_025_600),
        ("iresnet34", {}, 34_139_328),
        ("iresnet50", {}, 43_590_848),
        ("iresnet100", {}, 65_156_160),
        ("mobilefacenet", {}, 1_003_136),
        ("iresnet18", {"size": 224}, 62_560_768),
        ("iresnet50", {"size": 224}, 82_126_016),
        ("mobilefacenet", {"size": 224, "embedding": 512}, 1_275_776),
        ("inception-resnet-v1", {}, 23_482_624),
        ("mobilefacenet-foamliu", {}, 999_936),
        ("transface-t", {}, 24_466_944),
        ("transface-s", {}, 86_660_864),
        ("transface-b", {}, 124_471_040),
        ("transface-l", {}, 271_630_336),
        ("edgeface-xxs", {}, 1_244_744),
        ("edgeface-xs", {}, 2_242_620),
        ("edgeface-xs-gamma-06", {}, 1_770_492),
        ("edgeface-s-gamma-05", {}, 3_652_520),
    ],
)
def test_parameters_are_those_of_the_source(family: str, arguments: dict[str, int], parameters: int) -> None:
    assert FAMILIES.get(family).parameters(**arguments) == parameters


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_tells_what_it_is(name: str) -> None:
    family = FAMILIES.get(name)
    assert family.name == name
    assert family.summary
    assert family.citation
    assert family.spec.layout == "NCHW"
    assert family.defaults.get("size", family.spec.size[0]) == family.spec.size[0]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"embedding": 96, "size": 160}, {"width": 0.3125}])
def test_arguments_give_the_output_and_follow_from_the_tensors(name: str, changes: dict[str, float]) -> None:
    family = FAMILIES.get(name)
    arguments = family.defaults | {key: value for key, value in changes.items() if key in family.defaults}
    with torch.device("meta"):
        module = family.build(**arguments).eval()
        side = int(arguments.get("size", family.spec.size[0]))
        assert module(torch.zeros(3, 3, side, side)).shape == (3, arguments["embedding"])
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert family.defaults | family.infer(shapes) == arguments


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_of_another_network_tell_nothing_wrong(name: str) -> None:
    family = FAMILIES.get(name)
    assert family.infer({}) == {}
    assert "size" not in family.infer({"fc.weight": (512, 100), "linear.weight": (), "conv3.weight": ()})


@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet-foamliu", "iresnet18"])
def test_a_size_that_the_pooling_cannot_take_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        FAMILIES.get(name).build(size=100)


@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet-foamliu", "iresnet18", "inception-resnet-v1"])
def test_the_exported_network_gives_the_same_embeddings(name: str) -> None:
    family = FAMILIES.get(name)
    module = unlike_any_other(family.build(**family.defaults)).train()
    spec = family.spec if "size" in family.defaults else family.spec.model_copy(update={"size": (96, 96)})
    content = export_onnx(module, spec)
    assert module.training, "export must leave the mode alone"
    module.eval()
    images = torch.rand(3, 3, *spec.size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = module(images).numpy()
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    assert expected.std() > 1e-4
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())

    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET
    named = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
    assert {tensor.name for tensor in model.graph.initializer} == named


def test_the_same_weights_give_the_same_bytes() -> None:
    family = FAMILIES.get("mobilefacenet")
    module = unlike_any_other(family.build(width=0.125))
    assert export_onnx(module, family.spec) == export_onnx(module, family.spec)


def test_equal_weights_stay_weights_of_their_nodes() -> None:
    """A fresh network has many equal slopes, which the exporter merges."""
    family = FAMILIES.get("mobilefacenet")
    model = onnx.load_from_string(export_onnx(family.build(width=0.125), family.spec))
    weights = {tensor.name for tensor in model.graph.initializer}
    assert not [node for node in model.graph.node if node.op_type == "Identity"]
    assert all(node.input[1] in weights for node in model.graph.node if node.op_type in ("Conv", "PRelu", "MatMul"))


def test_export_is_silent(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    family = FAMILIES.get("mobilefacenet")
    export_onnx(family.build(width=0.125), family.spec)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_descriptions_cover_everything_that_is_registered() -> None:
    lines = describe()
    assert [line.name for line in lines] == [*FAMILIES, *PRETRAINED]
    facts = {line.name: line for line in lines}
    assert facts["iresnet50"].parameters == 43_590_848
    assert facts["iresnet50"].embedding == 512
    assert facts["inception-resnet-v1"].input.startswith("FaceNet convention")
    assert facts["demo-mobilefacenet"].kind == "pretrained"


def test_listing_networks_and_loading_onnx_files_does_not_import_torch() -> None:
    code = (
        "import sys, veriquant.networks, veriquant.networks.onnx_file; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_conventions_are_registered_as_given() -> None:
    assert isinstance(FAMILIES.get("iresnet18").spec, InputSpec)
    assert FAMILIES.get("mobilefacenet-foamliu").spec.std == (58.395, 57.12, 57.375)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("iresnet50", ["conv1.weight", "prelu.weight", "layer1.0.downsample.1.bias", "layer3.13.bn3.bias", "bn2.bias"]),
        ("iresnet50", ["fc.bias", "features.running_var"]),
        ("inception-resnet-v1", ["conv2d_1a.conv.weight", "repeat_1.4.branch2.2.bn.bias", "repeat_2.9.conv2d.bias"]),
        ("inception-resnet-v1", ["mixed_6a.branch0.bn.weight", "mixed_7a.branch2.2.conv.weight", "block8.conv2d.bias"]),
        ("inception-resnet-v1", ["last_linear.weight", "last_bn.running_mean"]),
        ("transface-s", ["pos_embed", "mask_token", "patch_embed.proj.bias", "blocks.11.attn.qkv.weight", "norm.bias"]),
        ("transface-b", ["blocks.23.mlp.fc2.bias", "senet.0.weight", "senet.2.weight", "feature.3.running_var"]),
        ("edgeface-xs", ["stem.1.weight", "stages.1.blocks.2.pos_embd.token_projection.weight", "head.fc.bias"]),
        ("edgeface-xs", ["stages.2.blocks.8.convs.1.weight", "stages.3.blocks.2.xca.temperature", "head.norm.bias"]),
        ("edgeface-s-gamma-05", ["stages.0.blocks.0.mlp.fc1.linear1.weight", "head.fc.linear2.bias"]),
        ("edgeface-xs-gamma-06", ["stages.3.blocks.2.xca.qkv.linear2.weight", "stages.1.downsample.1.bias"]),
        ("mobilefacenet", ["conv2_dw.prelu.weight", "conv_4.model.5.project.bn.bias", "linear.weight", "bn.bias"]),
    ],
)
def test_parameters_have_the_names_of_public_checkpoints(name: str, keys: list[str]) -> None:
    family = FAMILIES.get(name)
    with torch.device("meta"):
        names = set(family.build(**family.defaults).state_dict())
    assert set(keys) <= names
