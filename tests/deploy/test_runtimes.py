from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from veriquant.deploy import (
    RUNTIMES,
    choose_runtime,
    machine,
    measure_latency,
    open_embedder,
    profile,
    versions,
)
from veriquant.deploy.embedder import Batch, Embedder, Embeddings
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.export import export_onnx
from veriquant.onnxgraph import inspect_onnx

SPEC = InputSpec(size=(16, 16))


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.PReLU(8), torch.nn.Flatten(), torch.nn.Linear(8 * 49, 6)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.fixture(scope="module")
def tiny() -> tuple[bytes, torch.nn.Module]:
    module = Tiny().eval()
    return export_onnx(module, SPEC), module


def fixed_batch(content: bytes, batch: int) -> bytes:
    model = onnx.load_model_from_string(content)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model.SerializeToString()


@pytest.mark.parametrize("runtime", list(RUNTIMES))
@pytest.mark.parametrize("threads", [1, 2])
def test_every_runtime_gives_the_same_embeddings(
    tiny: tuple[bytes, torch.nn.Module], runtime: str, threads: int
) -> None:
    content, module = tiny
    if runtime == "openvino":
        pytest.importorskip("openvino")
    batch = np.random.default_rng(0).standard_normal((5, 3, 16, 16)).astype(np.float32)
    before = torch.get_num_threads()
    embedder = open_embedder(content, SPEC, runtime=runtime, threads=threads, module=module)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    found = embedder(batch)
    assert found.dtype == np.float32
    assert (embedder.dim, embedder.runtime, embedder.threads) == (6, runtime, threads)
    assert np.allclose(found, expected, atol=1e-5)
    again = embedder(batch[:2])
    assert np.allclose(again, expected[:2], atol=1e-5)
    assert torch.get_num_threads() == before  # what trains in the same process depends on it


SIGNALLED = """
import os, signal, sys
from veriquant.deploy import open_embedder
from veriquant.frontends.spec import InputSpec
content, runtime = open(sys.argv[1], "rb").read(), sys.argv[2]
signal.signal(signal.SIGUSR1, lambda *arguments: print("handled"))
first = open_embedder(content, InputSpec(size=(16, 16)), runtime=runtime, threads=1)
second = open_embedder(content, InputSpec(size=(16, 16)), runtime=runtime, threads=1)
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_signals_are_still_handled_after_two_networks(
    tiny: tuple[bytes, torch.nn.Module], tmp_path: Path, runtime: str
) -> None:
    """Closed in the order in which they were opened, each of OpenVINO's cores put back a stack that was gone."""
    if runtime == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / "tiny.onnx"
    file.write_bytes(tiny[0])
    command = [sys.executable, "-c", SIGNALLED, str(file), runtime]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_fixed_batch_is_met_by_padding(tiny: tuple[bytes, torch.nn.Module], runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    batch = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
    expected = open_embedder(tiny[0], SPEC)(batch)
    embedder = open_embedder(fixed_batch(tiny[0], 4), SPEC, runtime=runtime)
    assert embedder.max_batch == 4
    assert np.allclose(embedder(batch), expected, atol=1e-5)


def test_what_cannot_be_opened_is_said(tiny: tuple[bytes, torch.nn.Module]) -> None:
    content, _module = tiny
    with pytest.raises(VeriQuantError, match=r"unknown runtime 'onnxruntim'.*did you mean 'onnxruntime'"):
        open_embedder(content, SPEC, runtime="onnxruntim")
    with pytest.raises(VeriQuantError, match="no PyTorch form"):
        open_embedder(content, SPEC, runtime="pytorch")
    with pytest.raises(VeriQuantError, match="threads must be at least 1"):
        open_embedder(content, SPEC, threads=0)
    with pytest.raises(VeriQuantError, match="ONNX Runtime cannot load"):
        open_embedder(content[: len(content) // 2], SPEC)


def test_openvino_says_when_it_is_not_installed(
    tiny: tuple[bytes, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VeriQuantError, match="pip install 'veriquant\\[openvino\\]'"):
        open_embedder(tiny[0], SPEC, runtime="openvino")


def test_auto_takes_the_fastest_and_says_so(tiny: tuple[bytes, torch.nn.Module]) -> None:
    choice = choose_runtime(tiny[0], SPEC, module=tiny[1], rounds=5)
    assert choice.runtime in RUNTIMES
    assert choice.sentence.startswith(f"{choice.runtime} is the fastest on 1 thread")
    assert "pytorch (this network is an ONNX file" in choose_runtime(tiny[0], SPEC, rounds=3).sentence


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


class Worker(Embedder):
    """Takes as long as it is told, by that clock; the machine slows down by a quarter from call to call."""

    def __init__(self, clock: Clock, milliseconds: float) -> None:
        self.runtime, self.spec, self.dim, self.threads = "work", SPEC, 1, 1
        self.clock, self.milliseconds, self.calls = clock, milliseconds, 0

    def _embed(self, batch: Batch) -> Embeddings:
        self.calls += 1
        self.clock.seconds += self.milliseconds * 1.25**self.calls / 1e3 * len(batch)
        return np.zeros((len(batch), 1), dtype=np.float32)


def test_latency_gives_median_spread_and_a_ratio_that_drift_does_not_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("veriquant.deploy.latency.time", clock)
    workers = {"slow": Worker(clock, 2.0), "fast": Worker(clock, 1.0)}
    found = measure_latency(workers, reference="slow", batches=(1, 2), rounds=9, warmup=2)
    fast, slow = found["fast"][0], found["slow"][0]
    assert fast.median_ms == pytest.approx(1.25**7)
    assert fast.p10_ms < fast.median_ms < fast.p90_ms
    assert slow.ratio_to_reference is None
    assert fast.ratio_to_reference == pytest.approx(0.5)
    assert fast.ratio_ci95 == pytest.approx((0.5, 0.5))
    assert [row.batch for row in found["fast"]] == [1, 2]
    assert workers["fast"].calls == 2 * (2 + 9)


def test_inspection_counts_what_is_there() -> None:
    weight = numpy_helper.from_array(np.full((4, 3, 3, 3), 0.5, np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(4, np.float32), "b")
    linear = numpy_helper.from_array(np.full((4, 5), -2.0, np.float32), "v")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "v"], ["e"], "linear"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 9, 9])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, ["n", 5])],
        [weight, bias, linear],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    info = inspect_onnx(model.SerializeToString())
    assert info.parameters == 4 * 27 + 4 + 20
    assert info.macs == 4 * 27 * 16 + 20
    assert info.weight_ranges == {"conv": (0.5, 0.5), "linear": (-2.0, -2.0)}
    assert [layer.operation for layer in info.layers] == ["Conv", "GlobalAveragePool", "MatMul"]


def test_the_profile_adds_up(tiny: tuple[bytes, torch.nn.Module]) -> None:
    found = profile(tiny[0], SPEC, runs=3)
    assert {row.operation for row in found.operators} >= {"PRelu"}
    assert sum(row.share for row in found.operators) == pytest.approx(1)
    assert sum(row.milliseconds for row in found.nodes) == pytest.approx(found.milliseconds)


def test_machine_and_versions_are_said() -> None:
    assert machine()["cores"] >= 1
    assert {"python", "veriquant", "onnxruntime"} <= versions().keys()
