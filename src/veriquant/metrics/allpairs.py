"""Every template against every other, exactly and in bounded memory.

The scores are never held together: tiles of the score matrix are multiplied (float32), sorted on all cores and
counted against the sorted genuine scores, which is all that the error trade-off curve needs
(`veriquant.metrics.curve`); the highest impostor scores are kept for the thresholds. Genuine scores are held: they are
few. Each unordered pair is scored once; with probes of another network each ordered pair of two *different* samples
once.

For intervals people are put into at most `allpairs_groups.GROUPS` random groups and the same tiles are counted per pair
of groups on a grid of some thousand thresholds; then whole groups are resampled. Point values stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veriquant.metrics.allpairs_groups import Grouped, grid_of_groups
from veriquant.metrics.allpairs_templates import arrange, genuine_scores, impostor_summary, unsorted
from veriquant.metrics.allpairs_tiles import Counter, counted_tiles, single_threaded_products
from veriquant.metrics.curve import Trials, allowed, trials_from_counts
from veriquant.metrics.protocol import Ints, Options, Singles
from veriquant.metrics.scores import summary
from veriquant.results import ScoreSummary


@dataclass(frozen=True)
class Counted:
    """What one pass over all comparisons leaves; `ranks`: int64 (n,) by sample, 0 without a mate, None if not asked."""

    trials: Trials
    genuine: ScoreSummary
    impostor: ScoreSummary
    ranks: Ints | None
    grouped: Grouped


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
    with single_threaded_products() as single:
        return _count_all(persons, rows, columns, options, at, groups, ranks, single)


def _count_all(
    persons: Ints, rows: Singles, columns: Singles | None, options: Options, at: tuple[float, ...], groups: int,
    ranks: bool, single: bool,
) -> Counted:  # fmt: skip
    layout = arrange(persons, rows, columns, groups, options.seed)
    genuine, genuine_group, best = genuine_scores(layout)
    samples = len(persons)
    total = samples * (samples - 1) // (2 if layout.symmetric else 1) - len(genuine)
    grid = grid_of_groups(layout, genuine, at, groups)
    people_groups = max(1, groups)
    missed = np.zeros((people_groups, len(grid)))
    genuine_count = np.bincount(genuine_group, minlength=people_groups).astype(np.float64)
    for name in range(people_groups):
        missed[name] = np.searchsorted(np.sort(genuine[genuine_group == name]), grid, side="left")
    genuine.sort()
    values = np.unique(genuine)
    keep = max([1, *(allowed(far, total) + 1 for far in options.far)])
    counter = Counter(values, options.histogram_bins, keep, grid, people_groups, total)
    before = np.zeros(samples, dtype=np.int64)
    for (row, column), tile in counted_tiles(layout, counter, best if ranks else None, single):
        counter.add(tile, int(layout.group[row]), int(layout.group[column]))
        for start, hits in ((row, tile.row_hits), (column, tile.column_hits)):
            if hits is not None:
                before[start + hits[0]] += hits[1]
    trials = trials_from_counts(genuine, counter.at, counter.over, total, counter.top())
    grouped = Grouped(
        grid.astype(np.float64), counter.one, counter.other, counter.accepted, counter.impostors, missed, genuine_count,
        unsorted(layout.group, layout.order),
    )  # fmt: skip
    rank = np.where(np.isfinite(best), before + 1, 0)
    return Counted(
        trials,
        summary(genuine, options.histogram_bins),
        impostor_summary(layout, genuine, total, counter.histogram),
        unsorted(rank, layout.order) if ranks else None,
        grouped,
    )
