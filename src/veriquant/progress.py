"""Progress on the error stream: long work says how far it is and how long it still takes.

Bars are silent where stderr is no terminal; what `tell` tells is told everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
#: Called with the amount of work just done.
Advance = Callable[[int], None]


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show a bar with the time left while the block runs; what it gives is called with each amount done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` while a bar shows how many are done."""
    with bar(description, total) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show that something of unknown length is going on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(description):
        yield


def tell(line: str) -> None:
    """Write a line that a user must see, such as that something kept was damaged, to stderr at once."""
    print(line, file=sys.stderr, flush=True)
