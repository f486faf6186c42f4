"""What tests of the command line share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

#: Runs the command line in this process; returns exit code, stdout, stderr.
Cli = Callable[..., tuple[int, str, str]]
#: Runs what cannot be; returns its one line of complaint.
Fails = Callable[..., str]


def complaint(code: int, out: str, err: str) -> str:
    """Return the one line of a run that failed as it should."""
    assert code == 2, out + err
    assert "Traceback" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    return lines[0]


_FULL = """
import resource, sys
limit = int(sys.argv.pop(1))
import veriquant.cli.quantize, veriquant.evaluation, veriquant.recipes, veriquant.report, veriquant.study.run
import veriquant.study.train
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from veriquant.cli.main import main
main()
"""


def on_a_full_disk(room: int, *arguments: str | Path) -> str:
    """Return the complaint of a command for which every write of more than `room` bytes to a file fails."""
    command = [sys.executable, "-c", _FULL, str(room), *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True)
    return complaint(found.returncode, found.stdout, found.stderr)
