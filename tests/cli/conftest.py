from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Cli, Fails, complaint

from veriquant.cli.main import main


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run the command line in this process, with a cache of its own."""
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["veriquant", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def fails(cli: Cli) -> Fails:
    """Run what cannot be."""
    return lambda *arguments: complaint(*cli(*arguments))
