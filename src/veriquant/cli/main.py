"""The console script: the application with all its verbs."""

from __future__ import annotations

import io
import sys

# Each verb registers itself; nothing heavy is imported before a verb runs.
from veriquant.cli import (  # noqa: F401
    align,
    benchmarks,
    demo,
    evaluate,
    inspect,
    networks,
    quantize,
    recipes,
    sensitivity,
    study,
    train,
)
from veriquant.cli.app import INTERRUPTED, app, complain


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app()
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(INTERRUPTED)
