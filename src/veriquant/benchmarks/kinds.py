"""The kinds of benchmark and `load_benchmark`, which reads ``kind:path``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from veriquant.benchmarks.base import Benchmark
from veriquant.checks import quoted
from veriquant.errors import VeriQuantError
from veriquant.files import given_path
from veriquant.registry import Registry

Loader = Callable[[str, bool], Benchmark]


@dataclass(frozen=True)
class BenchmarkKind:
    """One registered protocol: how it is named, what must lie on disk, and the function that reads it.

    `load(argument, allow_missing)` gets what the user wrote after the colon.
    """

    name: str
    summary: str
    layout: str
    """What is expected on disk, in plain words, for the command line's list."""
    load: Loader
    argument: str = "DIR"
    """What stands after the colon; empty: nothing need, and the kind's name alone will do."""

    @property
    def usage(self) -> str:
        """How a user writes it."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


BENCHMARKS: Registry[BenchmarkKind] = Registry("benchmark kind")


def load_benchmark(text: str, *, allow_missing: bool = False) -> Benchmark:
    """Read the benchmark that `text` names, such as ``lfw:DIR`` or ``bin:FILE``.

    An image that the protocol lists and that is missing is an error, unless `allow_missing`: then the comparisons with
    it are left out and it is named in `Benchmark.skipped`.
    """
    name, colon, argument = text.partition(":")
    if not colon and name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS.get(kind).usage for kind in BENCHMARKS)
        path = given_path(text)
        hint = ""
        if os.path.isdir(path):
            hint = f" (for a folder of images folder:{text})"
        elif os.path.isfile(path):
            hint = f" (for an InsightFace file bin:{text})"
        raise VeriQuantError(f"benchmark {quoted(text)}: expected kind:path{hint}; there are: {known}")
    kind = BENCHMARKS.get(name)
    if kind.argument and not argument:
        raise VeriQuantError(f"benchmark {quoted(text)}: expected {kind.usage}, {kind.layout}")
    return kind.load(argument, allow_missing)
