"""Mixed precision on the command line: lists, budgets, plans, and one line for whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from command_line import Cli, complaint
from onnx import TensorProto, helper
from small_world import DIM, tiny_network

from veriquant.allocation.sensitivity import load_list
from veriquant.deploy.pack import load_module
from veriquant.deploy.sessions import embeddings_of
from veriquant.networks import load_network
from veriquant.simulation import load_plan

FEW = ["--images", 8, "--set", "ranges=minmax"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mixed(world: Path, out: Path, *more: object) -> list[object]:
    return ["quantize", world / "tiny.onnx", "-r", "mixed", "-c", world / "photos", *FEW, "-o", out, *more]


@pytest.fixture
def plan(cli: Cli, world: Path, tmp_path: Path) -> Path:
    """A plan for the tiny network, and beside it the file that it was written with."""
    code, _, err = cli(*mixed(world, tmp_path / "mixed.onnx", "--budget", "bops=0.5", "--plan", tmp_path / "plan.json"))
    assert code == 0, err
    return tmp_path / "plan.json"


def test_a_plan_becomes_a_pack_for_pytorch(cli: Cli, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed.safetensors"
    code, _, err = cli(*mixed(world, out, "--budget", "bops=0.3"))
    assert code == 0, err
    network = load_network(world / "tiny.onnx")
    images = torch.rand(network.spec.batch_shape(3), generator=torch.Generator().manual_seed(0))
    module = load_module(out)
    found, full = module(images), torch.from_numpy(embeddings_of(network.onnx, images.numpy()))
    assert found.shape == (3, DIM)
    assert torch.cosine_similarity(found, full).min() > 0.9
    other = ["quantize", world / "tiny.onnx", "-r", "int8-static", "-c", world / "photos"]
    assert "onnx" in complaint(*cli(*other, "-o", tmp_path / "other.safetensors")).lower()


# --------------------------------------------------------------------------------------------------------- sensitivity


def test_sensitivity_prints_and_writes_the_list(cli: Cli, world: Path, tmp_path: Path) -> None:
    arguments = [
        "sensitivity", world / "tiny.onnx", "-c", world / "photos", "--images", 6, "--set", "ranges=minmax",
        "-o", tmp_path / "list.json", "--front", tmp_path / "front.json", "--points", 5,
    ]  # fmt: skip
    code, out, err = cli(*arguments)
    assert code == 0, err
    found = load_list(tmp_path / "list.json")
    assert found.samples == 6
    assert {entry.precision for entry in found.entries} == {"W8A16", "W8A8", "W4A8"}
    worst = found.worst_first()[0]
    assert worst.group in out
    assert f"{worst.sqnr:.1f}" in out
    front = json.loads((tmp_path / "front.json").read_text())
    assert front["kind"] == "veriquant-front"
    costs = [point["relative_bops"] for point in front["points"]]
    noises = [point["predicted_noise"] for point in front["points"]]
    assert costs == sorted(costs) or costs == sorted(costs, reverse=True)
    assert sorted(noises) == (noises if costs[0] > costs[-1] else noises[::-1])
    assert set(front["points"][0]["groups"]) == {entry.group for entry in found.entries}
    # Again: from the cache, the very same list.
    assert cli(*arguments)[0] == 0
    assert load_list(tmp_path / "list.json") == found


def test_sensitivity_takes_candidates_and_refuses_what_it_has_no_use_for(cli: Cli, world: Path, tmp_path: Path) -> None:
    base = ["sensitivity", world / "tiny.onnx", "-c", world / "photos", "--images", 4, "-o", tmp_path / "few.json"]
    code, _, err = cli(*base, "--set", 'candidates=["W8A8", "W6A8"]', "--target", "wide")
    assert code == 0, err
    assert {entry.precision for entry in load_list(tmp_path / "few.json").entries} == {"W8A8", "W6A8"}
    assert "--set budget" in complaint(*cli(*base, "--set", "budget=bops=0.5"))


def test_sensitivity_knows_every_target(cli: Cli, world: Path) -> None:
    code, out, err = cli("sensitivity", world / "tiny.onnx", "-c", world / "photos", "--images", 4, "--target", "wide")
    assert code == 0, err
    assert "W4A4" in out
    assert "wide" in complaint(
        *cli("sensitivity", world / "tiny.onnx", "-c", world / "photos", "--target", "narrow")
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- plans


def test_a_plan_alone_gives_the_same_file(cli: Cli, world: Path, tmp_path: Path, plan: Path) -> None:
    again = tmp_path / "again.onnx"
    code, _, err = cli(
        "quantize", world / "tiny.onnx", "--plan", plan, "-c", world / "photos", "--images", 8, "-o", again
    )
    assert code == 0, err
    assert again.read_bytes() == (tmp_path / "mixed.onnx").read_bytes()
    assert load_network(again).dim == DIM


def test_a_plan_says_how_it_came_about(plan: Path) -> None:
    found = load_plan(plan)
    assert found.note["budget"] == "bops=0.5"
    assert found.note["relative_bops"] <= 0.5
    assert found.ranges == "minmax"
    assert set(found.groups) == {"first", "second", "pool", "linear"}


def test_a_plan_edited_by_hand_gives_another_file(cli: Cli, world: Path, tmp_path: Path, plan: Path) -> None:
    content = json.loads(plan.read_text())
    content["groups"]["second"]["enabled"] = False
    plan.write_text(json.dumps(content))
    out = tmp_path / "edited.onnx"
    code, said, err = cli(
        "quantize", world / "tiny.onnx", "--plan", plan, "-c", world / "photos", "--images", 8, "-o", out
    )
    assert code == 0, err
    assert out.stat().st_size > (tmp_path / "mixed.onnx").stat().st_size
    assert "second" in said


@pytest.mark.parametrize("budget", ["bops=0.4", "bytes=12KB", "bytes=7KB"])
def test_a_budget_is_kept_by_the_file_on_disk(cli: Cli, world: Path, tmp_path: Path, budget: str) -> None:
    code, said, err = cli(*mixed(world, tmp_path / "o.onnx", "--budget", budget))
    assert code == 0, err
    if budget.startswith("bytes"):
        assert (tmp_path / "o.onnx").stat().st_size <= float(budget[6:-2]) * 1000
    assert "relative BOPs" in said


def test_a_task_budget_is_evaluated_on_a_benchmark(cli: Cli, world: Path, tmp_path: Path) -> None:
    benchmark = f"lfw:{world}/lfw"
    code, said, err = cli(*mixed(world, tmp_path / "o.onnx", "-b", "accuracy>=fp32-0.1", "--benchmark", benchmark))
    assert code == 0, err
    assert "evaluations of accuracy" in " ".join(said.split())


# -------------------------------------------------------------------------------------------------------------- errors


def test_a_plan_of_another_network(cli: Cli, world: Path, tmp_path: Path, plan: Path) -> None:
    content = json.loads(plan.read_text())
    content["groups"]["nobody"] = content["groups"].pop("first")
    plan.write_text(json.dumps(content))
    out = tmp_path / "o.onnx"
    line = complaint(
        *cli("quantize", world / "tiny.onnx", "--plan", plan, "-c", world / "photos", "--images", 8, "-o", out)
    )
    assert "another network" in line
    assert "nobody" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "no plan"), ('{"kind": "veriquant-plan"}', "missing")],
)
def test_a_plan_that_cannot_be_read(cli: Cli, world: Path, tmp_path: Path, content: str | None, named: str) -> None:
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_text(content)
    line = complaint(
        *cli("quantize", world / "tiny.onnx", "--plan", path, "-c", world / "photos", "-o", tmp_path / "o.onnx")
    )
    assert "broken.json" in line
    assert named in line


@pytest.mark.parametrize("budget", ["bops=0.01", "bytes=100"])
def test_a_budget_that_nothing_meets(cli: Cli, world: Path, tmp_path: Path, budget: str) -> None:
    line = complaint(*cli(*mixed(world, tmp_path / "o.onnx", "--budget", budget, "--plan", tmp_path / "p.json")))
    assert budget in line
    assert "cheapest" in line
    assert not (tmp_path / "o.onnx").exists()
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize("budget", ["bops=fast", "quick", "eer>=0.01", "accuracy>=97", "latency=0.5"])
def test_a_budget_that_cannot_be_read(cli: Cli, world: Path, tmp_path: Path, budget: str) -> None:
    assert budget in complaint(*cli(*mixed(world, tmp_path / "o.onnx", "--budget", budget)))


def test_a_task_budget_without_a_benchmark(cli: Cli, world: Path, tmp_path: Path) -> None:
    assert "--benchmark" in complaint(*cli(*mixed(world, tmp_path / "o.onnx", "--budget", "eer<=0.01")))


def test_a_latency_budget_for_a_target_without_kernels(cli: Cli, world: Path, tmp_path: Path) -> None:
    assert "onnxruntime-x86" in complaint(*cli(*mixed(world, tmp_path / "o.onnx", "--budget", "latency=0.5x")))


def test_a_network_with_an_operator_that_cannot_be_simulated(cli: Cli, world: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_network(tmp_path / "odd.onnx"))
    first = model.graph.node[0]
    odd = helper.make_node("Det", ["matrices"], ["dets"], "odd_one")
    shape = helper.make_tensor("square", TensorProto.INT64, [4], [0, 3, 32, 32])
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("Reshape", ["image", "square"], ["matrices"], "squares"))
    model.graph.node.insert(1, odd)
    one = helper.make_tensor("last", TensorProto.INT64, [2], [2, 3])
    model.graph.initializer.append(one)
    model.graph.node.insert(2, helper.make_node("Unsqueeze", ["dets", "last"], ["tall"], "tall"))
    model.graph.node.insert(3, helper.make_node("Add", ["image", "tall"], ["image2"], "mix"))
    first.input[0] = "image2"
    onnx.save(model, tmp_path / "odd.onnx")
    for arguments in (
        ["sensitivity", tmp_path / "odd.onnx", "-c", world / "photos"],
        ["quantize", tmp_path / "odd.onnx", "-r", "mixed", "-c", world / "photos", "-o", tmp_path / "o.onnx"],
    ):
        line = complaint(*cli(*arguments, "--images", 4))
        assert "'Det'" in line
        assert "odd_one" in line


@pytest.mark.parametrize("verb", ["sensitivity", "quantize"])
def test_a_calibration_folder_that_is_not_there(cli: Cli, world: Path, tmp_path: Path, verb: str) -> None:
    more = ["-r", "mixed", "-o", tmp_path / "o.onnx"] if verb == "quantize" else []
    line = complaint(*cli(verb, world / "tiny.onnx", "-c", tmp_path / "nowhere", *more))
    assert "nowhere" in line


def test_mixed_without_calibration_images(cli: Cli, world: Path, tmp_path: Path) -> None:
    line = complaint(*cli("quantize", world / "tiny.onnx", "-r", "mixed", "-o", tmp_path / "o.onnx"))
    assert "--calibration" in line


def test_a_plan_asked_of_a_recipe_that_makes_none(cli: Cli, world: Path, tmp_path: Path) -> None:
    line = complaint(
        *cli(
            "quantize", world / "tiny.onnx", "-r", "int8-static", "-c", world / "photos", "--images", 8,
            "--plan", tmp_path / "plan.json", "-o", tmp_path / "o.onnx",
        )
    )  # fmt: skip
    assert "makes no plan" in line
    assert not (tmp_path / "o.onnx").exists()
    assert not (tmp_path / "plan.json").exists()


def test_a_plan_asked_of_int8(cli: Cli, world: Path, tmp_path: Path) -> None:
    line = complaint(
        *cli(
            "quantize", world / "tiny.onnx", "-r", "int8", "-c", world / "photos", "--images", 8,
            "--plan", tmp_path / "plan.json", "-o", tmp_path / "o.onnx",
        )
    )  # fmt: skip
    assert "recipe 'int8' makes no plan" in line
    assert not (tmp_path / "o.onnx").exists()


def test_a_budget_for_a_recipe_that_has_none(cli: Cli, world: Path, tmp_path: Path) -> None:
    line = complaint(
        *cli("quantize", world / "tiny.onnx", "-c", world / "photos", "--budget", "bops=0.5", "-o", tmp_path / "o.onnx")
    )
    assert "budget" in line


def test_outputs_that_cannot_be_written(cli: Cli, world: Path, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_text("in the way of a folder")
    assert "a-file" in complaint(*cli(*mixed(world, tmp_path / "o.onnx", "--plan", file / "plan.json")))
    assert "a-file" in complaint(
        *cli("sensitivity", world / "tiny.onnx", "-c", world / "photos", "-o", file / "list.json")
    )  # fmt: skip
    # It is said at once, before anything is measured.
    assert not list(tmp_path.glob("cache/**/*.json"))
    assert not (tmp_path / "o.onnx").exists()
