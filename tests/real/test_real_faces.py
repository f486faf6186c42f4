"""The real networks on the whole of LFW: full precision as published, and what the default recipe keeps of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.result import QuantizationResult
from veriquant.data.calibration import load_calibration
from veriquant.deploy import measure_latency, open_embedder
from veriquant.evaluation import embed, evaluate, protocol_of
from veriquant.frontends.sample import Sample
from veriquant.metrics import Options, verify
from veriquant.metrics.directions import mean_cosine
from veriquant.networks import Network, load_network
from veriquant.onnxgraph.graph import Array
from veriquant.recipes import load_recipe

pytestmark = pytest.mark.real

#: A network below networks/.
Y1 = "mobilefacenet-y1/mobilefacenet-y1.onnx"
#: network below networks/, flip, accuracy and EER in the manifest of the real data, as fractions
PUBLISHED = [
    (Y1, False, 0.9920, 0.0087),
    ("mobileface-v2/mobileface-v2.onnx", False, 0.9620, 0.0390),
    pytest.param(
        "mobilefacenet-foamliu:mobilefacenet-foamliu/mobilefacenet.pt", True, 0.9875, 0.0150, marks=pytest.mark.long
    ),
]


@pytest.fixture(scope="module")
def lfw(real: Path) -> Benchmark:
    return load_benchmark(f"lfw:{real}/faces/lfw-112x112")


def load(real: Path, source: str) -> Network:
    family, colon, path = source.rpartition(":")
    return load_network(f"{family}{colon}{real}/networks/{path}")


@pytest.mark.parametrize(("source", "flip", "accuracy", "eer"), PUBLISHED)
def test_full_precision_has_its_published_accuracy(
    real: Path, lfw: Benchmark, source: str, flip: bool, accuracy: float, eer: float
) -> None:
    pytest.importorskip("openvino")
    network = load(real, source)
    found = evaluate(
        network, lfw, runtime="openvino", threads=os.cpu_count() or 1, flip=flip, options=Options(resamples=0)
    )
    assert found.comparisons == {"genuine": 3000, "impostor": 3000, "total": 6000}
    assert found.metrics["accuracy"].value == pytest.approx(accuracy, abs=0.001)
    assert found.metrics["eer"].value == pytest.approx(eer, abs=0.001)


def int8(real: Path, lfw: Benchmark, network: Network, **settings: float) -> QuantizationResult:
    """Quantize with the default recipe on images of LFW that no pair names."""
    paths = [sample.path for sample in lfw.samples if sample.path is not None]
    recipe = load_recipe("int8", overrides=settings)
    calibration = load_calibration(real / "faces" / "lfw-112x112", recipe.calibration_images(), exclude=paths)
    return recipe.apply(network, calibration, QuantizationContext("onnxruntime", 1))


def embeddings(samples: Sequence[Sample], network: Network, file: bytes) -> Array:
    return embed(samples, open_embedder(file, network.spec, threads=os.cpu_count() or 1)).embeddings


def test_int8_is_faithful_small_and_no_slower(real: Path, lfw: Benchmark) -> None:
    network = load(real, Y1)
    made = int8(real, lfw, network, images=32, check_images=16, target_cosine=0.99)
    some = lfw.samples[:100]
    assert mean_cosine(embeddings(some, network, network.onnx), embeddings(some, network, made.onnx)) >= 0.985
    assert len(made.onnx) < 0.5 * len(network.onnx)
    embedders = {
        name: open_embedder(file, network.spec) for name, file in (("fp32", network.onnx), ("int8", made.onnx))
    }
    ratio = measure_latency(embedders, reference="fp32", batches=(1,), rounds=15)["int8"][0].ratio_to_reference
    assert ratio is not None
    # Measured 0.4; a bound far from it, since other work may share the machine.
    assert ratio < 1


@pytest.mark.long
def test_int8_keeps_what_the_real_network_recognises(real: Path, lfw: Benchmark) -> None:
    network = load(real, Y1)
    made = int8(real, lfw, network)
    found = embeddings(lfw.samples, network, made.onnx)
    metrics = verify(protocol_of(lfw), found, Options(resamples=0)).metrics
    assert metrics["accuracy"].value >= 0.9912
    # A tenth of a point is three of 3,000 comparisons, and the threshold rests on three impostors.
    assert metrics["tar@far=1e-3"].value >= 0.979
    assert mean_cosine(embeddings(lfw.samples[:300], network, network.onnx), found[:300]) >= 0.995
