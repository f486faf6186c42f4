"""Mixed precision on real networks: the file is what was simulated, and as small as its bits say."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import cosines, in_onnxruntime

from veriquant.allocation.sensitivity import noise_ratios, sqnr_db
from veriquant.calibration.prepare import prepare
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.deploy.pack import pack_planned
from veriquant.frontends.images import image_batches
from veriquant.networks import Network, load_network
from veriquant.networks.export import export_onnx
from veriquant.networks.families import FAMILIES
from veriquant.networks.network import network_digest
from veriquant.recipes import load_recipe
from veriquant.recovery import RECOVERIES
from veriquant.recovery.equalise import EqualiseConfig
from veriquant.simulation import Costs, Precision, QuantizerCache, observe, simulate, simulate_graph

pytestmark = pytest.mark.real
FIT, CHECK = 16, 8


@dataclass
class Prepared:
    network: Network
    calibration: Calibration
    fitted: QuantizerCache
    images: torch.Tensor


@pytest.fixture(scope="module")
def y1(real: Path) -> Prepared:
    """mobilefacenet-y1, equalised and fitted on a few faces; `images` are others."""
    network = load_network(f"{real}/networks/mobilefacenet-y1/mobilefacenet-y1.onnx")
    calibration = load_calibration(real / "faces" / "lfw-112x112", FIT + CHECK)
    pixels = np.concatenate(list(image_batches(calibration.samples, network.spec, 8)))
    simulation = simulate_graph(
        prepare(network, pixels[:FIT], steps=[RECOVERIES.get("equalise").step(EqualiseConfig())]).graph, network
    )
    images = torch.from_numpy(pixels)
    return Prepared(network, calibration, QuantizerCache(simulation, observe(simulation, images[:FIT])), images[FIT:])


def taking_turns(y1: Prepared, *names: str) -> dict[str, Precision]:
    """Give the groups these precisions in turn."""
    return dict(zip(y1.fitted.simulation.groups, cycle(Precision.parse(name) for name in names), strict=False))


def both(y1: Prepared, precisions: dict[str, Precision]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the embeddings of the file and of the simulation, and the file's size."""
    plan = y1.fitted.plan(precisions)
    content = pack_planned(y1.fitted.simulation, y1.fitted, plan)
    simulated = y1.fitted.simulation.embed(y1.images, y1.fitted.planned(plan))
    return in_onnxruntime(content, y1.images), simulated, len(content)


@pytest.mark.parametrize("precision", ["W8A8", "W4A8", "W6A6", "W4A4"])
def test_the_file_computes_what_was_simulated(y1: Prepared, precision: str) -> None:
    found, simulated, _ = both(y1, taking_turns(y1, precision))
    assert cosines(found, simulated).min() >= 0.9999


def test_a_mixture_of_few_bits_computes_what_was_simulated(y1: Prepared) -> None:
    found, simulated, _ = both(y1, taking_turns(y1, "W8A8", "W6A6", "W4A4", "W4A8"))
    assert cosines(found, simulated).min() >= 0.9999


@pytest.mark.parametrize(
    "names", [("W8A16",), ("W8A16", "W8A8", "W4A8"), ("W8A16", "W6A6"), ("W8A8", "W4A4", "W8A16", "W6A6", "W4A6")]
)
def test_wide_activations_beside_narrow_ones_compute_what_was_simulated(y1: Prepared, names: tuple[str, ...]) -> None:
    found, simulated, _ = both(y1, taking_turns(y1, *names))
    assert cosines(found, simulated).min() >= 0.9999


@pytest.mark.parametrize("names", [("FP32", "W8A8"), ("W8A32", "W8A8")])
def test_floating_point_beside_narrow_codes_is_as_near_as_sums_in_float_allow(
    y1: Prepared, names: tuple[str, ...]
) -> None:
    precisions = taking_turns(y1, *names)
    found, simulated, _ = both(y1, precisions)
    # Sums in float differ in their last bits from runtime to runtime, and become other 8-bit codes further on.
    assert cosines(found, simulated).min() >= 0.999
    full = y1.fitted.simulation.embed(y1.images)
    assert sqnr_db(noise_ratios(full, found)) == pytest.approx(sqnr_db(noise_ratios(full, simulated)), abs=1.0)


@pytest.mark.parametrize("precision", ["W8A8", "W4A8"])
def test_the_file_is_as_small_as_its_bits_say(y1: Prepared, precision: str) -> None:
    precisions = taking_turns(y1, precision)
    _, _, size = both(y1, precisions)
    nominal = Costs(y1.fitted.simulation).nominal_bytes(precisions)
    assert nominal < size <= 1.10 * nominal


def test_a_large_network_is_its_weights_and_little_else(real: Path) -> None:
    family = FAMILIES.get("iresnet50")
    with torch.no_grad():
        module = family.build(**family.defaults).eval()
    content = export_onnx(module, family.spec)
    network = Network(
        name="iresnet50", source="", spec=family.spec, onnx=content, dim=512,
        digest=network_digest(content, family.spec),
    )  # fmt: skip
    simulation = simulate(network)
    costs = Costs(simulation)
    eight, four = (dict.fromkeys(simulation.groups, Precision(bits, 32)) for bits in (8, 4))
    # A byte for each of the 43,590,848 parameters, as sources count; here biases and slopes have 32 bits.
    assert costs.nominal_bytes(eight) / 1e6 == pytest.approx(43.59, rel=0.002)
    made = QuantizerCache(simulation, {}, ranges="minmax")
    for precisions in (eight, four):
        size = len(pack_planned(simulation, made, made.plan(precisions)))
        assert size == pytest.approx(costs.nominal_bytes(precisions), rel=0.03)


def test_the_recipe_keeps_its_budget_on_a_real_network_and_nothing_fixed_is_better(y1: Prepared) -> None:
    overrides = {"images": FIT, "check_images": CHECK, "sensitivity_images": 8, "budget": "bops=0.5"}
    found = load_recipe("mixed", overrides=overrides).apply(y1.network, y1.calibration)
    assert found.allocation is not None
    chosen = found.allocation.chosen
    assert chosen.relative_bops <= 0.5 * (1 + 1e-9)
    eight = next(point for point in found.allocation.fixed if point.label == "fixed W8A8")
    assert chosen.measured_sqnr is not None
    assert eight.measured_sqnr is not None
    assert chosen.measured_sqnr >= eight.measured_sqnr
    full = in_onnxruntime(y1.network.onnx, y1.images)
    assert cosines(in_onnxruntime(found.onnx, y1.images), full).mean() > 0.98
