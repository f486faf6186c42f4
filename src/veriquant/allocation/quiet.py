"""Keep what compiled code prints off standard output, which belongs to the user's results."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_LOCK = RLock()
_STDOUT = 1


@contextmanager
def quiet() -> Iterator[None]:
    """Send the process's standard output nowhere while the block runs.

    HiGHS, as SciPy 1.17 carries it, prints a line of its own debugging from time to time whatever its options say. The
    whole process is silent meanwhile, other threads too, so the block should be short. Does nothing where there is no
    standard output.
    """
    with _LOCK:
        try:
            sys.stdout.flush()
            kept = os.dup(_STDOUT)
        except (OSError, ValueError, AttributeError):
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        _flush()
        os.dup2(nowhere, _STDOUT)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, _STDOUT)
            os.close(nowhere)
            os.close(kept)


def _flush() -> None:
    """Write out what the C library still holds back: else it would come out after the block."""
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
