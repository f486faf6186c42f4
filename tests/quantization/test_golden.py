"""What recipes write stays what it was, to the last byte, where machine and libraries are those of the digests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden import CASES, FILE, digests, machine

GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_writes_the_bytes_it_always_wrote(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if GOLDEN["machine"] != machine():
        pytest.skip(f"the digests are those of {GOLDEN['machine']}, this is {machine()}: floats may round otherwise")
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))
    assert dict(digests([name], tmp_path)) == {name: GOLDEN["digests"][name]}


def test_every_case_has_a_digest() -> None:
    assert set(GOLDEN["digests"]) == set(CASES)
