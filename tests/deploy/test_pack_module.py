"""A network under a plan as a safetensors file: it loads into PyTorch and computes what the ONNX file computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import NETWORKS, cosines, fitted, in_onnxruntime, pixels
from safetensors import safe_open
from safetensors.numpy import save_file

from veriquant.deploy.pack import load_module, pack_planned, save_module
from veriquant.deploy.pack.safetensors_pack import save_pack
from veriquant.errors import VeriQuantError
from veriquant.schemes import SCHEMES
from veriquant.simulation import Plan, Precision, QuantizerCache

IMAGES = pixels(8, seed=5)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planned(made: QuantizerCache, precision: str, scheme: str = "symmetric") -> Plan:
    plan = made.plan(dict.fromkeys(made.simulation.groups, Precision.parse(precision)))
    for group in plan.groups.values():
        group.scheme = scheme
    return plan


def loaded(made: QuantizerCache, plan: Plan, folder: Path) -> np.ndarray:
    save_module(folder / "net.safetensors", made.simulation, made, plan)
    return load_module(folder / "net.safetensors")(torch.as_tensor(IMAGES)).numpy()


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if SCHEMES.get(name).fit_weight])
@pytest.mark.parametrize("precision", ["W8A8", "W4A8", "W3A6", "W8A32"])
def test_every_scheme_comes_back_as_it_was(scheme: str, precision: str, tmp_path: Path) -> None:
    if int(precision[1]) not in SCHEMES.get(scheme).widths:
        precision = f"W2{precision[2:]}"
    made = fitted(NETWORKS["residual_concat"](), ranges="minmax")
    plan = planned(made, precision, scheme)
    simulated = made.simulation.embed(IMAGES, made.planned(plan))
    np.testing.assert_allclose(loaded(made, plan, tmp_path), simulated, rtol=1e-5, atol=1e-6 * np.abs(simulated).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_structure_computes_what_its_onnx_file_computes(name: str, tmp_path: Path) -> None:
    made = fitted(NETWORKS[name](), ranges="minmax")
    plan = planned(made, "W4A8")
    file = in_onnxruntime(pack_planned(made.simulation, made, plan), IMAGES)
    assert cosines(loaded(made, plan, tmp_path), file).min() > 0.99999


def test_groups_left_in_floating_point_stay_so(tmp_path: Path) -> None:
    made = fitted(NETWORKS["residual"](), ranges="minmax")
    plan = planned(made, "W4A8")
    for group in list(plan.groups.values())[::2]:
        group.enabled = False
    simulated = made.simulation.embed(IMAGES, made.planned(plan))
    np.testing.assert_allclose(loaded(made, plan, tmp_path), simulated, rtol=1e-5, atol=1e-6 * np.abs(simulated).max())


def test_fewer_bits_are_smaller_files(tmp_path: Path) -> None:
    made = fitted(NETWORKS["residual_concat"](), ranges="minmax")
    sizes = []
    for precision in ("W8A8", "W4A8", "W2A8"):
        save_module(tmp_path / "net.safetensors", made.simulation, made, planned(made, precision))
        sizes.append((tmp_path / "net.safetensors").stat().st_size)
    weights = sum(
        made.simulation.weighted(n).weight.numel() for g in made.simulation.groups.values() for n in g.weights
    )
    assert sizes[0] - sizes[1] == pytest.approx(weights / 2, rel=0.1)
    assert sizes[1] - sizes[2] == pytest.approx(weights / 4, rel=0.1)


@pytest.mark.parametrize("damage", ["weights alone", "truncated", "no graph", "no onnx"])
def test_other_files_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    made = fitted(NETWORKS["plain"](), ranges="minmax")
    save_module(path, made.simulation, made, planned(made, "W4A8"))
    if damage == "weights alone":
        save_pack(path, {}, {"one": torch.ones(2)})
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no graph":
        save_pack(path, {}, {}, {"kind": "module"})
    else:
        metadata = {"kind": "module", "name": "x", "spec": {}, "plan": planned(made, "W4A8").model_dump(mode="json")}
        save_pack(path, {}, {}, metadata, {"graph": b"\xff\xfe nothing"})
    with pytest.raises(VeriQuantError, match=r"net\.safetensors") as caught:
        load_module(path)
    assert "\n" not in str(caught.value)


def leaves(value: object, place: tuple = ()) -> list[tuple]:
    """Return the places of everything in nested JSON data."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, each in inner for found in leaves(each, (*place, key)))]


@pytest.mark.parametrize("other", [None, "x", -1, 1e300, True, [], {}, [[7]], {"a": 1}, 10**30], ids=str)
def test_a_field_of_another_type_is_one_line(other: object, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    made = fitted(NETWORKS["plain"](), ranges="minmax")
    save_module(path, made.simulation, made, planned(made, "W4A8"))
    with safe_open(path, "np") as file:
        header = json.loads(file.metadata()["veriquant"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    refused = 0
    for place in leaves(header)[1:]:
        changed = json.loads(json.dumps(header))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = other
        save_file(tensors, path, metadata={"veriquant": json.dumps(changed)})
        try:
            load_module(path)
        except VeriQuantError as error:
            refused += 1
            line = str(error)
            assert len(line) < 700
            assert "\n" not in line
    assert refused > len(leaves(header)) // 4
