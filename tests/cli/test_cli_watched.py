"""Every verb, run as its users run it and watched: it reaches nobody, and leaves nothing but what it tells of."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from verb_cases import CASES, VERBS, arguments, own_files
from watched import Watched, namespace, tracer, watched

CONSOLE = Path(__file__).parents[1] / "console.py"
EACH = [pytest.param(verb, case, id=f"{verb}-{case}".rstrip("-")) for verb in CASES for case in CASES[verb]]

needs_a_watch = pytest.mark.skipif(
    not (namespace() or tracer()),
    reason="whom a process reaches cannot be told here: neither a network namespace (unshare --net) nor strace works",
)

Run = Callable[[str, str], Watched]


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a case, or give what its run has shown."""
    done: dict[tuple[str, str], Watched] = {}

    def run(verb: str, case: str) -> Watched:
        if (verb, case) not in done:
            folder = tmp_path_factory.mktemp("watched")
            own = own_files(folder / "own", world)
            command = [sys.executable, CONSOLE, *arguments(verb, case, world, own, folder / "out")]
            done[verb, case] = watched(command, folder, {"PYTHONPATH": os.pathsep.join(sys.path)})
        return done[verb, case]

    return run


def test_every_verb_has_a_case() -> None:
    assert set(CASES) == set(VERBS)


@needs_a_watch
@pytest.mark.parametrize(("verb", "case"), EACH)
def test_a_verb_reaches_nothing_but_this_machine(run: Run, verb: str, case: str) -> None:
    found = run(verb, case)
    assert found.code == 0, found.out + found.err
    assert found.reached == []


@pytest.mark.parametrize(("verb", "case"), EACH)
def test_a_verb_leaves_nothing_but_its_own_cache(run: Run, verb: str, case: str) -> None:
    found = run(verb, case)
    assert found.code == 0, found.out + found.err
    assert [file for file in found.left if not file.startswith("home/.cache/veriquant/")] == []
