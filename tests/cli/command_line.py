"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable

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
