"""AgeDB's protocol files: MATLAB's ``splits``, ten cells, each a struct of images (2 × 600) and labels.

The layout, as InsightFace's packer and others read it: ``splits{i}`` holds a struct whose first field is a 2 × n cell
array, one struct with the image's name (without ``.jpg``) and age in each, and whose second field holds n labels, 1
for the same person and −1 for different ones. SciPy reads MATLAB 5 files as data; nothing in them is executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from veriquant.data.pair import Pair
from veriquant.errors import VeriQuantError


def read_agedb(path: Path) -> list[Pair]:
    """Return the comparisons of an AgeDB protocol file; keys are names of images without their ending."""
    try:
        content: dict[str, Any] = loadmat(str(path), variable_names=["splits"])
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # scipy raises almost anything on damaged files, NotImplementedError on MATLAB 7.3's
        reason = str(error) or type(error).__name__
        raise VeriQuantError(f"{path} is truncated or not a MATLAB 5 file: {reason}") from error
    if "splits" not in content:
        raise VeriQuantError(f"{path}: expected a variable 'splits', found none")
    splits = np.ravel(content["splits"])
    if len(splits) < 2:
        raise VeriQuantError(f"{path}: expected 10 splits, found {len(splits)}")
    pairs: list[Pair] = []
    for fold, split in enumerate(splits):
        pairs += _split(path, fold, split)
    return pairs


def _split(path: Path, fold: int, split: Any) -> list[Pair]:
    where = f"{path}, split {fold + 1}"
    fields = _fields(split)
    if len(fields) < 2:
        raise VeriQuantError(f"{where}: expected a struct of images and labels, found {len(fields)} fields")
    images, labels = np.asarray(fields[0]), np.ravel(fields[1])
    if images.ndim != 2 or images.shape[0] != 2:
        raise VeriQuantError(f"{where}: expected images of shape (2, n), found {images.shape}")
    if images.shape[1] != len(labels) or not len(labels):
        raise VeriQuantError(f"{where}: expected as many labels as pairs, found {len(labels)} and {images.shape[1]}")
    pairs: list[Pair] = []
    for number, label in enumerate(labels):
        if label not in (1, -1):
            raise VeriQuantError(f"{where}, pair {number + 1}: expected the label 1 or -1, found {label}")
        left, right = (_name(f"{where}, pair {number + 1}", item) for item in images[:, number])
        pairs.append(Pair(left, right, bool(label == 1), fold))
    return pairs


def _fields(value: Any) -> list[Any]:
    """Return the fields of the struct that MATLAB wrapped in cells, or nothing where there is none."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return [value[name] for name in value.dtype.names] if isinstance(value, np.void) and value.dtype.names else []


def _name(where: str, value: Any) -> str:
    fields = _fields(value)
    text = np.ravel(fields[0])[0] if fields and np.size(fields[0]) == 1 else None
    if not isinstance(text, str) or not text.strip():
        raise VeriQuantError(f"{where}: expected the name of an image, found {value!r:.60}")
    return text.strip()
