r"""Pair files: LFW's ``pairs.txt`` and the variants that carry paths and a label.

LFW's own layout starts with a header, ``sets<TAB>n``; each set is n genuine lines (``name n1 n2``) and n impostor lines
(``name1 n1 name2 n2``). A header of one number (``pairsDevTest.txt``) means one set and no folds. An image is named by
the key ``Name/Name_0001``, without an extension.

Without a header every line carries two paths and a label: ``path1 path2 label`` (or the label first), or six columns of
which exactly two are paths of images and the last, or else the first, is the label. A label is 1 for the same person
and 0 or -1 for different ones.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from veriquant.checks import whole_number
from veriquant.data.folder import IMAGE_SUFFIXES
from veriquant.data.pair import Pair
from veriquant.data.text import columns, read_lines, shown, wrong

_LABELS = {"1": True, "0": False, "-1": False}


def read_pairs(path: Path) -> list[Pair]:
    """Return the comparisons of a pair file in any of the layouts; `VeriQuantError` names the line that is wrong."""
    lines = read_lines(path)
    head = columns(lines[0])
    if len(head) in (1, 2):
        return _lfw(path, lines, head)
    return [_labelled(path, number, line) for number, line in enumerate(lines, 1)]


def _lfw(path: Path, lines: list[str], head: list[str]) -> list[Pair]:
    numbers = [number for part in head if (number := whole_number(part))]
    if len(numbers) != len(head):
        wrong(path, 1, "a header of two numbers, sets and pairs per set, as in '10\\t300'", shown(lines[0]))
    sets, per_set = numbers if len(numbers) == 2 else (1, numbers[0])
    pairs: list[Pair] = []
    at = 1
    for fold in range(sets):
        for genuine in (True, False):
            kind = "genuine" if genuine else "impostor"
            for count in range(1, per_set + 1):
                place = f"{kind} comparison {count} of {per_set} of set {fold + 1} of {sets}"
                if at >= len(lines):
                    wrong(path, at + 1, f"{place} (the header promises {2 * sets * per_set} lines)", "the end")
                left, right = _names(path, at + 1, lines[at], genuine, place)
                pairs.append(Pair(left, right, genuine, fold if len(numbers) == 2 else None))
                at += 1
    if at < len(lines):
        wrong(path, at + 1, f"the end (the header promises {2 * sets * per_set} lines)", shown(lines[at]))
    return pairs


def _names(path: Path, number: int, line: str, genuine: bool, place: str) -> tuple[str, str]:
    parts = columns(line)
    wanted = "3 columns, name n1 n2" if genuine else "4 columns, name1 n1 name2 n2"
    if len(parts) != (3 if genuine else 4):
        wrong(path, number, f"{wanted} ({place})", f"{len(parts)}: {shown(line)}")
    first, one, second, two = (parts[0], parts[1], parts[0], parts[2]) if genuine else parts
    counts = whole_number(one), whole_number(two)
    if counts[0] is None or counts[1] is None:
        part = one if counts[0] is None else two
        wrong(path, number, f"{wanted} ({place})", f"{shown(part)} where a number belongs: {shown(line)}")
    return _key(first, counts[0]), _key(second, counts[1])


def _key(name: str, number: int) -> str:
    return f"{name}/{name}_{number:04d}"


def _labelled(path: Path, number: int, line: str) -> Pair:
    parts = columns(line)
    expected = "path1 path2 label, or six columns with two paths of images and a label (1 same, 0 or -1 different)"
    if len(parts) not in (3, 6):
        wrong(path, number, expected, f"{len(parts)} columns: {shown(line)}")
    if len(parts) == 3:
        paths = parts[:2] if parts[2] in _LABELS else parts[1:]
    else:
        paths = [part for part in parts if PurePosixPath(part).suffix.lower() in IMAGE_SUFFIXES]
    label = next((part for part in (parts[-1], parts[0]) if part in _LABELS), None)
    if label is None or len(paths) != 2:
        wrong(path, number, expected, shown(line))
    return Pair(paths[0], paths[1], _LABELS[label])
