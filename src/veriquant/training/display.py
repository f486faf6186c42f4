"""What a training run shows while it goes: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Called with the number of steps done in all, the epoch that they lie in, counted from 1, and the latest loss.
Show = Callable[[int, int, float], None]
#: Seconds between two lines where there is no terminal.
_PAUSE = 30.0
#: How much of the old average stays at each showing of the loss: one batch's loss jumps about too much to be read.
_SMOOTH = 0.9


@contextmanager
def display(
    done: int, steps: int, epochs: int, say: Callable[[str], None] | None, *, part: str = "", hidden: bool = False
) -> Iterator[Show]:
    """Show a run of `steps` steps, `done` of them already done, while the block runs.

    `part`: what the run is of something larger, such as 'iteration 2 of 12', shown in front. `say` gets a line every
    half minute where stderr is no terminal; None: no lines. `hidden`: show nothing anywhere.
    """
    console = Console(stderr=True)
    if console.is_terminal and not hidden:
        with _bar(console, done, steps, epochs, _before(part)) as show:
            yield show
    elif say is not None and not hidden:
        yield _Lines(done, steps, epochs, _before(part), say)
    else:
        yield lambda step, epoch, loss: None


@contextmanager
def _bar(console: Console, done: int, steps: int, epochs: int, before: str) -> Iterator[Show]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{before}training", total=steps, completed=done, loss="-")
        mean = _Smooth()

        def show(step: int, epoch: int, loss: float) -> None:
            where = f"{before}epoch {epoch} of {epochs}"
            progress.update(task, completed=step, description=where, loss=f"{mean.with_next(loss):.4g}")

        yield show


class _Lines:
    """Says a line at the first steps, then every half minute, and at the end."""

    def __init__(self, done: int, steps: int, epochs: int, before: str, say: Callable[[str], None]) -> None:
        self._first, self._steps, self._epochs, self._before, self._say = done, steps, epochs, before, say
        self._began = time.monotonic()
        self._next = self._began
        self._mean = _Smooth()

    def __call__(self, step: int, epoch: int, loss: float) -> None:
        mean = self._mean.with_next(loss)
        now = time.monotonic()
        if now < self._next and step < self._steps:
            return
        self._next = now + _PAUSE
        rate = (step - self._first) / max(now - self._began, 1e-9)
        left = f"{_span((self._steps - step) / rate)} left" if step < self._steps else "done"
        self._say(
            f"{self._before}epoch {epoch} of {self._epochs}, step {step} of {self._steps}: loss {mean:.4g}, "
            f"{rate:.3g} steps/s, {left}"
        )


class _Smooth:
    """A running average that starts at the first value."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def with_next(self, value: float) -> float:
        self._mean = value if self._mean is None else _SMOOTH * self._mean + (1 - _SMOOTH) * value
        return self._mean


def _before(part: str) -> str:
    return f"{part}, " if part else ""


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
