"""`run_training`: the networks of a training's YAML file, one after the other; what was cut off goes on by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from veriquant.errors import VeriQuantError
from veriquant.places import Places
from veriquant.study.training_run import TrainingResult, TrainingRun
from veriquant.study.units import Say, to_stderr
from veriquant.training.config import TrainingConfig, load_training
from veriquant.training.devices import require_fabric


@dataclass(frozen=True)
class Trained:
    """A network that is trained: its folder, what came of it, and whether that was there already."""

    folder: Path
    result: TrainingResult
    was_there: bool


def run_training(
    training: str | os.PathLike[str] | TrainingConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    only: Sequence[str] = (),
    say: Say | None = None,
) -> list[Trained]:
    """Train the networks of a training, from a YAML file or a checked configuration.

    Results go to `out`, else where the training says, else to ``out/<name of the file>``, a folder a run. `only` names
    the runs to do; empty: all. `say` gets lines of progress (by default on stderr). Everything is read and checked
    before the first step. With several devices the processes beside the first return an empty list.

    Raises `VeriQuantError` where something is wrong and `KeyboardInterrupt` after Ctrl-C; what is finished is kept, and
    the same call goes on from there.
    """
    config = training if isinstance(training, TrainingConfig) else load_training(training)
    require_fabric()
    stem = "training" if isinstance(training, TrainingConfig) else Path(training).stem
    folder = Path(out) if out is not None else Path(config.out) if config.out else Path("out") / stem
    entries = config.each()
    if unknown := sorted(set(only) - {entry.name for entry in entries}):
        raise VeriQuantError(
            f"this training has no run {unknown[0]!r}; it has: {', '.join(entry.name for entry in entries)}"
        )
    path = None if isinstance(training, TrainingConfig) else training
    places = Places().reads("the training", path).reads("named in the training", config.model_dump())
    written = [entry.name for entry in entries if not only or entry.name in only]
    places.writes_into("the folder of results", folder, written).check()
    told = (say or to_stderr) if _first_process() else _nothing
    runs = []
    for entry in entries:
        if not only or entry.name in only:
            with _named(entry.name):
                runs.append(TrainingRun(config, entry, folder / entry.name, told))
    trained = [_trained(run, told) for run in runs]
    return [each for each in trained if each is not None]


def _trained(run: TrainingRun, say: Say) -> Trained | None:
    with _named(run.name):
        if (result := run.kept()) is not None:
            say(f"{run.name}: done already: {run.folder}")
            return Trained(run.folder, result, was_there=True)
        if not _first_process():
            run.follow()
            return None
        return Trained(run.folder, run.run(), was_there=False)


def _first_process() -> bool:
    """Return whether this is the process that writes: Fabric, and whoever starts processes, numbers the others."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _nothing(line: str) -> None:
    """Say nothing: the first process does."""


@contextmanager
def _named(run: str) -> Iterator[None]:
    """Say which run it was where something is wrong."""
    try:
        yield
    except VeriQuantError as error:
        raise VeriQuantError(f"{run}: {error}") from error
