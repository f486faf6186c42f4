"""Reading small text files of protocols, with errors that name the file and the line; whole numbers by `checks`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from veriquant.checks import cut
from veriquant.errors import VeriQuantError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file without their ends; blank lines at the end are dropped."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise VeriQuantError(f"{path} is not a text file: byte {error.start} is not UTF-8") from error
    if "\0" in text:
        raise VeriQuantError(f"{path} is not a text file: character {text.index(chr(0))} is zero")
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise VeriQuantError(f"{path} is empty")
    return lines


def columns(line: str) -> list[str]:
    """Return the columns of a line: separated by tabs where it has any (names may then hold spaces), else by blanks."""
    if "\t" in line:
        return [part.strip() for part in line.strip().split("\t")]
    return line.split()


def wrong(path: Path, number: int, expected: str, found: str) -> NoReturn:
    """Raise `VeriQuantError` about line `number` (1-based) of `path`."""
    raise VeriQuantError(f"{path}, line {number}: expected {cut(expected)}, found {cut(found)}")


def shown(line: str) -> str:
    """Return a line as an error shows it: quoted and cut where it is long."""
    return repr(line if len(line) <= 80 else line[:77] + "…")
