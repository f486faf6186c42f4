"""Similarity transforms (rotation, one scale, translation) by least squares.

Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", PAMI 1991.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
"""(2, 3): what a point (x, y, 1) is multiplied by."""


def similarity_transform(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> Matrix:
    """Return the similarity transform that brings `source` nearest to `target`, both (n, 2), n at least 2.

    The sum of squared distances is least; a reflection is never used. Raises `ValueError` where all source points are
    one.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred, aim = source - source_mean, target - target_mean
    variance = (centred**2).sum() / len(source)
    if variance <= 0 or not np.isfinite(variance):
        raise ValueError("the points to transform are all one, or not finite")
    left, values, right = np.linalg.svd(aim.T @ centred / len(source))
    signs = np.ones(2)
    if np.linalg.det(left) * np.linalg.det(right) < 0:
        signs[1] = -1
    rotation = left @ np.diag(signs) @ right
    scale = (values * signs).sum() / variance
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def transformed(points: npt.NDArray[np.float64], matrix: Matrix) -> npt.NDArray[np.float64]:
    """Return `points` (n, 2) moved by a transform."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Matrix) -> Matrix:
    """Return the transform that undoes another."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def scale_of(matrix: Matrix) -> float:
    """Return by how much a similarity transform enlarges."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
