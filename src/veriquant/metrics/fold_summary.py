"""Mean and standard deviation over the folds of a data set, each fold an evaluation of its own trained network.

The standard deviation is the **sample** one (n − 1 in the denominator): three folds are a sample of what training again
on other people would give. The sources that report 'mean ± standard deviation' over folds do not say which they take;
over three folds the population's is smaller by a factor of 0.816. It describes how far folds differ and is no interval:
the intervals of a single evaluation resample people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veriquant.errors import VeriQuantError
from veriquant.results import Evaluation, Support


@dataclass(frozen=True)
class FoldFigure:
    """One metric over folds, in the metric's own unit (fractions, never percent).

    `values`: the figure of each fold, None where the fold's data cannot support it. `mean` is None unless every fold
    has a figure; `std`, the sample standard deviation, also where there is one fold only. `support` is the weakest of
    the folds', and `note` says what a reader must know.
    """

    mean: float | None
    std: float | None
    values: tuple[float | None, ...]
    support: Support
    note: str


def fold_summary(evaluations: Sequence[Evaluation]) -> dict[str, FoldFigure]:
    """Return mean and sample standard deviation of every metric over the evaluations, one for each fold.

    Metrics come in the order of the first evaluation; one that only some folds have is there without a mean. Raises
    `VeriQuantError` where there is no evaluation, or where two are of the same test data: a fold would count twice.
    """
    if not evaluations:
        raise VeriQuantError("a summary over folds needs at least one evaluation, found none")
    seen: dict[str, str] = {}
    for evaluation in evaluations:
        name, digest = str(evaluation.benchmark["name"]), str(evaluation.benchmark["digest"])
        if digest in seen:
            raise VeriQuantError(
                f"a summary over folds: expected each fold once, found the test data of {seen[digest]!r} twice"
                + ("" if name == seen[digest] else f", also as {name!r}")
            )
        seen[digest] = name
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics)
    return {name: _figure(name, evaluations) for name in names}


def _figure(name: str, evaluations: Sequence[Evaluation]) -> FoldFigure:
    values: list[float | None] = []
    supports: list[Support] = []
    notes: list[str] = []
    for evaluation in evaluations:
        metric = evaluation.metrics.get(name)
        values.append(None if metric is None else metric.value)
        supports.append("none" if metric is None or metric.value is None else metric.support)
        if supports[-1] != "ok":
            note = f"no {name}" if metric is None else metric.note
            notes.append(f"{evaluation.benchmark['name']}: {note}")
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    support: Support = "none" if "none" in supports else "weak" if "weak" in supports else "ok"
    return FoldFigure(
        mean=float(np.mean(known)) if complete else None,
        std=float(np.std(known, ddof=1)) if complete and len(known) > 1 else None,
        values=tuple(values),
        support=support,
        note="; ".join(notes),
    )
