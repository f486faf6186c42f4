"""Mixed-integer linear programmes, solved by HiGHS through SciPy, without what HiGHS prints."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

Floats = npt.NDArray[np.float64]

_LOCK = RLock()
_STDOUT = 1


def solve_binary(objective: Floats, constraints: Sequence[LinearConstraint], *, gap: float, seconds: float) -> Any:
    """Minimise objective · x over x in {0, 1}ⁿ within linear constraints; return SciPy's `OptimizeResult`.

    `gap`: the relative gap to the bound at which a solution counts as optimal; `seconds`: a limit on time.
    """
    with _suppress_stdout():
        result: OptimizeResult = milp(
            objective,
            integrality=np.ones(len(objective), dtype=np.int64),
            bounds=Bounds(0, 1),
            constraints=list(constraints),
            options={"mip_rel_gap": gap, "time_limit": seconds},
        )
    return result


@contextmanager
def _suppress_stdout() -> Iterator[None]:
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
