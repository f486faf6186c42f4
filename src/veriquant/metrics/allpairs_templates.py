"""Templates put in order for `veriquant.metrics.allpairs`, and what needs no score of all pairs: mates, means.

They are in order of (group, person), so that a person's genuine scores are one square, and a tile of scores belongs to
one pair of groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from veriquant.metrics.protocol import Bools, Ints, Singles
from veriquant.results import ScoreSummary

_TILE = 2048
"""Rows and columns of a tile: 16 MB of scores."""


@dataclass(frozen=True)
class Layout:
    """Templates in order of (group, person), and where each person and tile lies in that order."""

    order: Ints
    rows: Singles
    columns: Singles
    symmetric: bool
    person: Ints
    starts: Ints
    group: Ints
    tiles: tuple[tuple[int, int], ...]


def arrange(persons: Ints, rows: Singles, columns: Singles | None, groups: int, seed: int) -> Layout:
    """Put unit templates, float32 (n, d), in order and cut them into tiles; `persons`: int64 (n,), 0…p−1.

    People are put into `groups` random groups by `seed`, below 2 into one.
    """
    people = int(persons.max()) + 1
    of_person = np.zeros(people, dtype=np.int64)
    if groups > 1:
        of_person = np.random.default_rng(seed).permutation(people) % groups
    group = of_person[persons]
    order = np.lexsort((persons, group))
    person, group = persons[order], group[order]
    starts = np.flatnonzero(np.diff(person, prepend=-1))
    edges = [*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(persons)]
    tiles: list[tuple[int, int]] = []
    for begin, end in pairwise(edges):
        pieces = math.ceil((end - begin) / _TILE)
        cuts = [begin + (end - begin) * piece // pieces for piece in range(pieces + 1)]
        tiles += pairwise(cuts)
    first = rows[order]
    second = first if columns is None else columns[order]
    number = np.cumsum(np.diff(person, prepend=-1) != 0) - 1
    return Layout(order, first, second, columns is None, number, np.append(starts, len(persons)), group, tuple(tiles))


def genuine_scores(layout: Layout) -> tuple[Singles, Ints, Singles]:
    """Return the genuine scores (g,), the group of each, and each probe's best mate (n,), infinite without one."""
    best = np.full(len(layout.person), np.inf, dtype=np.float32)
    scores: list[Singles] = [np.empty(0, dtype=np.float32)]
    groups: list[Ints] = [np.empty(0, dtype=np.int64)]
    masks: dict[int, Bools] = {}
    sizes = np.diff(layout.starts)
    for people in _batches(sizes):
        begin = int(layout.starts[people[0]])
        batch = slice(begin, int(layout.starts[people[-1] + 1]))
        product = layout.rows[batch] @ layout.columns[batch].T
        for person in people:
            size, offset = int(sizes[person]), int(layout.starts[person]) - begin
            square = product[offset : offset + size, offset : offset + size]
            if size not in masks:
                masks[size] = np.tri(size, k=-1, dtype=bool).T if layout.symmetric else ~np.eye(size, dtype=bool)
            found = square[masks[size]]
            scores.append(found)
            groups.append(np.full(len(found), layout.group[begin + offset]))
            np.fill_diagonal(square, -np.inf)
            best[begin + offset : begin + offset + size] = square.max(axis=0)
    return np.concatenate(scores), np.concatenate(groups), best


def _batches(sizes: Ints) -> Iterator[Ints]:
    """Yield runs of people with several samples, together of at least 256 samples: small products are slow alone."""
    people = np.flatnonzero(sizes > 1)
    if len(people):
        turn = np.flatnonzero(np.diff(np.cumsum(sizes[people]) // 256, prepend=0)) + 1
        far_apart = np.flatnonzero(np.diff(people) > 8) + 1
        cuts = np.union1d(turn, far_apart)
        yield from (run for run in np.split(people, cuts[cuts < len(people)]) if len(run))


def unsorted(values: Ints, order: Ints) -> Ints:
    """Return `values`, (n,), which stand in `order`, as the samples came."""
    result = np.empty_like(values)
    result[order] = values
    return result


def impostor_summary(layout: Layout, genuine: Singles, total: int, histogram: Ints) -> ScoreSummary:
    """Return mean and deviation without the scores.

    Their sum is the product of the template sums, the sum of their squares that of the Gram matrices, both less the
    genuine scores and the templates' products with themselves.
    """
    if not total:
        return ScoreSummary(count=0, mean=0.0, std=0.0, histogram=histogram.tolist())
    width = layout.rows.shape[1]
    sums, grams = np.zeros((2, width)), np.zeros((2, width, width))
    own, own_squares = 0.0, 0.0
    for start in range(0, len(layout.rows), _TILE):
        one, other = layout.rows[start : start + _TILE], layout.columns[start : start + _TILE]
        for place, part in enumerate((one,) if layout.symmetric else (one, other)):
            sums[place] += part.sum(axis=0, dtype=np.float64)
            grams[place] += part.T @ part
        products = np.einsum("nd,nd->n", one, other, dtype=np.float64)
        own, own_squares = own + float(products.sum()), own_squares + float((products**2).sum())
    if layout.symmetric:
        sums[1], grams[1] = sums[0], grams[0]
    halves = 2 if layout.symmetric else 1
    wide = genuine.astype(np.float64)
    mean = ((float(sums[0] @ sums[1]) - own) / halves - float(wide.sum())) / total
    square = ((float((grams[0] * grams[1]).sum()) - own_squares) / halves - float((wide**2).sum())) / total
    return ScoreSummary(
        count=total, mean=mean, std=math.sqrt(max(0.0, square - mean * mean)), histogram=histogram.tolist()
    )
