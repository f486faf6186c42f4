"""The Python face: a network is quantized, saved, evaluated and compared in a handful of lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import veriquant as vq


@pytest.fixture(scope="module")
def made(world: Path):
    network = vq.load_network(world / "tiny.onnx")
    settings = {"images": 6, "check_images": 4}
    return network, vq.quantize(network, "fixed", calibration=str(world / "photos"), settings=settings)


def test_every_public_name_is_there() -> None:
    assert all(getattr(vq, name) is not None for name in vq.__all__)


def test_a_result_holds_the_network_its_plan_and_what_was_measured(made, tmp_path: Path) -> None:
    network, result = made
    assert result.network.dim == network.dim
    assert result.network.digest != network.digest
    assert result.metrics["agreement"]["least_cosine"] > 0.9999
    assert result.metrics["file"]["average_bits"] == 8
    assert result.plan.groups
    assert vq.load_network(result.save(tmp_path / "small.onnx")).dim == network.dim
    assert vq.load_module(result.save(tmp_path / "small.safetensors")) is not None
    assert len(repr(result)) < 200


def test_two_networks_are_compared_on_the_same_comparisons(made, world: Path) -> None:
    network, result = made
    benchmark = vq.load_benchmark(f"lfw:{world}/lfw")
    found = vq.compare(network, result, on=benchmark, far=0.1)
    assert found["accuracy"].ci95 is not None
    assert "accuracy" in repr(found)
    assert found._repr_html_().count("<tr>") == len(found.differences) + 1
    assert len(found.plot().data) == sum(each.ci95 is not None for each in found.differences)
    with pytest.raises(vq.VeriQuantError, match="no difference of 'speed'; there are: "):
        found["speed"]
    same = vq.compare(network, network, on=benchmark, far=0.1)
    assert same["accuracy"].value == 0
