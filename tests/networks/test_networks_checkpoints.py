from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from networks_tiny import small_mobilefacenet, tiny_onnx, unlike_any_other, write
from safetensors.torch import save_file
from torch import nn

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import ARCFACE, ARCFACE_128, InputSpec
from veriquant.networks import FAMILIES, Network, load_network
from veriquant.networks import pretrained as pretrained_room
from veriquant.networks.checkpoints import Metadata, load_checkpoint, save_checkpoint
from veriquant.networks.pretrained import Pretrained
from veriquant.registry import Registry

State = dict[str, torch.Tensor]


def refusal(source: str, spec: InputSpec | None = None) -> str:
    with pytest.raises(VeriQuantError) as caught:
        load_network(source, spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


def embeddings(network: Network, images: torch.Tensor) -> np.ndarray:
    (result,) = onnxruntime.InferenceSession(network.onnx).run(None, {"input": images.numpy()})
    return np.asarray(result)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[object], Path]:
    def save(content: object) -> Path:
        path = tmp_path / "net.pt"
        torch.save(content, path)
        return path

    return save


# ------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("size", [112, 224])
def test_a_checkpoint_tells_its_width_size_and_embedding(saved: Callable[[object], Path], size: int) -> None:
    module = small_mobilefacenet(embedding=48, size=size, width=0.25)
    path = saved(module.state_dict())
    network = load_network(f"mobilefacenet:{path}")
    assert (network.name, network.source, network.path) == ("net", f"mobilefacenet:{path}", path)
    assert network.dim == 48
    assert network.spec.size == (size, size)
    assert f"{size}×{size}" in network.spec.origin
    assert network.spec.mean == ARCFACE.mean
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = module(images).numpy()
        assert network.module is not None
        assert np.array_equal(network.module(images).numpy(), expected)
    assert np.abs(embeddings(network, images) - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_counters_are_not_needed(saved: Callable[[object], Path]) -> None:
    state = small_mobilefacenet().state_dict()
    network = load_network(f"mobilefacenet:{saved({k: v for k, v in state.items() if 'num_batches' not in k})}")
    assert network.module is not None
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.module.state_dict().items())


def test_loading_leaves_the_random_numbers_alone(saved: Callable[[object], Path]) -> None:
    path = saved(small_mobilefacenet().state_dict())
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_network(f"mobilefacenet:{path}")
    assert torch.equal(torch.rand(3), expected)


def test_safetensors_bring_their_arguments_and_their_input(tmp_path: Path) -> None:
    module = small_mobilefacenet()
    path = tmp_path / "net.safetensors"
    about = {"seed": 1}
    metadata = Metadata(family="mobilefacenet", arguments={"width": 0.125}, input=ARCFACE_128, about=about)
    save_checkpoint(path, module, metadata)
    assert load_checkpoint(path).metadata == metadata
    network = load_network(f"mobilefacenet:{path}")
    assert network.spec.std == ARCFACE_128.std
    assert "metadata" in network.spec.origin
    assert network.notes == ()
    assert load_network(f"mobilefacenet:{path}", ARCFACE).spec == ARCFACE
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_half_precision_is_computed_as_float32_and_said_so(tmp_path: Path) -> None:
    module = small_mobilefacenet()
    save_checkpoint(tmp_path / "half.safetensors", module, half=True)
    save_checkpoint(tmp_path / "full.safetensors", module)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size
    network = load_network(f"mobilefacenet:{tmp_path / 'half.safetensors'}")
    assert network.module is not None
    assert {parameter.dtype for parameter in network.module.parameters()} == {torch.float32}
    assert "float16" in network.notes[0]


def test_the_head_of_training_is_left_aside_and_named(saved: Callable[[object], Path]) -> None:
    family = FAMILIES.get("inception-resnet-v1")
    state = unlike_any_other(family.build(embedding=16)).state_dict()
    state["logits.weight"], state["logits.bias"] = torch.zeros(10, 16), torch.zeros(10)
    network = load_network(f"inception-resnet-v1:{saved(state)}", InputSpec(size=(96, 96)))
    assert network.dim == 16
    assert network.spec.origin == "given by the user"
    assert "logits.weight, logits.bias" in network.notes[0]


def test_a_registered_name_brings_family_and_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    registry: Registry[Pretrained] = Registry("pretrained network")
    registry.add("mine", Pretrained("mine", "mobilefacenet", file, "summary", "citation"))
    monkeypatch.setattr("veriquant.networks.load.PRETRAINED", registry)
    message = refusal("mine")
    assert str(file) in message
    assert "not in this installation" in message
    save_checkpoint(file, small_mobilefacenet(), Metadata(family="mobilefacenet", arguments={"width": 0.125}))
    network = load_network("mine")
    assert (network.name, network.source, network.dim) == ("mine", "mine", 32)


def test_the_demo_network_lies_in_the_package() -> None:
    entry = pretrained_room.PRETRAINED.get("demo-mobilefacenet")
    assert entry.file.parts[-3:] == ("veriquant", "demo", "mobilefacenet-demo.safetensors")
    assert entry.family in FAMILIES


# ------------------------------------------------------------------------------------------------------ refusals


def test_what_is_no_source_at_all() -> None:
    message = refusal("mobilefacent")
    assert "demo-mobilefacenet" in message
    assert "FAMILY:CHECKPOINT" in message
    assert "did you mean 'mobilefacenet'" in refusal("mobilefacent:a.pt")


def test_a_checkpoint_without_its_family_and_an_onnx_file_with_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    assert f"FAMILY:{path}" in refusal(str(path))
    write(tmp_path / "a.onnx", tiny_onnx())
    assert "without mobilefacenet:" in refusal(f"mobilefacenet:{tmp_path / 'a.onnx'}")


def test_keys_of_another_family_name_the_right_one(saved: Callable[[object], Path]) -> None:
    path = saved(small_mobilefacenet().state_dict())
    message = refusal(f"iresnet18:{path}")
    assert str(path) in message
    assert "'iresnet18'" in message
    assert "missing: conv1.weight (64, 3, 3, 3), " in message
    assert "not of this family: conv1.conv.weight (8, 3, 3, 3), " in message
    assert f"write mobilefacenet:{path}" in message


def test_missing_surplus_and_misshapen_keys_are_named(saved: Callable[[object], Path]) -> None:
    state = small_mobilefacenet().state_dict()
    del state["bn.weight"]
    state["stem.weight"] = torch.zeros(2, 2)
    state["conv2_dw.bn.bias"] = torch.zeros(9)
    message = refusal(f"mobilefacenet:{saved(state)}")
    assert "1 missing: bn.weight (32,)" in message
    assert "1 not of this family: stem.weight (2, 2)" in message
    assert "1 of another shape: conv2_dw.bn.bias expected (8,), found (9,)" in message
    assert "changed network" in message


def test_a_state_dict_of_nothing_known(saved: Callable[[object], Path]) -> None:
    assert "export the network to ONNX" in refusal(f"iresnet18:{saved({'a': torch.zeros(1)})}")


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    assert "no such checkpoint file" in refusal(f"iresnet18:{tmp_path / 'none.pt'}")
    assert "no such checkpoint file" in refusal("iresnet18:")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    module = small_mobilefacenet()
    if suffix == ".pt":
        torch.save(module.state_dict(), path)
    else:
        save_checkpoint(path, module)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message = refusal(f"mobilefacenet:{path}")
    assert str(path) in message
    assert "get it again" in message


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "told"),
    [(b"no checkpoint at all, only words " * 9, "damaged"), (b"version https://git-lfs.github.com/spec/v1", "LFS")],
)
def test_a_file_of_another_kind(tmp_path: Path, suffix: str, content: bytes, told: str) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    message = refusal(f"mobilefacenet:{path}")
    assert told in message or "not a whole safetensors file" in message


def test_a_torchscript_archive_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Linear(2, 2)).save(path)
    assert "TorchScript" in refusal(f"mobilefacenet:{path}")


@pytest.mark.parametrize(("content", "told"), [([1, 2], "holds a list"), ({"epoch": 3}, "keys epoch")])
def test_a_file_without_a_state_dict(saved: Callable[[object], Path], content: object, told: str) -> None:
    assert told in refusal(f"mobilefacenet:{saved(content)}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "cannot be read"),
        ('{"arguments": {"width": "wide"}}', "cannot be read"),
        ('{"family": "iresnet18"}', "write iresnet18:"),
        ('{"arguments": {"depth": 3}}', "does not take: depth"),
        ('{"arguments": {"size": 100}}', "size must be a multiple of 16"),
        ('{"arguments": {"embedding": 64}}', "expected (64, 64), found (32, 64)"),
    ],
)
def test_metadata_that_cannot_be_right(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {k: v.clone() for k, v in small_mobilefacenet().state_dict().items()}
    save_file(tensors, path, metadata={"veriquant": text})
    assert told in refusal(f"mobilefacenet:{path}")


@pytest.mark.parametrize(
    ("spec", "told"),
    [(InputSpec(size=(160, 160)), "made for 112×112"), (InputSpec(layout="NHWC"), "takes NCHW")],
)
def test_a_specification_that_the_tensors_contradict(
    saved: Callable[[object], Path], spec: InputSpec, told: str
) -> None:
    assert told in refusal(f"mobilefacenet:{saved(small_mobilefacenet().state_dict())}", spec)


def test_weights_that_are_no_numbers(saved: Callable[[object], Path]) -> None:
    state = small_mobilefacenet().state_dict()
    state["bn.bias"] = torch.full((32,), torch.nan)
    assert "NaN" in refusal(f"mobilefacenet:{saved(state)}")
