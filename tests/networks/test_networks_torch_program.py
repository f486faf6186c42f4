"""TorchScript and `torch.export` files are networks as they are, and nothing of a file runs that should not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks_tiny import small_mobilefacenet, unlike_any_other
from torch import Tensor, nn
from torch.nn import functional as F

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks import load_network
from veriquant.networks.edgeface import EdgeFace
from veriquant.networks.torch_operators import exported_function, script_kind_allowed
from veriquant.networks.torch_program import program_kind
from veriquant.networks.transface import TransFace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Mixed(nn.Module):
    """Convolutions, batch-norm, several activations, a normalised embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.bn = nn.BatchNorm2d(8)
        self.prelu = nn.PReLU(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.hardswish(self.prelu(self.bn(self.conv(x)))))
        return F.normalize(self.fc(self.drop(x.flatten(1))))


NETWORKS: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "mixed": lambda: (Mixed(), 32),
    "mobilefacenet": lambda: (small_mobilefacenet(), 112),
    "transface": lambda: (TransFace(channels=16, depth=1, embedding=8, size=27), 27),
    "edgeface": lambda: (EdgeFace((8, 16, 20, 24), (1, 2, 2, 2), heads=4, embedding=8), 96),
}


def traced(module: nn.Module, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, images).save(str(path))


def scripted(module: nn.Module, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))


def exported(module: nn.Module, images: Tensor, path: Path, decomposed: bool = False, static: bool = False) -> None:
    dynamic = None if static else ({0: torch.export.Dim("n")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (images,), dynamic_shapes=dynamic)
        torch.export.save(program.run_decompositions() if decomposed else program, str(path))


WAYS: dict[str, Callable[[nn.Module, Tensor, Path], None]] = {
    "traced": traced,
    "exported": exported,
    "decomposed": lambda m, x, p: exported(m, x, p, decomposed=True),
    "static": lambda m, x, p: exported(m, x, p, static=True),
}


def refusal(path: Path, spec: InputSpec | None = None) -> str:
    with pytest.raises(VeriQuantError) as caught:
        load_network(path, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_program_gives_its_embeddings(network: str, way: str, tmp_path: Path) -> None:
    module, side = NETWORKS[network]()
    unlike_any_other(module)
    path = tmp_path / ("net.pt" if way == "traced" else "net.pt2")
    WAYS[way](module, torch.rand(2, 3, side, side), path)
    loaded = load_network(path)
    assert (loaded.name, loaded.source, loaded.path) == ("net", str(path), path)
    assert loaded.spec.size == (side, side)
    assert "exported to ONNX, which gives the same embeddings" in loaded.notes[0]
    session = onnxruntime.InferenceSession(loaded.onnx)
    for count in (1, 3):
        images = torch.rand(count, 3, side, side) * 2 - 1
        with torch.no_grad():
            expected = module(images).numpy()
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_weights_keep_their_names(tmp_path: Path) -> None:
    exported(unlike_any_other(Mixed()), torch.rand(2, 3, 32, 32), tmp_path / "a.pt2")
    names = {tensor.name for tensor in onnx.load_from_string(load_network(tmp_path / "a.pt2").onnx).graph.initializer}
    assert {"conv.weight", "bn.running_var", "fc.weight"} <= names


def test_a_scripted_network_tells_no_size(tmp_path: Path) -> None:
    scripted(unlike_any_other(Mixed()), torch.rand(1), tmp_path / "a.pt")
    network = load_network(tmp_path / "a.pt")
    assert network.spec.size == (112, 112)
    assert "112×112 is the first that it takes" in network.notes[0]
    assert load_network(tmp_path / "a.pt", InputSpec(size=(48, 64))).spec.size == (48, 64)
    large = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.Flatten(), nn.Linear(400, 12))  # takes 160×160 alone
    scripted(unlike_any_other(large), torch.rand(1), tmp_path / "b.pt")
    assert load_network(tmp_path / "b.pt").spec.size == (160, 160)
    assert "does not run on images of shape (2, 3, 96, 96)" in refusal(tmp_path / "b.pt", InputSpec(size=(96, 96)))


def test_several_outputs_and_baked_batches_go_the_way_of_onnx_files(tmp_path: Path) -> None:
    class Baked(Mixed):
        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(self.prelu(self.bn(self.conv(x))))
            return self.fc(x.reshape(1, 8))

    traced(unlike_any_other(Baked()), torch.rand(1, 3, 32, 32), tmp_path / "a.pt")
    model = onnx.load_from_string(load_network(tmp_path / "a.pt").onnx)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_a_file_of_weights_is_no_program(tmp_path: Path) -> None:
    torch.save(Mixed().state_dict(), tmp_path / "a.pt")
    assert program_kind(tmp_path / "a.pt") is None
    assert "a checkpoint needs its family" in refusal(tmp_path / "a.pt")
    assert program_kind(tmp_path / "gone.pt") is None
    (tmp_path / "b.pt").write_bytes(b"PK\x03\x04 nonsense")
    assert program_kind(tmp_path / "b.pt") is None


@pytest.mark.parametrize("name", ["a.pt", "a.pt2"])
def test_a_program_needs_no_family(name: str, tmp_path: Path) -> None:
    (traced if name == "a.pt" else exported)(Mixed().eval(), torch.rand(2, 3, 32, 32), tmp_path / name)
    with pytest.raises(VeriQuantError, match="brings its own architecture; write the path without mobilefacenet:"):
        load_network(f"mobilefacenet:{tmp_path / name}")


@pytest.mark.parametrize("name", ["a.pt", "a.pt2"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_program_cut_short(name: str, share: float, tmp_path: Path) -> None:
    (traced if name == "a.pt" else exported)(Mixed().eval(), torch.rand(2, 3, 32, 32), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    assert str(tmp_path / name) in refusal(tmp_path / name)


# ------------------------------------------------------------------------------- what a file must not be able to do


def test_torchscript_that_writes_a_file(tmp_path: Path) -> None:
    mark = tmp_path / "written"

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = str(mark)

        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, self.place)
            return x.flatten(1)

    scripted(Writes(), torch.rand(1), tmp_path / "a.pt")
    assert "aten::save" in refusal(tmp_path / "a.pt")
    assert not mark.exists()


def test_torchscript_that_maps_a_file(tmp_path: Path) -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = str(tmp_path / "mapped")

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) + torch.from_file(self.place, True, 4).sum()

    scripted(Maps(), torch.rand(1), tmp_path / "a.pt")
    assert "aten::from_file" in refusal(tmp_path / "a.pt")
    assert not (tmp_path / "mapped").exists()


def test_torchscript_that_runs_on_loading(tmp_path: Path) -> None:
    class Restores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = str(tmp_path / "restored")

        @torch.jit.export
        def __getstate__(self) -> str:
            return self.place

        @torch.jit.export
        def __setstate__(self, place: str) -> None:
            self.place = place
            self.training = False
            torch.save(torch.zeros(1), place)

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    scripted(Restores(), torch.rand(1), tmp_path / "a.pt")
    assert "restore themselves by code" in refusal(tmp_path / "a.pt")
    assert not (tmp_path / "restored").exists()
    assert (torch.jit.load(str(tmp_path / "a.pt")), (tmp_path / "restored").exists())[1]  # loading it would have


def test_torchscript_with_quantized_layers(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(27, 4)), {nn.Linear})
    scripted(small, torch.rand(1), tmp_path / "a.pt")
    assert "quantized already" in refusal(tmp_path / "a.pt")


def changed(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Copy an archive, its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return target


@pytest.fixture
def program(tmp_path: Path) -> Path:
    exported(unlike_any_other(Mixed()), torch.rand(2, 3, 32, 32), tmp_path / "good.pt2")
    return tmp_path / "good.pt2"


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.prim.device.default",
        "torch.ops.aten.__class__.default",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.sqrt",
        "builtins.eval",
        "eval",
        "",
    ],
)
def test_an_exported_program_calls_no_other_function(program: Path, tmp_path: Path, target: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        model = json.loads(content)
        model["graph_module"]["graph"]["nodes"][3]["target"] = target
        return json.dumps(model).encode()

    message = refusal(changed(program, tmp_path / "bad.pt2", change))
    assert f"its program uses {target}, which is no function of tensors" in message


def test_expressions_in_an_exported_program_are_not_evaluated(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "evaluated"
    expression = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        return json.dumps(_replace(json.loads(content), "expr_str", expression)).encode()

    path = changed(program, tmp_path / "bad.pt2", change)
    assert load_network(path).dim == 12  # sizes that are open are open, whatever they are called
    assert not mark.exists()


def _replace(value: object, key: str, new: str) -> object:
    if isinstance(value, dict):
        return {k: new if k == key else _replace(v, key, new) for k, v in value.items()}
    return [_replace(each, key, new) for each in value] if isinstance(value, list) else value


def test_pickles_in_an_exported_program_are_not_read(program: Path, tmp_path: Path) -> None:
    class Calls:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'called')!r}, 'w')",))

    buffer = io.BytesIO()
    torch.save(Calls(), buffer)
    samples = changed(program, tmp_path / "a.pt2", lambda n, c: buffer.getvalue() if "sample_inputs" in n else c)
    assert load_network(samples).dim == 12

    def weights(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return buffer.getvalue() if "weights/weight_" in name else content

    assert "stored as a pickle" in refusal(changed(program, tmp_path / "b.pt2", weights))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("key", ["sizes", "strides", "storage_offset"])
def test_tensors_reach_no_further_than_their_bytes(program: Path, tmp_path: Path, key: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return content
        config = json.loads(content)
        meta = config["config"]["fc.weight"]["tensor_meta"]
        meta[key] = {"as_int": 100000} if key == "storage_offset" else [{"as_int": 999}, {"as_int": 999}]
        return json.dumps(config).encode()

    assert "fewer numbers than its shape" in refusal(changed(program, tmp_path / "bad.pt2", change))


def test_the_list_holds_nothing_that_reaches_out() -> None:
    for name in ("save", "from_file", "set_", "resize_", "_cuda_getDeviceProperties", "data_ptr", "hub", "print"):
        assert not script_kind_allowed(f"aten::{name}")
        assert exported_function(f"torch.ops.aten.{name}.default") is None
    for kind in (
        "prim::Print",
        "prim::PythonOp",
        "prim::CallMethod",
        "prim::rpc_async",
        "profiler::record",
        "cuda::sync",
    ):
        assert not script_kind_allowed(kind)
    assert script_kind_allowed("aten::relu_")
    assert script_kind_allowed("prim::If")


def test_looking_for_a_program_does_not_import_torch(tmp_path: Path) -> None:
    code = "import sys, veriquant.networks.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
