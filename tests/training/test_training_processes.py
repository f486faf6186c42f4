from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SHARED_HEADS, TinySource, resumable_task, shared_task, tiny_settings, tiny_task

import veriquant
from veriquant.errors import VeriQuantError
from veriquant.training.checkpoint import LAST, read_state
from veriquant.training.loop import train
from veriquant.training.processes import mean_and_deviation, present_anywhere

PROGRAM = Path(__file__).with_name("tiny_training.py")


def started(*arguments: object) -> subprocess.Popen[str]:
    package = str(Path(veriquant.__file__).parents[1])
    clean = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
    )


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    process = started(tmp_path / "killed", 1, 18)
    assert process.stdout.readline() == "waiting\n", process.communicate()[1]
    process.kill()
    process.communicate()
    assert read_state(tmp_path / "killed" / LAST).step == 14
    tasks = [resumable_task(), resumable_task()]
    histories = [
        train(task, TinySource(), tiny_settings(), tmp_path / folder, recipe={"data": "tiny"})
        for task, folder in zip(tasks, ("killed", "whole"), strict=True)
    ]
    assert np.array_equal(histories[0].values, histories[1].values)
    for name, value in tasks[0].state_dict().items():
        assert torch.equal(value, tasks[1].state_dict()[name]), name


def test_two_processes_lose_what_one_does(tmp_path: Path) -> None:
    """Each has half of every batch; batch norms, AdaFace's norms and the drawn classes are those of the whole batch."""
    process = started(tmp_path, 2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for head in SHARED_HEADS:
        task = shared_task(head)
        history = train(task, TinySource(), tiny_settings(), tmp_path / "one" / head, recipe={"data": "tiny"})
        state = read_state(tmp_path / head / LAST)
        assert state.recipe["processes"] == 2
        assert state.history[:, 1].numpy() == pytest.approx(history.losses, rel=1e-5)
        for name, value in task.state_dict().items():
            assert torch.allclose(value, state.model[name], rtol=1e-4, atol=1e-4), name


def test_several_processes_need_batches_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_fabric.Fabric.world_size", 2)
    with pytest.raises(VeriQuantError, match="2 processes would train on the same batches"):
        train(tiny_task(), TinySource(), tiny_settings(), tmp_path, recipe={})


def test_in_one_process_the_whole_batch_is_its_own() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    mean, deviation = mean_and_deviation(values)
    assert (mean.item(), deviation.item()) == pytest.approx((values.mean().item(), values.std().item()))
    assert present_anywhere(torch.tensor([2, 0, 2]), 4).tolist() == [True, False, True, False]
