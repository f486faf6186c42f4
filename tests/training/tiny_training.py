"""A training run small enough for tests, and a program of it that tests start and kill.

``python tiny_training.py FOLDER DEVICES [STOP]``: at step STOP it says so and waits to be killed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veriquant.training.heads import Head, make_head
from veriquant.training.loop import LoopSettings, train
from veriquant.training.task import Recognition

CLASSES = 40
BATCH = 16
PER_EPOCH = 10
#: What several processes train, one run after the other.
SHARED_HEADS = ("arcface", "adaface")


class TinySource:
    """Noisy pictures of a few people; a process gets every so-many-th image of the whole batch."""

    def __init__(
        self,
        rank: int = 0,
        processes: int = 1,
        before: Callable[[int], None] = lambda step: None,
        classes: int = CLASSES,
    ) -> None:
        self.rank, self.processes, self.before = rank, processes, before
        self.people = torch.randn(classes, 3, 4, 4, generator=torch.Generator().manual_seed(5))

    def __len__(self) -> int:
        return PER_EPOCH

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in range(start, PER_EPOCH):
            step = number * PER_EPOCH + batch
            self.before(step)
            generator = torch.Generator().manual_seed(step)
            labels = torch.randint(len(self.people), (BATCH,), generator=generator)
            images = self.people[labels] + 0.3 * torch.randn(BATCH, 3, 4, 4, generator=generator)
            yield images[self.rank :: self.processes], labels[self.rank :: self.processes]


def tiny_task(
    head: str = "arcface", sample: float | None = None, dropout: float = 0.0, classes: int = CLASSES
) -> Recognition:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.PReLU(), nn.Dropout(dropout), nn.Linear(24, 8))
    margin = {} if head == "softmax" else {"scale": 16.0}
    return Recognition(network, make_head(head, 8, classes, sample=sample, **margin))


def tiny_settings(**changes: Any) -> LoopSettings:
    plain = {"epochs": 3, "lr": 0.05, "accelerator": "cpu", "checkpoint_steps": 7}
    return LoopSettings.model_validate({**plain, "schedule": {"kind": "step", "at": [2]}, **changes})


def resumable_task() -> Recognition:
    """A task with all that has to be resumed: momentum, dropout, running norms, drawn classes."""
    return tiny_task("adaface", sample=0.5, dropout=0.3)


class Skipping(Recognition):
    """A task with a parameter that takes part in every other step only."""

    skips_parameters = True

    def __init__(self, network: nn.Module, head: Head) -> None:
        super().__init__(network, head)
        self.spare = nn.Parameter(torch.ones(()))
        self.used = False

    def before_step(self, step: int) -> None:
        self.used = step % 2 == 1

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().loss(self.spare * images if self.used else images, labels)


def shared_task(head: str) -> Recognition:
    """Return what several processes train."""
    task = tiny_task(head, sample=0.5)
    network = nn.Sequential(nn.BatchNorm2d(3), task.network, nn.BatchNorm1d(8, momentum=None))
    return Recognition(network, task.head) if head == "arcface" else Skipping(network, task.head)


def program(folder: Path, devices: int, stop: int | None) -> None:
    def wait(step: int) -> None:
        if step == stop:
            print("waiting", flush=True)
            time.sleep(600)

    if devices == 1:
        train(resumable_task(), TinySource(before=wait), tiny_settings(), folder, recipe={"data": "tiny"})
    else:
        for head in SHARED_HEADS:  # the second run must find the processes as the first did
            settings = tiny_settings(devices=devices)
            train(shared_task(head), TinySource, settings, folder / head, recipe={"data": "tiny"})


if __name__ == "__main__":
    program(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
