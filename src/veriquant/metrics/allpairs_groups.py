"""Intervals over all pairs: people in a few random groups, counted per pair of groups, and whole groups resampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from veriquant.metrics.allpairs_templates import Layout
from veriquant.metrics.protocol import Floats, Ints, Options, Singles
from veriquant.metrics.resampling import curve_figures, shares

GROUPS = 32
"""Groups of people that intervals resample."""
_GRID = 2048
"""Thresholds of the grid of each kind: even in score, even in genuine rank, geometric in impostor rank."""


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


def grid_of_groups(layout: Layout, genuine: Singles, at: tuple[float, ...], groups: int) -> Singles:
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
