"""Starting worker processes from a clean one: never a fork of this process, and without running its script again.

This process may have used ONNX Runtime, OpenVINO or a GPU, whose threads and locks a fork takes along half. Workers are
forked from a server instead: a process that imported the loader's module and did nothing else, so that each of them is
there at once. Where a system has no such server they are started afresh (spawn).

A process started in either way imports the script that is running again, under another name, which is why such scripts
need an ``if __name__ == "__main__"``. Workers of ours need nothing of the script; they do not get to see it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from types import ModuleType
from typing import TypedDict

from veriquant.errors import VeriQuantError


class Arrangement(TypedDict):
    """What a `DataLoader` is told of its processes."""

    multiprocessing_context: BaseContext
    worker_init_fn: partial[None]


def arrangement(module: str) -> Arrangement:
    """Return how a `DataLoader` starts its processes; `module`: what the server imports beforehand for all of them.

    They work in the folder that is the current one now.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context: BaseContext = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module])
        _start_server()
    else:
        context = multiprocessing.get_context("spawn")
    return {"multiprocessing_context": context, "worker_init_fn": partial(_settle, os.getcwd())}


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Hide the running script from the processes that the block starts; `what`: the data sent to them.

    Raises `VeriQuantError` where these cannot be sent, such as instances of a class that the script itself defines.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got pickle error")  # torch advises to fork
            yield
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        if "pickle" not in str(error):
            raise
        raise VeriQuantError(
            f"{what} cannot be sent to worker processes ({' '.join(str(error).split())}); define its classes in a "
            "module of their own, not in the script that runs, or take workers: 0"
        ) from error
    finally:
        sys.modules["__main__"] = script


def _start_server() -> None:
    """Start the server, if there is none, deaf to Ctrl-C from its first moment on, and with it all workers."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # begun by the server's own start it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle(folder: str, worker: int) -> None:
    """Get a worker ready: relative paths are the parent's, and Ctrl-C, which reaches all of a terminal, is for it."""
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process with the one that it works for: torch's own watch is over the server, which waits for us."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
