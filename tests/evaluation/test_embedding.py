from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from small_world import DIM, tiny_network

from veriquant.benchmarks import Benchmark, load_benchmark
from veriquant.deploy.embedder import Batch, Embedder, Embeddings
from veriquant.deploy.runtimes import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.evaluation import assess, embed, evaluate
from veriquant.evaluation.evaluate import count_comparisons, describe_network, independent_batch
from veriquant.files import json_digest
from veriquant.frontends import decode, normalise
from veriquant.metrics import Options
from veriquant.networks import Network, load_network


@pytest.fixture(scope="module")
def network(world: Path) -> Network:
    return load_network(world / "tiny.onnx")


@pytest.fixture(scope="module")
def benchmark_(world: Path) -> Benchmark:
    return load_benchmark(f"lfw:{world}/lfw")


class Broken(Embedder):
    """Gives what it is told for the images from `first` on."""

    def __init__(self, inner: Embedder, first: int, value: float) -> None:
        self.inner, self.first, self.value, self.seen = inner, first, value, 0
        self.runtime, self.spec, self.dim, self.threads = "broken", inner.spec, inner.dim, 1

    def _embed(self, batch: Batch) -> Embeddings:
        rows = self.inner(batch)
        numbers = np.arange(self.seen, self.seen + len(batch))
        self.seen += len(batch)
        rows[numbers >= self.first] = self.value
        return rows


def straight(network: Network, benchmark: Benchmark, flip: bool) -> np.ndarray:
    """Embed with nothing of ours between the decoder and the session."""
    session = onnxruntime.InferenceSession(network.onnx, providers=["CPUExecutionProvider"])
    pixels = np.stack([decode(sample, network.spec.size) for sample in benchmark.samples])
    images = normalise(pixels, network.spec)
    found = session.run(None, {"image": images})[0]
    if flip:
        found = found + session.run(None, {"image": np.ascontiguousarray(images[..., ::-1])})[0]
    return found


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 500])
def test_embeddings_are_those_of_the_bare_runtime(network, benchmark_, flip, batch_size):
    embedder = open_embedder(network.onnx, network.spec)
    seen = []
    found = embed(benchmark_.samples, embedder, flip=flip, batch_size=batch_size, progress=seen.append)
    assert found.embeddings.dtype == np.float32
    assert found.embeddings.shape == (len(benchmark_.samples), DIM)
    np.testing.assert_allclose(found.embeddings, straight(network, benchmark_, flip), rtol=0, atol=1e-5)
    assert sum(seen) == len(benchmark_.samples)
    assert 0 < found.seconds_runtime < found.seconds_total


def test_a_batch_is_cut_to_what_the_network_takes(network, benchmark_):
    embedder = open_embedder(network.onnx, network.spec)
    embedder.max_batch = 3
    assert embed(benchmark_.samples[:8], embedder, batch_size=16).batch_size == 3


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (0.0, "all zero")])
def test_an_embedding_without_a_direction_names_its_image(network, benchmark_, value, words):
    embedder = Broken(open_embedder(network.onnx, network.spec), first=5, value=value)
    with pytest.raises(VeriQuantError, match=words) as caught:
        embed(benchmark_.samples, embedder, batch_size=4)
    assert benchmark_.samples[5].name in str(caught.value)


def test_no_images_is_an_error(network):
    with pytest.raises(VeriQuantError, match="no images"):
        embed([], open_embedder(network.onnx, network.spec))


def test_an_evaluation_is_whole_and_goes_to_json_and_back(network, benchmark_):
    found = evaluate(network, benchmark_, flip=True, options=Options(far=(0.1,), resamples=40))
    assert {"accuracy", "eer", "auc", "tar@far=1e-1"} <= set(found.metrics)
    assert found.network["name"] == "tiny"
    assert found.network["size_bytes"] == len(network.onnx)
    assert found.benchmark["digest"] == benchmark_.digest
    assert found.comparisons == {"genuine": 24, "impostor": 24, "total": 48}
    assert found.settings["flip"] is True
    assert found.versions["onnxruntime"] == onnxruntime.__version__
    assert found.timing["seconds_runtime"] < found.timing["seconds_total"]
    again = type(found).model_validate_json(found.model_dump_json())
    assert json_digest(again.model_dump(mode="json")) == json_digest(found.model_dump(mode="json"))


def test_the_same_evaluation_twice_gives_the_same_figures(network, benchmark_):
    one, two = (evaluate(network, benchmark_, options=Options(far=(0.1,), resamples=40)) for _ in range(2))
    assert one.metrics == two.metrics
    assert one.curve == two.curve


def test_figures_from_kept_embeddings_are_those_of_a_whole_run(network, benchmark_):
    options = Options(far=(0.1,), resamples=40)
    embedded = embed(benchmark_.samples, open_embedder(network.onnx, network.spec))
    described = describe_network(network, runtime="onnxruntime", threads=1)
    assert (
        assess(described, benchmark_, embedded, options).metrics
        == evaluate(network, benchmark_, options=options).metrics
    )


def test_a_dynamically_quantized_network_runs_one_image_at_a_time(network, benchmark_, tmp_path):
    import onnxruntime.quantization as tool

    tiny_network(tmp_path / "a.onnx")
    tool.quantize_dynamic(tmp_path / "a.onnx", tmp_path / "b.onnx", weight_type=tool.QuantType.QInt8)
    dynamic = load_network(tmp_path / "b.onnx", network.spec)
    assert independent_batch(dynamic.onnx)
    assert not independent_batch(network.onnx)
    found = evaluate(dynamic, benchmark_, options=Options(far=(0.1,), resamples=0))
    assert found.settings["batch_size"] == 1


def test_implied_comparisons_are_counted(benchmark_):
    none = np.empty(0, dtype=np.int64)
    every = replace(
        benchmark_, left=none, right=none, genuine=none.astype(bool), folds=None, all_pairs=True,
        persons=np.array([0, 0, 0, 1, 1, 2]),
    )  # fmt: skip
    assert count_comparisons(every) == {"genuine": 4, "impostor": 11, "total": 15}
