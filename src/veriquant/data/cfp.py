"""CFP's own protocol folder: ``Pair_list_F.txt``, ``Pair_list_P.txt`` and ``Split/{FF,FP}/01..10/{same,diff}.txt``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from veriquant.checks import whole_number
from veriquant.data.pair import Pair
from veriquant.data.text import read_lines, shown, wrong
from veriquant.errors import VeriQuantError


def read_cfp(protocol: Path, split: Literal["FF", "FP"]) -> list[Pair]:
    """Return the comparisons of one split; keys are the paths of the images, seen from `protocol`'s parent.

    The left side indexes the frontal list; the right side the profile list in FP, the frontal list in FF.
    """
    frontal = _image_list(protocol / "Pair_list_F.txt")
    other = frontal if split == "FF" else _image_list(protocol / "Pair_list_P.txt")
    folder = protocol / "Split" / split
    if not folder.is_dir():
        raise VeriQuantError(f"{folder} does not exist: expected the folds 01 to 10 with same.txt and diff.txt")
    folds = sorted(entry for entry in folder.iterdir() if entry.is_dir() and whole_number(entry.name) is not None)
    numbers = [whole_number(entry.name) for entry in folds]
    if len(folds) < 2 or numbers != list(range(1, len(folds) + 1)):
        found = ", ".join(entry.name for entry in folds) or "none"
        raise VeriQuantError(f"{folder}: expected the folds 01, 02, … 10, found {found}")
    pairs: list[Pair] = []
    sizes: dict[str, int] = {}
    for fold, entry in enumerate(folds):
        for genuine in (True, False):
            path = entry / ("same.txt" if genuine else "diff.txt")
            lines = read_lines(path)
            size = sizes.setdefault(path.name, len(lines))
            if len(lines) != size:
                raise VeriQuantError(f"{path}: expected {size} lines, as in fold {folds[0].name}, found {len(lines)}")
            for number, line in enumerate(lines, 1):
                left, right = _indices(path, number, line, len(frontal), len(other))
                pairs.append(Pair(frontal[left - 1], other[right - 1], genuine, fold))
    return pairs


def _image_list(path: Path) -> list[str]:
    images: list[str] = []
    for number, line in enumerate(read_lines(path), 1):
        parts = line.split(maxsplit=1)
        if len(parts) != 2 or parts[0] != str(number):
            wrong(path, number, f"'{number} path'", shown(line))
        relative = os.path.normpath(os.path.join("Protocol", parts[1].strip().replace("\\", "/")))
        images.append(Path(relative).as_posix())
    return images


def _indices(path: Path, number: int, line: str, most_left: int, most_right: int) -> tuple[int, int]:
    numbers = [found for part in line.split(",") if (found := whole_number(part.strip())) is not None]
    if len(numbers) != 2 or line.count(",") != 1:
        wrong(path, number, "two numbers, 'a,b'", shown(line))
    left, right = numbers
    if not (1 <= left <= most_left and 1 <= right <= most_right):
        wrong(path, number, f"a from 1 to {most_left} and b from 1 to {most_right}", shown(line))
    return left, right
