"""`run_training`: what lies in the folder afterwards, and that a run that was cut off comes to the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_world import PEOPLE, TRAINED_ON, people_folders, training_file, training_text
from ufpr_folder import ufpr_folder

from veriquant.benchmarks import load_benchmark
from veriquant.deploy import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.evaluation import evaluate
from veriquant.frontends import image_batches
from veriquant.metrics import Options
from veriquant.networks import FAMILIES, load_network
from veriquant.networks.checkpoints import load_checkpoint
from veriquant.study.train import Trained, run_training
from veriquant.study.validation import ModuleEmbedder, Validation
from veriquant.training.checkpoint import read_state
from veriquant.training.config import parse_training
from veriquant.training.growing_margin import GrowingMargin
from veriquant.training.heads import make_head
from veriquant.training.start import start_network

STEPS = 3 * (PEOPLE * TRAINED_ON // 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people_folders(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    """A run that nothing cut off."""
    (found,) = run_training(training_file(folder), out=folder / "out", say=lambda line: None)
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_what_a_run_leaves(trained: Trained) -> None:
    names = {path.name for path in trained.folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "last.safetensors", "history.csv", "history.json", "best.safetensors", "network.onnx", "result.json"
    }  # fmt: skip
    told = json.loads((trained.folder / "result.json").read_text())
    assert told == trained.result.model_dump(mode="json")
    assert [epoch["epoch"] for epoch in told["epochs"]] == [1, 2, 3]
    assert sum(epoch["steps"] for epoch in told["epochs"]) == STEPS
    assert told["data"]["images"] == PEOPLE * TRAINED_ON
    assert told["data"]["people"] == PEOPLE
    assert told["seconds"] > 0
    assert told["threads"] == [1]
    assert told["onnx_deviation"] < 1e-5


def test_the_best_epoch_is_the_best_and_its_figures_are_those_of_its_file(trained: Trained, folder: Path) -> None:
    by_epoch = {epoch["epoch"]: epoch["validation eer"] for epoch in trained.result.epochs}
    best = trained.result.best
    assert best["value"] == min(by_epoch.values()) == by_epoch[best["epoch"]]
    benchmark = load_benchmark(f"folder:{folder}/held-out")
    found = evaluate(load_network(trained.folder / "network.onnx"), benchmark, options=Options(resamples=0))
    for name, value in trained.result.validation.items():
        assert found.metrics[name].value == pytest.approx(value, abs=1e-3)


def test_both_files_are_the_same_network(trained: Trained, folder: Path) -> None:
    exported = load_network(trained.folder / "network.onnx")
    module = load_network(f"mobilefacenet:{trained.folder}/best.safetensors")
    assert exported.spec.model_dump(exclude={"origin"}) == module.spec.model_dump(exclude={"origin"})
    batch = next(image_batches(load_benchmark(f"folder:{folder}/held-out").samples, exported.spec, 32))
    by_onnx = open_embedder(exported.onnx, exported.spec)(batch)
    by_module = ModuleEmbedder(module.module, module.spec, module.dim)(batch)
    lengths = np.linalg.norm(by_module, axis=1)
    assert np.linalg.norm(by_onnx - by_module, axis=1).max() < 1e-5 * lengths.min()
    assert by_onnx.std(axis=0).min() > 0


def test_training_teaches(folder: Path, tmp_path: Path) -> None:
    """The loss falls, and images that were never trained on are told apart better than by chance's own weights."""
    more = "head: {name: arcface, scale: 8, margin: 0.2}\nbatch_size: 8\nvalidate_every: 16\n"
    more += "loop: {epochs: 16, lr: 0.01, accelerator: cpu}"
    (found,) = run_training(training_file(folder, more, "longer.yaml"), out=tmp_path, say=lambda line: None)
    losses = [epoch["loss"] for epoch in found.result.epochs]
    assert losses[-1] < 0.3 * losses[0]
    start = start_network(parse_training(training_text(folder), "x").network, None, seed=0)
    validation = Validation(load_benchmark(f"folder:{folder}/held-out"), "eer")
    untrained = validation(start.module, start.spec, start.dim, 16)["eer"]
    assert found.result.best["value"] < 0.7 * untrained


def test_again_it_is_done(trained: Trained, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.folder.iterdir()}
    said: list[str] = []
    (again,) = run_training(folder / "small.yaml", out=folder / "out", say=said.append)
    assert again.was_there
    assert again.result == trained.result
    assert any("done already" in line for line in said)
    assert {path: path.stat().st_mtime_ns for path in trained.folder.iterdir()} == before


KILLED = """
import os, signal, sys
from veriquant.study.train import run_training
from veriquant.study.validation import Validation
call, calls = Validation.__call__, []
def killing(self, *arguments):
    found = call(self, *arguments)
    calls.append(found)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
Validation.__call__ = killing
run_training(sys.argv[1], out=sys.argv[2])
"""


def test_a_killed_run_comes_to_the_same(trained: Trained, folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(folder / "small.yaml"), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert found.returncode == -9, found.stderr
    cut_off = tmp_path / "run"
    assert 0 < read_state(cut_off / "last.safetensors").step < STEPS
    assert not (cut_off / "result.json").exists()
    (found,) = run_training(folder / "small.yaml", out=tmp_path, say=lambda line: None)
    assert not found.was_there
    assert same(cut_off / "best.safetensors", trained.folder / "best.safetensors")
    old, new = (read_state(place / "last.safetensors") for place in (trained.folder, cut_off))
    assert all(torch.equal(old.model[name], new.model[name]) for name in old.model)
    assert (cut_off / "network.onnx").read_bytes() == (trained.folder / "network.onnx").read_bytes()
    assert found.result.best == trained.result.best


def test_a_lost_network_is_made_again(trained: Trained, folder: Path) -> None:
    content = (trained.folder / "network.onnx").read_bytes()
    (trained.folder / "network.onnx").unlink()
    (again,) = run_training(folder / "small.yaml", out=folder / "out", say=lambda line: None)
    assert (trained.folder / "network.onnx").read_bytes() == content
    assert again.result.best == trained.result.best


def test_the_best_epoch_cannot_be_made_again(folder: Path, tmp_path: Path) -> None:
    run_training(folder / "small.yaml", out=tmp_path, say=lambda line: None)
    (tmp_path / "run" / "best.safetensors").unlink()
    with pytest.raises(
        VeriQuantError, match=r"best\.safetensors: the weights of epoch \d, the best one, are not there"
    ):
        run_training(folder / "small.yaml", out=tmp_path, say=lambda line: None)


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        ("seed: 1", "training.seed was 0, now it is 1"),
        ("head: {name: cosface, scale: 16, margin: 0.2}", "head.margin was 0.1, now it is 0.2"),
        ("select: auc", 'validation.select was "eer", now it is "auc"'),
    ],
)
def test_another_recipe_is_refused(trained: Trained, folder: Path, more: str, difference: str) -> None:
    with pytest.raises(VeriQuantError, match="begun with another recipe") as caught:
        run_training(training_file(folder, more, "other.yaml"), out=folder / "out", say=lambda line: None)
    assert difference in str(caught.value)
    assert trained.folder.name in str(caught.value)


def test_without_validation_the_last_epoch_counts(folder: Path, tmp_path: Path) -> None:
    (found,) = run_training(training_file(folder, "validate: none", "blind.yaml"), out=tmp_path, say=lambda line: None)
    assert found.result.best == {"epoch": 3, "selected_by": None, "value": None}
    last, best = read_state(found.folder / "last.safetensors").model, weights(found.folder / "best.safetensors")
    assert all(torch.equal(best[name], last[f"network.{name}"]) for name in best)


def test_folds_are_trained_one_after_the_other(tmp_path: Path) -> None:
    eyes = ufpr_folder(tmp_path / "eyes")
    runs = f"[{{name: open-1, data: 'ufpr:{eyes}:open_world:1', validate: 'ufpr-all:{eyes}:open_world:1:val'}}, "
    runs += f"{{name: blind, data: 'ufpr:{eyes}:open_world:1:val'}}]"
    more = f"data: none\nvalidate: none\nruns: {runs}\nbatch_size: 4\nloop: {{steps: 4, accelerator: cpu}}"
    file = training_file(tmp_path, more)
    (blind,) = run_training(file, out=tmp_path / "out", only=["blind"], say=lambda line: None)
    assert blind.result.validated_on is None
    found = run_training(file, out=tmp_path / "out", say=lambda line: None)
    assert [(each.result.name, each.was_there) for each in found] == [("open-1", False), ("blind", True)]
    assert found[0].result.data["people"] == 2
    assert "mirrored" in found[0].result.data["note"]
    with pytest.raises(VeriQuantError, match="no run 'open-2'; it has: open-1, blind"):
        run_training(file, out=tmp_path / "out", only=["open-2"])


def test_a_checkpoint_to_start_from(trained: Trained, folder: Path, tmp_path: Path) -> None:
    best = trained.folder / "best.safetensors"
    entry = parse_training(
        training_text(folder, f"network: {{family: mobilefacenet, checkpoint: {best}}}"), "x"
    ).network
    start = start_network(entry, None, seed=0)
    assert start.module.training
    assert start.arguments == trained.result.network["arguments"]
    assert all(torch.equal(start.module.state_dict()[name], value) for name, value in weights(best).items())
    other = entry.model_copy(update={"arguments": {"embedding": 32}})
    with pytest.raises(VeriQuantError, match="its weights are for embedding 16, but the training says 32"):
        start_network(other, None, seed=0)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_starts_ready_to_learn(name: str) -> None:
    """In training mode, from the seed alone, and with gradients everywhere that a step would follow."""
    entry = parse_training(f"network: {name}\ndata: 'folder:x'\nloop: {{epochs: 1}}", "x").network
    if name.startswith(("iresnet", "mobilefacenet")):
        entry = entry.model_copy(update={"arguments": {"size": 32}})
    if name.startswith("transface"):
        entry = entry.model_copy(update={"arguments": {"size": 36}})
    if name in ("iresnet50", "iresnet100"):
        entry = entry.model_copy(update={"arguments": {"size": 16}})
    state = torch.get_rng_state()
    start, again = start_network(entry, None, seed=3), start_network(entry, None, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(start.module.parameters(), again.module.parameters(), strict=True))
    assert all(module.training for module in start.module.modules())
    side = 96 if name.startswith("inception") else start.spec.size[0]
    embeddings = start.module(torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0)))
    assert embeddings.shape == (4, start.dim)
    make_head("arcface", start.dim, 4)(embeddings, torch.arange(4)).backward()
    learning = [parameter for parameter in start.module.parameters() if parameter.requires_grad]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in learning)
    norms = [m for m in start.module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms or name.startswith("edgeface")  # whose norms are over channels, and keep nothing
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)


def test_a_margin_may_grow() -> None:
    head = make_head("arcface", 4, 3, margin=1.0)
    task = GrowingMargin(torch.nn.Identity(), head, steps=10)
    margins = []
    for step in (0, 5, 10, 99):
        task.before_step(step)
        margins.append(head.margin)
    assert margins == [0.0, 0.5, 1.0, 1.0]
    GrowingMargin(torch.nn.Identity(), head, steps=0).before_step(0)
    assert head.margin == 1.0


def test_validation_leaves_the_network_as_it_was(folder: Path) -> None:
    start = start_network(parse_training(training_text(folder), "x").network, None, seed=0)
    before = {name: value.clone() for name, value in start.module.state_dict().items()}
    figures = Validation(load_benchmark(f"folder:{folder}/held-out"), "rank-1")(start.module, start.spec, start.dim, 5)
    assert {"eer", "auc", "rank-1"} <= set(figures)
    assert all(module.training for module in start.module.modules())
    assert all(torch.equal(before[name], value) for name, value in start.module.state_dict().items())


def test_a_metric_that_the_images_cannot_give(folder: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"gives no 'tar@far=1e-4' .*there are: eer, auc"):
        Validation(load_benchmark(f"folder:{folder}/held-out"), "tar@far=1e-4")


def test_the_best_file_says_what_it_is(trained: Trained) -> None:
    stated = load_checkpoint(trained.folder / "best.safetensors").metadata
    assert stated.family == "mobilefacenet"
    assert stated.about["epoch"] == trained.result.best["epoch"]
    assert stated.about["selected by"] == "eer"
