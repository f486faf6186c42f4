"""Every template against every other, exactly and in bounded memory.

The scores are never held together: tiles of the score matrix are multiplied (float32), sorted on all cores and
counted against the sorted genuine scores, which is all that the error trade-off curve needs
(`veriquant.metrics.curve`); the highest impostor scores are kept for the thresholds. Genuine scores are held: they are
few. Each unordered pair is scored once; with probes of another network each ordered pair of two *different* samples
once.

For intervals people are put into at most `GROUPS` random groups and the same tiles are counted per pair of groups on a
grid of some thousand thresholds; then whole groups are resampled. Point values stay exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import special

from veriquant.metrics.curve import Trials, allowed, trials_from_counts
from veriquant.metrics.protocol import Bools, Floats, Ints, Options, Singles
from veriquant.metrics.resampling import curve_figures, shares
from veriquant.metrics.scores import histogram_counts, summary
from veriquant.results import ScoreSummary

GROUPS = 32
"""Groups of people that intervals resample."""
_TILE = 2048
"""Rows and columns of a tile: 16 MB of scores."""
_OUT = np.float32(-2)
"""Stands for 'no impostor comparison' in a tile; below every cosine."""
_GRID = 2048
"""Thresholds of the grid of each kind: even in score, even in genuine rank, geometric in impostor rank."""

_Job = tuple[Singles, tuple[int, int], tuple[int, int]]
"""Scores or room for them, first and last row, first and last column of a tile."""


@dataclass(frozen=True)
class Grouped:
    """Counts by group on a grid of t thresholds, the first ones being those asked for.

    `accepted`: float64 (p, t) impostors at or above, `impostors`: float64 (p,), for p pairs of groups `one`, `other`;
    `missed`: float64 (g, t) genuine scores below, `genuine`: float64 (g,). `group`: int64 (n,) of each sample.
    """

    thresholds: Floats
    one: Ints
    other: Ints
    accepted: Floats
    impostors: Floats
    missed: Floats
    genuine: Floats
    group: Ints


@dataclass(frozen=True)
class Counted:
    """What one pass over all comparisons leaves; `ranks`: int64 (n,) by sample, 0 without a mate, None if not asked."""

    trials: Trials
    genuine: ScoreSummary
    impostor: ScoreSummary
    ranks: Ints | None
    grouped: Grouped


@dataclass(frozen=True)
class _Layout:
    """Templates in order of (group, person), and where each person and tile lies in that order."""

    order: Ints
    rows: Singles
    columns: Singles
    symmetric: bool
    person: Ints
    starts: Ints
    group: Ints
    tiles: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Tile:
    """What is counted in one tile."""

    impostors: int
    at: Ints
    over: Ints
    histogram: Ints
    top: Singles
    grid: Ints
    row_hits: tuple[Ints, Ints] | None
    column_hits: tuple[Ints, Ints] | None


def count_all(
    persons: Ints,
    rows: Singles,
    columns: Singles | None,
    options: Options,
    *,
    at: tuple[float, ...] = (),
    groups: int = 0,
    ranks: bool = True,
) -> Counted:
    """Count all comparisons of unit templates.

    `persons`: int64 (n,), 0…p−1. `rows`: float32 (n, d) of length 1; `columns`: the same of another network as probes,
    or None. `at`: thresholds whose FMR is wanted by group. `groups`: how many to make, 0 for one, without a grid.
    """
    with _single_threaded_products() as single:
        return _count_all(persons, rows, columns, options, at, groups, ranks, single)


def _count_all(
    persons: Ints, rows: Singles, columns: Singles | None, options: Options, at: tuple[float, ...], groups: int,
    ranks: bool, single: bool,
) -> Counted:  # fmt: skip
    layout = _arrange(persons, rows, columns, groups, options.seed)
    genuine, genuine_group, best = _genuine(layout)
    samples = len(persons)
    total = samples * (samples - 1) // (2 if layout.symmetric else 1) - len(genuine)
    grid = _grid(layout, genuine, at, groups)
    people_groups = max(1, groups)
    missed = np.zeros((people_groups, len(grid)))
    genuine_count = np.bincount(genuine_group, minlength=people_groups).astype(np.float64)
    for name in range(people_groups):
        missed[name] = np.searchsorted(np.sort(genuine[genuine_group == name]), grid, side="left")
    genuine.sort()
    values = np.unique(genuine)
    keep = max([1, *(allowed(far, total) + 1 for far in options.far)])
    counter = _Counter(values, options.histogram_bins, keep, grid, people_groups, total)
    before = np.zeros(samples, dtype=np.int64)
    for (row, column), tile in _tiles(layout, counter, best if ranks else None, single):
        counter.add(tile, int(layout.group[row]), int(layout.group[column]))
        for start, hits in ((row, tile.row_hits), (column, tile.column_hits)):
            if hits is not None:
                before[start + hits[0]] += hits[1]
    trials = trials_from_counts(genuine, counter.at, counter.over, total, counter.top())
    grouped = Grouped(
        grid.astype(np.float64), counter.one, counter.other, counter.accepted, counter.impostors, missed, genuine_count,
        _unsorted(layout.group, layout.order),
    )  # fmt: skip
    rank = np.where(np.isfinite(best), before + 1, 0)
    return Counted(
        trials,
        summary(genuine, options.histogram_bins),
        _impostor_summary(layout, genuine, total, counter.histogram),
        _unsorted(rank, layout.order) if ranks else None,
        grouped,
    )


def group_figures(grouped: Grouped, drawn: npt.NDArray[np.integer], options: Options, at: int) -> dict[str, Floats]:
    """Return the figures in every resample of groups (r, g), as `resampling.list_figures` names them.

    `at`: how many thresholds of the grid were asked for. The undisturbed figure stands beside each as '<name>!',
    float64 (1,). Groups are few: deviations from the undisturbed figure are
    widened by the quantile of Student's t over the normal one and by sqrt(g/(g−1)).
    """
    undisturbed = _some_figures(grouped, np.ones((1, drawn.shape[1])), options, at)
    parts = [
        _some_figures(grouped, drawn[start : start + 32].astype(np.float64), options, at)
        for start in range(0, len(drawn), 32)
    ]
    factor = widening(drawn.shape[1])
    result = dict[str, Floats]()
    for name, point in undisturbed.items():
        result[name] = point + factor * (np.concatenate([part[name] for part in parts]) - point)
        result[f"{name}!"] = point
    return result


def widening(groups: int) -> float:
    """Return by how much deviations over few resampled groups are widened."""
    quantile = float(special.stdtrit(groups - 1, 0.975)) / 1.959964 if groups > 1 else 1.0
    return quantile * math.sqrt(groups / max(1, groups - 1))


def _some_figures(grouped: Grouped, people: Floats, options: Options, at: int) -> dict[str, Floats]:
    weights = people[:, grouped.one] * people[:, grouped.other]
    impostors, genuine = weights @ grouped.impostors, people @ grouped.genuine
    accepted = shares(weights @ grouped.accepted, impostors[:, None])
    missed = shares(people @ grouped.missed, genuine[:, None])
    extra = {}
    for place in range(at):
        extra[f"fmr@{place}"], extra[f"tar@{place}"] = accepted[:, place], 1 - missed[:, place]
    order = np.argsort(grouped.thresholds, kind="stable")
    shape = (len(people), len(order) + 2)
    fmr, fnmr = np.empty(shape), np.empty(shape)
    lost = np.isnan(accepted[:, :1] + missed[:, :1])[:, 0] if len(order) else np.zeros(len(people), dtype=bool)
    fmr[:, 1:-1], fnmr[:, 1:-1] = accepted[:, order], missed[:, order]
    fmr[:, 0], fmr[:, -1] = np.where(lost, np.nan, 1), 0
    fnmr[:, 0], fnmr[:, -1] = np.where(lost, np.nan, 0), 1
    return {**curve_figures(fmr, fnmr, options, interpolate=True), **extra}


class _Counter:
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

    def count(self, scores: Singles, best_rows: Singles | None, best_columns: Singles | None) -> _Tile:
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
        return _Tile(len(flat), len(flat) - at, len(flat) - over, histogram, top, grid, row_hits, column_hits)

    def add(self, tile: _Tile, one: int, other: int) -> None:
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


def _arrange(persons: Ints, rows: Singles, columns: Singles | None, groups: int, seed: int) -> _Layout:
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
    return _Layout(order, first, second, columns is None, number, np.append(starts, len(persons)), group, tuple(tiles))


def _genuine(layout: _Layout) -> tuple[Singles, Ints, Singles]:
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


def _grid(layout: _Layout, genuine: Singles, at: tuple[float, ...], groups: int) -> Singles:
    """Return the thresholds that groups are counted at: those asked for, then ones even in score and in either rank."""
    asked = np.asarray(at, dtype=np.float32)
    if groups <= 1:
        return asked
    pieces = [np.linspace(-1, 1, _GRID + 1, dtype=np.float32)]
    values = np.unique(genuine)
    if len(values):
        values = values[np.unique(np.linspace(0, len(values) - 1, _GRID).astype(np.int64))]
        pieces += [values, np.nextafter(values, np.float32(np.inf))]
    step = max(1, len(layout.rows) // 1024)
    pilot = np.sort((layout.rows[::step] @ layout.columns[step // 2 :: step].T).reshape(-1))[::-1]
    pieces.append(pilot[np.unique(np.geomspace(1, len(pilot), _GRID).astype(np.int64)) - 1])
    return np.concatenate([asked, np.unique(np.concatenate(pieces))])


def _tiles(
    layout: _Layout, counter: _Counter, best: Singles | None, single: bool
) -> Iterator[tuple[tuple[int, int], _Tile]]:
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

    def count(job: _Job) -> _Tile:
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
def _single_threaded_products() -> Iterator[bool]:
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


def _mask(scores: Singles, layout: _Layout, row: tuple[int, int], column: tuple[int, int]) -> None:
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


def _unsorted(values: Ints, order: Ints) -> Ints:
    result = np.empty_like(values)
    result[order] = values
    return result


def _impostor_summary(layout: _Layout, genuine: Singles, total: int, histogram: Ints) -> ScoreSummary:
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
