"""`BestEpoch`: the weights of the best epoch so far, in a file of their own beside the state of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from veriquant.errors import VeriQuantError
from veriquant.networks.checkpoints import Metadata, load_checkpoint, save_checkpoint
from veriquant.study.validation import Validation
from veriquant.training.start import Start


class BestEpoch:
    """Keeps the network of the best epoch in `path`, as a checkpoint of its family; without a validation, the last.

    `run` names the run: what another one left in `path` counts for nothing. The file says itself which epoch it is of
    and why, so that a run that was cut off goes on with it.
    """

    def __init__(self, path: Path, run: str, start: Start, validation: Validation | None) -> None:
        self._path, self.run, self._start, self._validation = path, run, start, validation
        self.epoch: int | None = None
        self.figures: dict[str, float] = {}

    @property
    def value(self) -> float | None:
        """Return the best value of the metric that selects; None where nothing was validated yet."""
        return None if self._validation is None else self.figures.get(self._validation.select)

    def restore(self) -> None:
        """Take over what this run has kept already."""
        if not self._path.exists():
            return
        about = load_checkpoint(self._path).metadata.about
        if about.get("run") != self.run:
            return
        try:
            figures = {str(name): float(value) for name, value in dict(about["validation"]).items()}
            self.epoch, self.figures = int(about["epoch"]), figures
        except (KeyError, TypeError, ValueError) as error:
            raise VeriQuantError(
                f"{self._path}: does not tell of which epoch it is; put back a whole one, or remove "
                f"{self._path.parent} to train from the start"
            ) from error

    def offer(self, epoch: int, figures: dict[str, float]) -> bool:
        """Keep the network as it is now, after `epoch` (counted from 1), if its figures are the best so far."""
        assert self._validation is not None
        if not self._validation.better(figures[self._validation.select], self.value):
            return False
        self.keep(epoch, figures)
        return True

    def keep(self, epoch: int, figures: dict[str, float]) -> None:
        """Keep the network as it is now."""
        about: dict[str, Any] = {"run": self.run, "epoch": epoch, "validation": figures}
        if self._validation is not None:
            about |= {"validated on": self._validation.benchmark.source, "selected by": self._validation.select}
        start = self._start
        metadata = Metadata(family=start.family, arguments=start.arguments, input=start.spec, about=about)
        save_checkpoint(self._path, start.module, metadata)
        self.epoch, self.figures = epoch, figures

    def refuse_lost(self, values: dict[int, float]) -> None:
        """Raise `VeriQuantError` where an epoch of `values`, by number, is better than what is kept: its file is gone.

        Nobody could make it again but by training from the start.
        """
        for epoch, value in values.items():
            if self._validation is not None and self._validation.better(value, self.value):
                raise VeriQuantError(
                    f"{self._path}: the weights of epoch {epoch}, the best one, are not there any more; put the file "
                    f"back, or remove {self._path.parent} to train from the start"
                )
