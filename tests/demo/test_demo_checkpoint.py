"""The network that ships: small, loadable, and as accurate as its file says."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import veriquant.demo
from veriquant.benchmarks import load_benchmark, synthetic
from veriquant.metrics import Options, Protocol, verify
from veriquant.networks.checkpoints import load_checkpoint
from veriquant.networks.mobilefacenet import MobileFaceNet

SHIPPED = Path(veriquant.demo.__file__).with_name("mobilefacenet-demo.safetensors")
SCRIPT = Path(__file__).parents[2] / "scripts" / "train_demo_checkpoint.py"


def _network(path: Path) -> torch.nn.Module:
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata.family == "mobilefacenet"
    network = MobileFaceNet(**checkpoint.metadata.arguments)
    missing, unexpected = network.load_state_dict({k: v.float() for k, v in checkpoint.tensors.items()}, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network.eval()


def test_the_file_is_small_and_says_what_it_is() -> None:
    assert SHIPPED.stat().st_size < 2_000_000
    metadata = load_checkpoint(SHIPPED).metadata
    assert metadata.input is not None
    assert metadata.input.size == (112, 112)
    assert metadata.about["synthetic"] is True
    assert metadata.about["measured"]["benchmark"] == "demo:"
    assert metadata.about["trained_by"] == "scripts/train_demo_checkpoint.py"


def test_it_recognises_unseen_people_and_is_not_perfect() -> None:
    network, benchmark = _network(SHIPPED), load_benchmark("demo:small")
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(s.read()))) for s in benchmark.samples])
    inputs = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.no_grad():
        embeddings = torch.cat([network(part) for part in inputs.split(50)]).numpy()
    protocol = Protocol(benchmark.persons, benchmark.left, benchmark.right, benchmark.genuine, benchmark.folds)
    metrics = verify(protocol, embeddings, Options(far=(1e-2,), resamples=0)).metrics
    accuracy = metrics["accuracy"].value
    assert accuracy is not None
    assert MEASURED_ON_SMALL - 0.015 < accuracy < 0.998


MEASURED_ON_SMALL = 0.972


def _script():
    spec = importlib.util.spec_from_file_location("train_demo_checkpoint", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHORT = "--steps 3 --early 0.67 --batch 6 --people 4 --images 3 --width 0.25 --embedding 16 --threads 1 --measure small"


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("one_thread")
def test_a_short_training_makes_the_same_loadable_file_twice(tmp_path, capsys, monkeypatch) -> None:
    script = _script()
    monkeypatch.setitem(synthetic.SIZES, "small", synthetic.Size(people=6, images=3, folds=2, pairs=5))
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for file in files:
        script.main([*SHORT.split(), "--out", str(file)])
    first, second = (load_checkpoint(file) for file in files)
    assert first.metadata == second.metadata
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    assert first.metadata.about["measured"]["benchmark"] == "demo:small"
    _network(files[0])
    assert "accuracy" in capsys.readouterr().out


def test_stretching_keeps_what_a_flat_picture_gives() -> None:
    script = _script()
    torch.manual_seed(0)
    early = MobileFaceNet(embedding=16, width=0.25, size=script.EARLY_SIDE).eval()
    full = script.stretched(early, 0.25, 16).eval()
    kernel, larger = early.conv_6_dw.conv.weight, full.conv_6_dw.conv.weight
    assert larger.shape[-1] == 7
    torch.testing.assert_close(kernel.sum((2, 3)), larger.sum((2, 3)), rtol=0.3, atol=0.05)
