"""Coordinate descent on rounding: one weight after another goes to its other level, wherever that lowers the error.

With e the errors of a row of weights and G the Gram matrix of its inputs, moving e_j by δ changes the output's squared
error e·G·eᵀ by δ·(2·(e·G)_j + δ·G_jj): exact, and known for all rows of a layer at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Columns after which the moves made so far are carried to all other columns by one product of matrices.
_TOGETHER = 128


def output_error(error: Tensor, gram: Tensor) -> Tensor:
    """Return e·G·eᵀ for every row: (blocks, rows, inputs), (blocks, inputs, inputs) -> (blocks, rows)."""
    return ((error @ gram) * error).sum(dim=2)


def descend(error: Tensor, other: Tensor, gram: Tensor, *, passes: int = 3) -> Tensor:
    """Return errors, (blocks, rows, inputs), after moves that lower each row's output error.

    `error`: of each weight as it is rounded now. `other`: its error on its other level; the same where it has none.
    `gram`: (blocks, inputs, inputs), symmetric. Ends after `passes` rounds over all columns, three of which find all
    but a hundredth of a decibel, or once no single move helps.
    """
    error, other = error.clone(), other.clone()
    diagonal = gram.diagonal(dim1=1, dim2=2)
    for _ in range(passes):
        if not _pass(error, other, gram, diagonal):
            break
    return error


def _pass(error: Tensor, other: Tensor, gram: Tensor, diagonal: Tensor) -> bool:
    """Go over all columns once, in place; tell whether any weight moved."""
    slope = error @ gram
    moved = False
    for first in range(0, error.shape[2], _TOGETHER):
        columns = slice(first, first + _TOGETHER)
        before = error[:, :, columns].clone()
        near = gram[:, columns, columns]
        local = slope[:, :, columns].clone()
        for i in range(before.shape[2]):
            j = first + i
            delta = other[:, :, j] - error[:, :, j]
            change = delta * (2 * local[:, :, i] + delta * diagonal[:, None, j])
            # A hair below zero is rounding of the sums: two such moves could undo each other for ever.
            better = change < -1e-6 * diagonal[:, None, j]
            delta = torch.where(better, delta, 0.0)
            local += delta.unsqueeze(2) * near[:, i].unsqueeze(1)
            here = error[:, :, j].clone()
            error[:, :, j] = torch.where(better, other[:, :, j], here)
            other[:, :, j] = torch.where(better, here, other[:, :, j])
        moves = error[:, :, columns] - before
        if bool(moves.any()):
            moved = True
            slope += moves @ gram[:, columns]
    return moved
