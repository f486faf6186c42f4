"""CALFW's and CPLFW's pair files: two lines a pair, ``filename label``, the label non-zero for the same person.

The publishers number the genuine pairs' folds 1 to 10 in the label and write 0 for all impostors, and they list the
genuine pairs first. Folds are made by interleaving: the k-th tenth of the genuine pairs and the k-th tenth of the
impostors, 300 and 300 in the publishers' files.
"""

from __future__ import annotations

from pathlib import Path

from veriquant.checks import whole_number
from veriquant.data.pair import Pair
from veriquant.data.text import read_lines, shown, wrong
from veriquant.errors import VeriQuantError

FOLDS = 10


def read_two_line_pairs(path: Path) -> list[Pair]:
    """Return the comparisons fold by fold, genuine ones first within each."""
    lines = read_lines(path)
    if len(lines) % 2:
        wrong(path, len(lines), "two lines for every pair", f"the last of {len(lines)} lines, which has no second one")
    sides: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for at in range(0, len(lines), 2):
        (left, label), (right, second) = _line(path, at + 1, lines[at]), _line(path, at + 2, lines[at + 1])
        if (label != 0) != (second != 0):
            wrong(path, at + 2, f"the label of line {at + 1}, {label}", str(second))
        sides[label != 0].append((left, right))
    for genuine, pairs in sides.items():
        if len(pairs) < FOLDS:
            kind = "genuine" if genuine else "impostor"
            raise VeriQuantError(f"{path}: expected at least {FOLDS} {kind} pairs, found {len(pairs)}")
    return [
        Pair(left, right, genuine, fold)
        for fold in range(FOLDS)
        for genuine, pairs in sides.items()
        for left, right in pairs[_cut(fold, len(pairs)) : _cut(fold + 1, len(pairs))]
    ]


def _cut(fold: int, count: int) -> int:
    return fold * count // FOLDS


def _line(path: Path, number: int, line: str) -> tuple[str, int]:
    """Return the name and the label of a line; of a label below zero the size, which tells as much."""
    parts = line.strip().rsplit(maxsplit=1)
    label = whole_number(parts[1].removeprefix("-")) if len(parts) == 2 else None
    if label is None:
        wrong(path, number, "'filename label'", shown(line))
    return parts[0], label
