"""`History`: the figures of every step and every epoch of a training run, and the two files they are kept in."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veriquant.files import write_json, write_text

Figures = NDArray[np.float64]


class History:
    """What a run's loss and other figures were.

    `columns`: ``lr``, ``loss`` and what else the task shows. `epochs`: for each epoch that is over, its number from 1,
    the mean of each column over its steps, and what the run's `on_epoch` gave. Figures are means over processes.
    `threads`: on how many of PyTorch's threads its CPU computed, session by session where one differs from the last;
    empty where a GPU does.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.columns: tuple[str, ...] = ()
        self.epochs: list[dict[str, Any]] = []
        self.threads: list[int] = []
        self._parts: list[Figures] = []

    @property
    def values(self) -> Figures:
        """The figures of each step, float64 (steps, columns)."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0] if self._parts else np.zeros((0, len(self.columns)))

    @property
    def losses(self) -> Figures:
        """The loss of each step, float64 (steps,)."""
        return self.values[:, self.columns.index("loss")] if self.columns else np.zeros(0)

    @property
    def last_loss(self) -> float:
        """The loss of the last step."""
        return float(self._parts[-1][-1, self.columns.index("loss")])

    def add(self, columns: Sequence[str], values: Figures) -> None:
        """Append steps: float64 (steps, columns)."""
        if self.columns and self.columns != tuple(columns):
            raise ValueError(f"a task's figures must not change: they were {self.columns}, now {tuple(columns)}")
        self.columns = tuple(columns)
        self._parts.append(values)

    def restore(
        self, columns: Sequence[str], values: Figures, epochs: Sequence[dict[str, Any]], threads: Sequence[int]
    ) -> None:
        """Take over what a run had when it was cut off."""
        self.columns, self._parts, self.epochs = tuple(columns), [values], list(epochs)
        self.threads = list(threads)

    def begin_session(self, threads: int) -> None:
        """Note that from here on the CPU computes on `threads` threads."""
        if self.threads[-1:] != [threads]:
            self.threads.append(threads)

    def end_epoch(self, epoch: int, extra: Mapping[str, float]) -> None:
        """Sum up an epoch, its number counted from 0; `extra`: further figures of it."""
        rows = self.values[epoch * self.steps_per_epoch : (epoch + 1) * self.steps_per_epoch]
        means = dict(zip(self.columns, rows.mean(axis=0).tolist(), strict=True))
        self.epochs.append({"epoch": epoch + 1, "steps": len(rows), **means, **extra})

    def write(self, folder: Path) -> None:
        """Write ``history.csv``, a line a step, and ``history.json``, an entry an epoch; both count from 1."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("epoch", "step", *self.columns))
        for i, row in enumerate(self.values.tolist()):
            table.writerow((i // self.steps_per_epoch + 1, i + 1, *row))
        write_text(folder / "history.csv", text.getvalue())
        epochs = [{key: _plain(value) for key, value in epoch.items()} for epoch in self.epochs]
        write_json(
            folder / "history.json",
            {
                "steps": len(self.values),
                "steps_per_epoch": self.steps_per_epoch,
                "threads": self.threads,
                "epochs": epochs,
            },
        )


def _plain(value: float) -> float | None:
    """Return a figure as JSON has it: None where it is not finite."""
    return value if math.isfinite(value) else None
