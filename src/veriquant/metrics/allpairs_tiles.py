"""Tiles of the score matrix, multiplied, sorted and counted on all cores; only their counts are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from veriquant.metrics.allpairs_templates import Layout
from veriquant.metrics.protocol import Ints, Singles
from veriquant.metrics.scores import histogram_counts

_OUT = np.float32(-2)
"""Stands for 'no impostor comparison' in a tile; below every cosine."""

_Job = tuple[Singles, tuple[int, int], tuple[int, int]]
"""Scores or room for them, first and last row, first and last column of a tile."""


@dataclass(frozen=True)
class Tile:
    """What is counted in one tile."""

    impostors: int
    at: Ints
    over: Ints
    histogram: Ints
    top: Singles
    grid: Ints
    row_hits: tuple[Ints, Ints] | None
    column_hits: tuple[Ints, Ints] | None


class Counter:
    """Sums over tiles."""

    def __init__(self, values: Singles, bins: int, keep: int, grid: Singles, groups: int, total: int) -> None:
        self.values, self.bins, self.keep, self.grid = values, bins, min(keep, max(1, total)), grid
        self.at = np.zeros(len(values), dtype=np.int64)
        self.over = np.zeros(len(values), dtype=np.int64)
        self.histogram = np.zeros(bins, dtype=np.int64)
        self.one, self.other = (part.astype(np.int64) for part in np.triu_indices(groups))
        self._place = np.zeros((groups, groups), dtype=np.int64)
        self._place[self.one, self.other] = np.arange(len(self.one))
        self._place[self.other, self.one] = np.arange(len(self.one))
        self.accepted = np.zeros((len(self.one), len(grid)))
        self.impostors = np.zeros(len(self.one))
        self.floor = np.float32(-1.5)
        self._parts: list[Singles] = []
        self._held = 0

    def count(self, scores: Singles, best_rows: Singles | None, best_columns: Singles | None) -> Tile:
        """Count one tile, float32 (r, c); it is left sorted, so used up."""
        row_hits = None if best_rows is None else _hits(scores, best_rows)
        column_hits = None if best_columns is None else _hits(scores.T, best_columns)
        flat = scores.reshape(-1)
        flat.sort()
        flat = flat[int(np.searchsorted(flat, np.float32(-1.5))) :]
        at = np.searchsorted(flat, self.values, side="left")
        over = at
        if len(flat):
            tied = np.flatnonzero(flat[np.minimum(at, len(flat) - 1)] == self.values)
            if tied.size:
                over = at.copy()
                over[tied] = np.searchsorted(flat, self.values[tied], side="right")
        top = flat[max(int(np.searchsorted(flat, self.floor)), len(flat) - self.keep) :].copy()
        grid = len(flat) - np.searchsorted(flat, self.grid, side="left")
        histogram = histogram_counts(flat, self.bins)
        return Tile(len(flat), len(flat) - at, len(flat) - over, histogram, top, grid, row_hits, column_hits)

    def add(self, tile: Tile, one: int, other: int) -> None:
        """Add a tile of two groups."""
        self.at += tile.at
        self.over += tile.over
        self.histogram += tile.histogram
        place = self._place[one, other]
        self.accepted[place] += tile.grid
        self.impostors[place] += tile.impostors
        self._parts.append(tile.top)
        self._held += len(tile.top)
        if self._held > 2 * self.keep + (1 << 20):
            self._trim()

    def _trim(self) -> None:
        scores = np.concatenate(self._parts) if self._parts else np.empty(0, dtype=np.float32)
        if len(scores) > self.keep:
            scores.partition(len(scores) - self.keep)
            scores = scores[-self.keep :].copy()
            self.floor = scores.min()
        self._parts, self._held = [scores], len(scores)

    def top(self) -> Singles:
        """Return the highest impostor scores, descending."""
        self._trim()
        return np.sort(self._parts[0])[::-1]


def _hits(scores: Singles, best: Singles) -> tuple[Ints, Ints]:
    """Return the rows that hold scores at or above `best` (r,) and how many; most rows need only their maximum."""
    rows = np.flatnonzero(scores.max(axis=1) >= best)
    return rows, np.count_nonzero(scores[rows] >= best[rows, None], axis=1)


def counted_tiles(
    layout: Layout, counter: Counter, best: Singles | None, single: bool
) -> Iterator[tuple[tuple[int, int], Tile]]:
    """Multiply and count as many tiles as there are cores at a time; yield (first row, first column), tile.

    `single`: a product keeps to one thread, so that tiles are multiplied side by side too.
    """
    workers = max(1, min(8, os.cpu_count() or 1))
    side = max(stop - start for start, stop in layout.tiles)
    buffers = np.empty((workers, side * side), dtype=np.float32)
    pairs = [
        (row, column)
        for place, row in enumerate(layout.tiles)
        for column in layout.tiles[place if layout.symmetric else 0 :]
    ]

    def multiply(job: _Job) -> _Job:
        buffer, row, column = job
        height, width = row[1] - row[0], column[1] - column[0]
        scores = buffer[: height * width].reshape(height, width)
        np.matmul(layout.rows[slice(*row)], layout.columns[slice(*column)].T, out=scores)
        return scores, row, column

    def count(job: _Job) -> Tile:
        scores, row, column = job
        _mask(scores, layout, row, column)
        rows = best[slice(*row)] if best is not None and layout.symmetric else None
        return counter.count(scores, rows, None if best is None else best[slice(*column)])

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(pairs), workers):
            jobs = [(buffer, *pair) for buffer, pair in zip(buffers, pairs[start : start + workers], strict=False)]
            if single:
                tiles = pool.map(lambda job: count(multiply(job)), jobs)
            else:
                tiles = pool.map(count, [multiply(job) for job in jobs])
            for (_, row, column), tile in zip(jobs, tiles, strict=True):
                yield (row[0], column[0]), tile


@contextmanager
def single_threaded_products() -> Iterator[bool]:
    """Hold matrix products to one thread each, where threadpoolctl is installed; yield whether it could be done.

    A tile a core needs no meeting of threads inside a product; where other processes want the cores too, those meetings
    cost several times the product. Without threadpoolctl each product uses all cores, and only counting is shared out.
    """
    try:
        controller = import_module("threadpoolctl").ThreadpoolController()
    except ImportError:
        yield False
        return
    with controller.limit(limits=1, user_api="blas"):
        yield True


def _mask(scores: Singles, layout: Layout, row: tuple[int, int], column: tuple[int, int]) -> None:
    """Strike out of a tile what is no impostor comparison: a person's own square, and pairs met the other way round."""
    first = max(layout.person[row[0]], layout.person[column[0]])
    last = min(layout.person[row[1] - 1], layout.person[column[1] - 1])
    for person in range(int(first), int(last) + 1):
        begin, end = int(layout.starts[person]), int(layout.starts[person + 1])
        down = slice(max(begin - row[0], 0), max(end - row[0], 0))
        across = slice(max(begin - column[0], 0), max(end - column[0], 0))
        scores[down, across] = _OUT
    if layout.symmetric and row == column:
        scores[np.tri(len(scores), dtype=bool)] = _OUT
