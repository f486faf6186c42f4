"""AgeDB's protocol files: MATLAB's ``splits``, ten cells, each a struct of images (2 × 600) and labels.

The layout, as InsightFace's packer and others read it: ``splits{i}`` holds a struct whose first field is a 2 × n cell
array, one struct with the image's name (without ``.jpg``) and age in each, and whose second field holds n labels, 1
for the same person and −1 for different ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from veriquant.checks import cut, quoted
from veriquant.data.mat_file import Grid, read_mat
from veriquant.data.pair import Pair
from veriquant.errors import VeriQuantError

#: The publishers' files have some hundred kilobytes.
_LARGEST = 64 << 20


def read_agedb(path: Path) -> list[Pair]:
    """Return the comparisons of an AgeDB protocol file; keys are names of images without their ending."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise VeriQuantError(f"{path} is no protocol file: it has more than {_LARGEST >> 20} MB")
    try:
        found = read_mat(content, "splits")
    except ValueError as error:
        raise VeriQuantError(f"{path} is truncated or not a MATLAB 5 file: {cut(str(error))}") from error
    if found is None:
        raise VeriQuantError(f"{path}: expected a variable 'splits', found none")
    splits = _items(found)
    if len(splits) < 2:
        raise VeriQuantError(f"{path}: expected 10 splits, found {len(splits)}")
    return [pair for fold, split in enumerate(splits) for pair in _split(path, fold, split)]


def _split(path: Path, fold: int, split: Any) -> list[Pair]:
    where = f"{path}, split {fold + 1}"
    fields = _fields(split)
    if len(fields) < 2:
        raise VeriQuantError(f"{where}: expected a struct of images and labels, found {len(fields)} fields")
    images, labels = fields[0], _items(fields[1])
    shape = images.shape if isinstance(images, Grid | np.ndarray) else ()
    if len(shape) != 2 or shape[0] != 2:
        raise VeriQuantError(f"{where}: expected images of shape (2, n), found {shape}")
    if shape[1] != len(labels) or not len(labels):
        raise VeriQuantError(f"{where}: expected as many labels as pairs, found {len(labels)} and {shape[1]}")
    names = _items(images)
    pairs: list[Pair] = []
    for number, label in enumerate(labels):
        if label not in (1, -1):
            raise VeriQuantError(f"{where}, pair {number + 1}: expected the label 1 or -1, found {quoted(label)}")
        left, right = (_name(f"{where}, pair {number + 1}", item) for item in names[2 * number : 2 * number + 2])
        pairs.append(Pair(left, right, bool(label == 1), fold))
    return pairs


def _items(value: Any) -> list[Any]:
    """Return what an array holds, columns one after another."""
    if isinstance(value, Grid):
        return list(value.items)
    return value.ravel(order="F").tolist() if isinstance(value, np.ndarray) else [value]


def _fields(value: Any) -> list[Any]:
    """Return the fields of the struct that MATLAB wrapped in cells, or nothing where there is none."""
    value = _unwrapped(value)
    return list(value.values()) if isinstance(value, dict) else []


def _unwrapped(value: Any) -> Any:
    while isinstance(value, Grid) and len(value.items) == 1:
        value = value.items[0]
    return value


def _name(where: str, value: Any) -> str:
    fields = _fields(value)
    text = _unwrapped(fields[0]) if fields else None
    if not isinstance(text, str) or not text.strip():
        raise VeriQuantError(f"{where}: expected the name of an image, found {quoted(value)}")
    return text.strip()
