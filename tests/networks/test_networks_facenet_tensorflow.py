"""FaceNet's checkpoints as TensorFlow names and lays them out are the same network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks_tiny import unlike_any_other
from safetensors.torch import save_file
from torch import nn

from veriquant.errors import VeriQuantError
from veriquant.networks import FAMILIES
from veriquant.networks.facenet_tensorflow import ROOT, from_tensorflow, variable_names
from veriquant.networks.family_checkpoint import read_module

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def module() -> nn.Module:
    network = unlike_any_other(FAMILIES.get("inception-resnet-v1").build(embedding=16))
    for name, parameter in network.named_parameters():
        if name.endswith("bn.weight"):
            nn.init.ones_(parameter)  # TensorFlow's batch-norms have no scale
    return network


def as_tensorflow(module: nn.Module, form: str = "{}") -> State:
    """Return the weights as TensorFlow would hold them, by the names of its own graph."""
    state = module.state_dict()
    found = {}
    for theirs, ours in variable_names():
        if not theirs.endswith("gamma"):
            tensor = state[ours]
            axes = (2, 3, 1, 0) if tensor.ndim == 4 else tuple(reversed(range(tensor.ndim)))
            found[form.format(theirs)] = tensor.permute(axes).contiguous()
    return found


def same(found: nn.Module, expected: nn.Module) -> None:
    state = found.state_dict()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(state[name], tensor), name


def test_the_names_are_tensorflows() -> None:
    names = [theirs for theirs, _ in variable_names()]
    assert len(set(names)) == len(names)
    for known in (
        "Conv2d_4b_3x3/BatchNorm/moving_mean",
        "Repeat/block35_5/Branch_2/Conv2d_0c_3x3/weights",
        "Repeat/block35_1/Conv2d_1x1/biases",
        "Repeat_1/block17_10/Branch_1/Conv2d_0b_1x7/weights",
        "Mixed_6a/Branch_0/Conv2d_1a_3x3/weights",
        "Mixed_7a/Branch_2/Conv2d_1a_3x3/BatchNorm/moving_variance",
        "Repeat_2/block8_3/Branch_1/Conv2d_0c_3x1/BatchNorm/beta",
        "Block8/Conv2d_1x1/weights",
        "Bottleneck/weights",
        "Bottleneck/BatchNorm/beta",
    ):
        assert f"{ROOT}/{known}" in names
    own = {ours for _, ours in variable_names()}
    assert own == set(FAMILIES.get("inception-resnet-v1").names())


@pytest.mark.parametrize("form", ["{}", "{}:0", "model/{}"])
def test_a_dump_of_tensorflows_variables_loads(tmp_path: Path, module: nn.Module, form: str) -> None:
    extra = {
        form.format("Logits/weights"): torch.zeros(16, 100),
        form.format("InceptionResnetV1/Bottleneck/weights/ExponentialMovingAverage"): torch.zeros(1792, 16),
    }
    torch.save(as_tensorflow(module, form) | extra, tmp_path / "a.pt")
    found, spec, notes = read_module(FAMILIES.get("inception-resnet-v1"), tmp_path / "a.pt")
    same(found, module)
    assert spec.size == (160, 160)
    assert notes[0].startswith("names and axes are TensorFlow's and were translated")
    assert "Logits/weights" in notes[0]


def test_in_safetensors_with_dots(tmp_path: Path, module: nn.Module) -> None:
    save_file({name.replace("/", "."): t for name, t in as_tensorflow(module).items()}, tmp_path / "a.safetensors")
    found, _, _ = read_module(FAMILIES.get("inception-resnet-v1"), tmp_path / "a.safetensors")
    same(found, module)


def test_facenet_pytorchs_layout_is_left_as_it_is(tmp_path: Path, module: nn.Module) -> None:
    assert from_tensorflow(module.state_dict()) is None
    torch.save(module.state_dict() | {"logits.weight": torch.zeros(8631, 16)}, tmp_path / "a.pt")
    found, _, notes = read_module(FAMILIES.get("inception-resnet-v1"), tmp_path / "a.pt")
    same(found, module)
    assert notes == ("left aside, as only training uses it: logits.weight",)


def test_a_missing_variable_is_named(tmp_path: Path, module: nn.Module) -> None:
    state = as_tensorflow(module)
    del state[f"{ROOT}/Bottleneck/weights"]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(VeriQuantError, match=r"1 missing: last_linear\.weight"):
        read_module(FAMILIES.get("inception-resnet-v1"), tmp_path / "a.pt")
