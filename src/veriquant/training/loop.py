"""`train`: the one loop for all that learns, on one device or many.

A run lives in a folder and goes on by itself from what lies there. On the CPU a run that was cut off anywhere ends with
the same numbers, to the last bit, as one that was not, if PyTorch has as many threads (sums are made in another order
with another number); on a GPU as far as its kernels repeat themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from veriquant.errors import VeriQuantError
from veriquant.files import require_writable
from veriquant.training.checkpoint import (
    LAST,
    DamagedStateError,
    State,
    epoch_file,
    misfit,
    plain,
    read_state,
    refuse_other_recipe,
    write_state,
)
from veriquant.training.devices import open_fabric
from veriquant.training.display import Show, display
from veriquant.training.history import Figures, History
from veriquant.training.interrupt import Interrupt
from veriquant.training.settings import LoopSettings, make_optimizer
from veriquant.training.shared_norm import whole_batch_norms
from veriquant.training.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["BatchSource", "Batches", "History", "LoopSettings", "OnEpoch", "seed_step", "train"]

#: Steps between two looks at the losses where looking makes a device, or other processes, wait.
_LOOK_EVERY = 16


class BatchSource(Protocol):
    """What gives the batches of an epoch: the same ones whenever it is asked for the same epoch."""

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, counted from 0, from batch `start` on.

        Images float32 (n, 3, height, width) and labels int64 (n,), on the CPU.
        """
        ...


#: A source of batches; for several processes a function that is given the process's rank and their number.
Batches = BatchSource | Callable[[int, int], BatchSource]
#: Called on the first process after each epoch with its number, counted from 1; what it returns goes into the history.
OnEpoch = Callable[[int], Mapping[str, float] | None]


def train(
    task: Task,
    batches: Batches,
    settings: LoopSettings,
    folder: str | Path,
    *,
    recipe: Mapping[str, Any],
    on_epoch: OnEpoch | None = None,
    say: Callable[[str], None] | None = None,
    part: str = "",
) -> History:
    """Train `task` in place, from the start or from where the run in `folder` was cut off, and return its history.

    The task ends on the CPU. `recipe`: plain data that tells this run from others (network, data, ...); the settings,
    the batches of an epoch and the number of processes are added to it, and a folder begun with another is refused.
    `folder` gets ``last.safetensors``, ``history.csv`` and ``history.json``. `on_epoch` may be called again for an
    epoch after which the run was cut off. `say` gets lines of progress where stderr is no terminal to show a bar, and
    one where the run goes on with another number of threads on the CPU: it is not refused, but noted in the history.
    `part`: what this run is of something larger, put in front of what is shown.

    With several devices Fabric starts this program once a device; gradients are averaged, batch normalisation is over
    the whole batch, losses in the history are means over the processes. A finished run is read, and nothing is written.
    Raises `VeriQuantError` where a step is left and `folder` cannot be written, and where the loss or a weight is no
    longer finite, leaving the last good state; Ctrl-C finishes the step, writes the state and raises
    `KeyboardInterrupt`.
    """
    fabric = open_fabric(settings, task)
    source = _own_batches(batches, fabric)
    full_recipe = {
        **recipe,
        "batches_per_epoch": len(source),
        "processes": fabric.world_size,
        "training": settings.decisive(),
    }
    run = _Run(fabric, task, source, settings, Path(folder), plain(full_recipe), on_epoch)
    run.resume()
    if fabric.is_global_zero and run.step < run.steps:  # what is finished may lie where nothing can be written
        require_writable(folder)
    run.note_threads(say if fabric.is_global_zero else None)
    epochs = -(-run.steps // len(source))
    shown = display(run.step, run.steps, epochs, say, part=part, hidden=not fabric.is_global_zero)
    with Interrupt() as interrupt, shown as show, whole_batch_norms(task):
        while run.step < run.steps:
            run.rest_of_epoch(interrupt, show)
    task.zero_grad()
    task.to("cpu")
    return run.history


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed PyTorch's generators for one step of one process: chance then depends on nothing that came before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]))


def _own_batches(batches: Batches, fabric: Fabric) -> BatchSource:
    """Return this process's batches."""
    if callable(batches):
        source = batches(fabric.global_rank, fabric.world_size)
    elif fabric.world_size == 1:
        source = batches
    else:
        raise VeriQuantError(
            f"{fabric.world_size} processes would train on the same batches: give a function of the process's rank and "
            "the number of processes that makes them"
        )
    if len(source) < 1:
        raise VeriQuantError("an epoch has no batches: take a smaller batch size, or more images")
    return source


class _Run:
    """A run under way: how far it is, and what it has to go on with."""

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        source: BatchSource,
        settings: LoopSettings,
        folder: Path,
        recipe: dict[str, Any],
        on_epoch: OnEpoch | None,
    ) -> None:
        self.fabric, self.task, self.source, self.settings = fabric, task, source, settings
        self.folder, self.recipe, self.on_epoch = folder, recipe, on_epoch
        self.module, self.optimizer = fabric.setup(task, make_optimizer(task, settings))
        self.step = 0
        self.per_epoch = len(source)
        self.steps = settings.total_steps(self.per_epoch)
        self.history = History(self.per_epoch)
        self._unseen: list[Tensor] = []
        """Figures of the steps that were not looked at yet, float32 (figures,), still on the device."""
        self._rates: list[float] = []
        self._columns: tuple[str, ...] = ()
        self._written_at = time.monotonic()
        costs_nothing = fabric.device.type == "cpu" and fabric.world_size == 1
        self._look_every = 1 if costs_nothing else _LOOK_EVERY

    def resume(self) -> None:
        """Take over the state in the folder, if there is one."""
        path = self.folder / LAST
        if not path.exists():
            return
        state = read_state(path)
        refuse_other_recipe(path, state.recipe, self.recipe)
        groups = self.optimizer.state_dict()["param_groups"]
        moved = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if why := misfit(state, self.task.state_dict(), moved, self.steps):
            raise DamagedStateError(
                f"{path}: does not fit what is trained now ({why[:200]}); remove the folder to train from the start, "
                "or name another folder"
            )
        try:
            self.task.load_state_dict(state.model)
            self.optimizer.load_state_dict({"state": state.optimizer, "param_groups": groups})
            self.fabric.strategy.precision.load_state_dict(state.scaler)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DamagedStateError(
                f"{path}: does not fit what is trained now ({' '.join(str(error).split())[:200]}); remove the folder "
                "to train from the start, or name another folder"
            ) from error
        self.history.restore(state.columns, state.history.numpy(), state.epochs, state.threads)
        self.step = state.step

    def note_threads(self, say: Callable[[str], None] | None) -> None:
        """Take into the history on how many threads it goes on; say where these are not as many as before."""
        if self.fabric.device.type != "cpu" or self.step == self.steps:
            return
        threads, before = torch.get_num_threads(), self.history.threads[-1:]
        self.history.begin_session(threads)
        if say is not None and before not in ([], [threads]):
            say(
                f"trained on {before[0]} CPU threads so far, now on {threads}: the last digits will not be those of a "
                f"run that was never cut off; with OMP_NUM_THREADS={before[0]} they are"
            )

    def rest_of_epoch(self, interrupt: Interrupt, show: Show) -> None:
        """Train from the step at hand to the end of its epoch, or of the run."""
        epoch, start = divmod(self.step, self.per_epoch)
        end = min((epoch + 1) * self.per_epoch, self.steps)
        self.module.train()
        for images, labels in islice(self.source.epoch(epoch, start), end - self.step):
            self._one_step(images, labels)
            if self.step < end and not self._look_is_due():
                continue
            write, stop = self._look(interrupt.asked)
            show(self.step, epoch + 1, self.history.last_loss)
            if self.step == end:
                self._end_epoch(epoch)
            if write or stop or self._write_is_due(self.step == end):
                self._write(epoch, self.step == end)
            if stop and self.step < self.steps:
                raise KeyboardInterrupt
        if self.step < end:
            raise VeriQuantError(f"epoch {epoch + 1} ended at step {self.step} instead of {end}: batches are missing")

    def _one_step(self, images: Tensor, labels: Tensor) -> None:
        settings = self.settings
        rate = settings.lr * settings.schedule.multiplier(self.step, self.steps, self.per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_multiplier"]
        seed_step(settings.seed, self.step, self.fabric.global_rank)
        self.task.check(images, labels)
        self.task.before_step(self.step)
        figures = _named(self.module(*self.fabric.to_device((images, labels))))
        # Stacked now, they are copies: a figure that is a parameter must not move with the step.
        self._unseen.append(torch.stack([figure.detach().float() for figure in figures.values()]))
        self._rates.append(rate)
        self._columns = ("lr", *figures)
        self.optimizer.zero_grad()
        self.fabric.backward(figures["loss"])
        if settings.clip is not None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.step += 1

    def _look_is_due(self) -> bool:
        return self.step % self._look_every == 0 or self._steps_are_up()

    def _steps_are_up(self) -> bool:
        return self.settings.checkpoint_steps is not None and self.step % self.settings.checkpoint_steps == 0

    def _look(self, asked: bool) -> tuple[bool, bool]:
        """Take the unseen figures into the history; return whether it is time to write the state, and to stop.

        Clock and Ctrl-C go with the figures through the mean over the processes: all of them then decide the same.
        """
        rows = torch.stack(self._unseen)
        own = rows.new_tensor([time.monotonic() - self._written_at, float(asked)])
        whole = self.fabric.all_reduce(torch.cat((rows.flatten(), own)), reduce_op="mean")
        assert isinstance(whole, Tensor)
        whole = whole.cpu()
        figures = whole[:-2].reshape(rows.shape).double().numpy()
        self._note(np.concatenate((np.array(self._rates)[:, None], figures), axis=1))
        self._unseen, self._rates = [], []
        seconds, stop = whole[-2:].tolist()
        minutes = self.settings.checkpoint_minutes
        return minutes is not None and seconds > 60 * minutes, stop > 0

    def _note(self, values: Figures) -> None:
        """Append to the history; raise `VeriQuantError` at the first loss that is no number."""
        losses = values[:, self._columns.index("loss")]
        good = len(losses) if np.isfinite(losses).all() else int(np.isfinite(losses).argmin())
        self.history.add(self._columns, values[:good])
        if good < len(losses):
            self._stop_at(self.step - len(losses) + good, f"the loss is {losses[good]}")

    def _stop_at(self, step: int, why: str) -> NoReturn:
        """Raise `VeriQuantError` for step `step`, counted from 0."""
        kept = self.folder / LAST
        state = f"the last good state is in {kept}" if kept.exists() else "no state had been written yet"
        raise VeriQuantError(
            f"{why} at step {step + 1} of {self.steps} (epoch {step // self.per_epoch + 1}); {state}; take a lower "
            "learning rate, a warm-up, or a limit on the gradient (clip)"
        )

    def _end_epoch(self, epoch: int) -> None:
        extra: Mapping[str, float] = {}
        if self.on_epoch is not None and self.fabric.is_global_zero:
            extra = self.on_epoch(epoch + 1) or {}
        self.history.end_epoch(epoch, extra)
        self.fabric.barrier()

    def _write_is_due(self, epoch_is_over: bool) -> bool:
        kept = epoch_is_over and self.settings.keep == "epochs"
        return kept or self._steps_are_up() or self.step == self.steps

    def _write(self, epoch: int, epoch_is_over: bool) -> None:
        """Write the state and the history, on the first process; refuse weights that are no longer numbers."""
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in self.task.parameters()])
        if not bool(finite.all()):
            self._stop_at(self.step - 1, "a weight is no longer finite")
        if self.fabric.is_global_zero:
            state = self._state()
            if epoch_is_over and self.settings.keep == "epochs":
                write_state(self.folder / epoch_file(epoch + 1), state)
            write_state(self.folder / LAST, state)
            self.history.write(self.folder)
        self.fabric.barrier()
        self._written_at = time.monotonic()

    def _state(self) -> State:
        return State(
            step=self.step,
            recipe=self.recipe,
            model=self.task.state_dict(),
            optimizer=self.optimizer.state_dict()["state"],
            scaler=self.fabric.strategy.precision.state_dict(),
            history=torch.from_numpy(self.history.values),
            columns=self.history.columns,
            epochs=self.history.epochs,
            threads=tuple(self.history.threads),
        )


def _named(output: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a task's output as figures by name, the loss first."""
    if isinstance(output, Tensor):
        return {"loss": output}
    return {"loss": output["loss"], **output}
