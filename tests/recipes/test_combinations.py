"""Every pair of registered parts works, or is refused when the recipe is loaded, in one line that names both."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import onnx
import pytest
import torch
from small_world import photos, tiny_network

from veriquant.allocation import build_problem
from veriquant.allocation.sensitivities import SENSITIVITIES
from veriquant.allocation.sensitivities.base import with_harm
from veriquant.allocation.sensitivity import measure
from veriquant.allocation.solvers import SOLVERS
from veriquant.calibration.context import QuantizationContext
from veriquant.data.calibration import Calibration, load_calibration
from veriquant.errors import VeriQuantError
from veriquant.exports import EXPORTS
from veriquant.networks import Network, load_network
from veriquant.recipes import Recipe
from veriquant.recipes.pipeline import calibrate
from veriquant.recovery import RECOVERIES, TrainingRecovery
from veriquant.schemes import SCHEMES
from veriquant.simulation import Precision

FEW = {"images": 6, "check_images": 4}
SHORT = {"train_images": 8, "epochs": 1, "batch_size": 4}
BUDGETED = ("best", "greedy", "ilp")


def recovery(name: str) -> list[object]:
    """Return a list with one recovery, as little training as there is."""
    if not isinstance(RECOVERIES.get(name), TrainingRecovery):
        return [name]
    return [{name: {**SHORT, **({"first_epochs": 1, "last_epochs": 1} if name == "staged_qat" else {})}}]


def document(scheme: str, solver: str, recoveries: list[object], target: str, sensitivity: str = "sqnr") -> dict:
    """Return a recipe of these parts, with the widths that go with them."""
    weights: dict[str, object] = {"scheme": scheme}
    activations: dict[str, object] = {"scheme": "asymmetric"}
    allocation: dict[str, object] = {"solver": solver}
    if not SOLVERS.get(solver).chooses_weights:
        weights["bits"] = 8 if target == "runtime-kernels" or 4 not in SCHEMES.get(scheme).widths else 4
    if not SOLVERS.get(solver).chooses_activations:
        activations["bits"] = 8
    if solver in BUDGETED:
        allocation |= {
            "candidates": ["W2A8", "W4A8"],
            "budget": "bops=0.3",
            "sensitivity": {sensitivity: {"images": 4}},
        }
    if solver == "magnitude":
        allocation |= {"iterations": 2}
    return {
        "name": "pair",
        "calibration": FEW,
        "weights": weights,
        "activations": activations,
        "allocation": allocation,
        "recovery": recoveries,
        "export": {"target": target},
    }


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(tiny_network(tmp_path_factory.mktemp("net") / "tiny.onnx"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return load_calibration(photos(tmp_path_factory.mktemp("photos"), 14), 12)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def refusal(recipe: Recipe) -> str | None:
    try:
        recipe.check()
    except VeriQuantError as error:
        return str(error)
    return None


def outcome(recipe: dict, network: Network, images: Calibration, *named: str) -> bytes | None:
    """Return the file; None where the recipe is refused on loading, in one line that names a part."""
    loaded = Recipe.model_validate(recipe)
    refused = refusal(loaded)
    if refused is not None:
        assert "\n" not in refused
        assert any(name in refused for name in named), refused
        return None
    if loaded.judged():
        return None  # needs a benchmark, which the tests of budgets give
    made = loaded.apply(network, images, QuantizationContext())
    onnx.checker.check_model(onnx.load_model_from_string(made.onnx))
    assert made.metrics
    return made.onnx


@pytest.mark.parametrize(("scheme", "name"), list(product(SCHEMES, RECOVERIES)))
def test_schemes_and_recoveries(scheme: str, name: str, network: Network, images: Calibration) -> None:
    staged = name == "staged_qat"
    recipe = document(scheme, "ilp" if staged else "fixed", recovery(name), "generic")
    plain = document(scheme, "ilp" if staged else "fixed", [], "generic")
    made = outcome(recipe, network, images, scheme, name)
    if made is not None:
        assert made != outcome(plain, network, images, scheme, name), "the recovery changed nothing"


@pytest.mark.parametrize(("scheme", "solver"), list(product(SCHEMES, SOLVERS)))
def test_schemes_and_solvers(scheme: str, solver: str, network: Network, images: Calibration) -> None:
    if solver == "plan":
        return  # a plan brings its schemes; followed in test_mixed_precision
    made = outcome(document(scheme, solver, [], "generic"), network, images, scheme, solver, "weights.bits")
    if made is not None and scheme != "symmetric":
        other = outcome(document("symmetric", solver, [], "generic"), network, images, scheme, solver)
        twins = {"lsq", "mixed-step"}  # until training they are symmetric, at widths where they have its levels
        assert scheme in twins or made != other, "the scheme changed nothing"


@pytest.mark.parametrize(("solver", "name"), list(product(SOLVERS, RECOVERIES)))
def test_solvers_and_recoveries(solver: str, name: str, network: Network, images: Calibration) -> None:
    if solver == "plan":
        return
    scheme = "mixed-step" if solver == "magnitude" else "symmetric"
    outcome(document(scheme, solver, recovery(name), "wide"), network, images, solver, name, scheme)


@pytest.mark.parametrize(("solver", "target"), list(product(SOLVERS, EXPORTS)))
def test_solvers_and_targets(solver: str, target: str, network: Network, images: Calibration) -> None:
    if solver == "plan":
        return
    outcome(document("symmetric", solver, [], target), network, images, solver, target)


@pytest.mark.parametrize(("name", "target"), list(product(RECOVERIES, EXPORTS)))
def test_recoveries_and_targets(name: str, target: str, network: Network, images: Calibration) -> None:
    solver = "ilp" if name == "staged_qat" else "fixed"
    outcome(document("symmetric", solver, recovery(name), target), network, images, name, target, solver)


@pytest.mark.parametrize(("solver", "sensitivity"), list(product(("greedy", "ilp"), SENSITIVITIES)))
def test_solvers_and_sensitivities(solver: str, sensitivity: str, network: Network, images: Calibration) -> None:
    outcome(document("symmetric", solver, [], "generic", sensitivity), network, images, solver, sensitivity)


def test_the_integer_programme_sums_what_was_asked_for(network: Network, images: Calibration) -> None:
    """Before, FIT with the integer programme gave the bytes of SQNR: the harm that is named is what it solves with."""
    recipe = Recipe.model_validate(document("symmetric", "ilp", [], "generic"))
    assert recipe.composition is not None
    model, _ = calibrate(network, recipe.composition, images)
    plain = measure(model.quantizers, model.fit)
    harms = {
        name: {Precision.parse(e.precision): 7.0 + number for number, e in enumerate(plain.entries) if e.group == name}
        for name in plain.by_group()
    }
    problem = build_problem(model.costs, with_harm(plain, harms, "mine"))
    for name, by_precision in harms.items():
        for precision, harm in by_precision.items():
            assert problem.option(name, precision).noise == harm


def test_settings_of_a_rounding_make_another_sensitivity_list(network: Network, images: Calibration) -> None:
    budget = {"weights": {}, "allocation": {"solver": "ilp", "candidates": ["W2A8", "W4A8"], "budget": "bops=0.3"}}
    keys = set()
    for iterations in (1, 2):
        recovery = ["equalise", {"adaround": {"iterations": iterations}}]
        recipe = Recipe.model_validate({"name": "r", "calibration": FEW, **budget, "recovery": recovery})
        assert recipe.composition is not None
        keys.add(calibrate(network, recipe.composition, images)[0].rounding_key)
    assert len(keys) == 2


@pytest.mark.parametrize("name", ["qat", "staged_qat"])
def test_a_mixed_plan_is_trained_and_its_file_is_the_simulation(
    name: str, network: Network, images: Calibration
) -> None:
    recipe = document("kmeans", "ilp", ["equalise", *recovery(name)], "wide", "hessian")
    made = Recipe.model_validate(recipe).apply(network, images, QuantizationContext())
    assert made.metrics["agreement"]["least_cosine"] > 0.9999
    assert {group.weight_bits for group in made.plan.groups.values() if group.weight_bits} <= {2, 4}
    assert made.plan.trained
