"""One measurement: point values and their values in every resample, for listed and for implied comparisons alike.

`verify`, `differences` and `compatibility` all read the same `Measured`, so a difference of two of them with the same
protocol, seed and resamples is a paired one: row r of both draws the same people.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from veriquant.errors import VeriQuantError
from veriquant.metrics import curve
from veriquant.metrics.allpairs import count_all
from veriquant.metrics.allpairs_groups import GROUPS, group_figures
from veriquant.metrics.curve import Trials
from veriquant.metrics.folds import fold_accuracies
from veriquant.metrics.identification import from_ranks, identify
from veriquant.metrics.protocol import Floats, Ints, Options, Protocol, Singles, rate_name
from veriquant.metrics.resampling import FEWEST_PEOPLE, draw_people, interval, list_figures, number_people
from veriquant.metrics.scores import norms, pair_cosines, summary, unit
from veriquant.metrics.sorted_scores import sort_scores
from veriquant.metrics.support import both_support, operating_support
from veriquant.results import Metric, ScoreSummary, Support


@dataclass(frozen=True)
class Estimate:
    """A figure and, where people were resampled, its value in every resample, float64 (r,), NaN where it has none."""

    value: float | None
    threshold: float | None = None
    std: float | None = None
    support: Support = "ok"
    note: str = ""
    replicates: Floats | None = None


@dataclass(frozen=True)
class Measured:
    """All figures of one network (or of two, one enrolled and one probing) on one protocol.

    `at`: (TAR, FMR) at each of the thresholds asked for. `people`: how many were resampled. `unit_note`: what was
    resampled, where it was not single people.
    """

    estimates: dict[str, Estimate]
    trials: Trials
    genuine: ScoreSummary
    impostor: ScoreSummary
    people: int
    resamples: int
    unit_note: str = ""
    at: list[tuple[Estimate, Estimate]] = field(default_factory=list)
    directions: int = 1
    """2 where every comparison was scored both ways round: the second lends no operating point support."""

    def metric(self, estimate: Estimate) -> Metric:
        """Return the record of an estimate, with its interval or the reason why it has none."""
        if estimate.value is None:
            return Metric(value=None, support=estimate.support, note=estimate.note)
        ci95, remark = interval(estimate.replicates, self.people, self.resamples)
        notes = [estimate.note, remark, self.unit_note if ci95 is not None else ""]
        return Metric(
            value=estimate.value, ci95=ci95, std=estimate.std, threshold=estimate.threshold, support=estimate.support,
            note="; ".join(note for note in notes if note),
        )  # fmt: skip


def measure(
    protocol: Protocol,
    enrolled: Singles,
    probes: Singles | None,
    options: Options,
    *,
    at: tuple[float, ...] = (),
    both_ways: bool = False,
    full: bool = True,
    replicates: bool = True,
) -> Measured:
    """Measure embeddings, float32 (n, d), on a protocol; `probes` gives the right side where it is another network's.

    `at`: thresholds at which TAR and FMR are wanted. `both_ways`: score every listed comparison also with its sides
    exchanged (with `probes` only; implied comparisons always are). `full`: accuracy and ranks too.
    `replicates`: without them point values alone, of the very same scores (float32 products differ in their last bit
    with the tiles they are made in, and tiles follow the groups that are resampled).
    Raises VeriQuantError for embeddings that do not fit the protocol or have no direction.
    """
    if protocol.all_pairs:
        return _measure_all(protocol, enrolled, probes, options, at, full, replicates)
    return _measure_list(protocol, enrolled, probes, options, at, both_ways and probes is not None, full, replicates)


def _measure_list(
    protocol: Protocol, enrolled: Singles, probes: Singles | None, options: Options, at: tuple[float, ...],
    both_ways: bool, full: bool, replicates: bool,
) -> Measured:  # fmt: skip
    norms(enrolled, len(protocol.persons))
    if probes is not None:
        norms(probes, len(protocol.persons), "probe embedding")
    other = enrolled if probes is None else probes
    scores = pair_cosines(enrolled, other, protocol.left, protocol.right)
    genuine, folds = protocol.genuine, protocol.folds
    (one, two), people = number_people(protocol.persons[protocol.left], protocol.persons[protocol.right])
    if both_ways:
        scores = np.concatenate([scores, pair_cosines(enrolled, other, protocol.right, protocol.left)])
        genuine, one, two = np.tile(genuine, 2), np.concatenate([one, two]), np.concatenate([two, one])
        folds = None if folds is None else np.tile(folds, 2)
    trials = curve.trials_from_scores(scores[genuine], scores[~genuine])
    # A comparison scored both ways is still one comparison of two people: it lends its operating point no more support.
    share = 2 if both_ways else 1
    figures: dict[str, Floats] = {}
    ordered = sort_scores(scores, genuine, one, two, folds)
    usable = bool(len(trials.genuine) and trials.impostors)
    if replicates and options.resamples and people >= FEWEST_PEOPLE and usable:
        drawn = draw_people(people, options.resamples, options.seed)
        figures = list_figures(ordered, drawn, options, at, full)
    estimates: dict[str, Estimate] = {}
    if full and folds is not None:
        accuracy, thresholds = fold_accuracies(ordered, np.ones((1, len(scores))))
        if usable and np.isfinite(accuracy).all():
            estimates["accuracy"] = Estimate(
                float(accuracy.mean()), float(thresholds.mean()), float(accuracy.std()),
                replicates=figures.get("accuracy"),
            )  # fmt: skip
        else:
            why = both_support(len(trials.genuine), trials.impostors)[1] or "at least two folds are needed"
            estimates["accuracy"] = Estimate(None, support="none", note=why)
    estimates |= _curve_estimates(trials, options, figures, trials.impostors // share)
    if full and protocol.search and probes is None:
        estimates |= _search_estimates(protocol, enrolled, options, replicates)
    fmr = [float(np.mean(scores[~genuine] >= np.float64(t))) if trials.impostors else 0.0 for t in at]
    return Measured(
        estimates, trials, summary(scores[genuine], options.histogram_bins),
        summary(scores[~genuine], options.histogram_bins), people, options.resamples,
        at=_at_estimates(trials, at, fmr, figures), directions=share,
    )  # fmt: skip


def _measure_all(
    protocol: Protocol,
    enrolled: Singles,
    probes: Singles | None,
    options: Options,
    at: tuple[float, ...],
    full: bool,
    replicates: bool,
) -> Measured:
    (persons,), people = number_people(protocol.persons)
    resampling = bool(options.resamples and people >= FEWEST_PEOPLE)
    groups = min(GROUPS, people) if resampling else 0
    rows = unit(enrolled, len(persons))
    columns = None if probes is None else unit(probes, len(persons), "probe embedding")
    if columns is not None and columns.shape != rows.shape:
        raise VeriQuantError(
            f"embeddings of different widths cannot be compared: {rows.shape[1:]} and {columns.shape[1:]}"
        )
    counted = count_all(persons, rows, columns, options, at=at, groups=groups, ranks=full)
    trials, grouped = counted.trials, counted.grouped
    figures: dict[str, Floats] = {}
    drawn = draw_people(max(1, groups), options.resamples, options.seed)
    usable = bool(len(trials.genuine) and trials.impostors)
    if replicates and resampling and usable:
        figures = group_figures(grouped, drawn, options, len(at))
    share = 1 if probes is None else 2
    estimates = _curve_estimates(trials, options, _centred(figures, trials, options), trials.impostors // share)
    if full and counted.ranks is not None:
        estimates |= _rank_estimates(counted.ranks, grouped.group, drawn if resampling else None, options)
    total = max(1.0, float(grouped.impostors.sum()))
    fmr = [float(grouped.accepted[:, place].sum()) / total for place in range(len(at))]
    note = f"interval from resampling {groups} random groups of the {people} people" if groups < people else ""
    return Measured(
        estimates, trials, counted.genuine, counted.impostor, people, options.resamples, note,
        _at_estimates(trials, at, fmr, figures), share,
    )  # fmt: skip


def _curve_estimates(
    trials: Trials, options: Options, figures: dict[str, Floats], comparisons: int
) -> dict[str, Estimate]:
    """Return eer, auc, tar@, fnmr@ and mindcf; `comparisons` is what the support of an operating point rests on."""
    result: dict[str, Estimate] = {}
    genuine = len(trials.genuine)
    support, why = both_support(genuine, trials.impostors)
    if support == "none":
        blank = Estimate(None, support="none", note=why)
        names = [f"{kind}={rate_name(far)}" for kind in ("tar@far", "fnmr@fmr") for far in options.far]
        return dict.fromkeys(["eer", "auc", *names, "mindcf"], blank)
    rate, threshold = curve.equal_error(trials)
    result["eer"] = Estimate(rate, threshold, replicates=figures.get("eer"))
    result["auc"] = Estimate(curve.auc(trials), replicates=figures.get("auc"))
    for far in options.far:
        tar_name, fnmr_name = f"tar@far={rate_name(far)}", f"fnmr@fmr={rate_name(far)}"
        support, why = operating_support(far, genuine, comparisons)
        if support == "none":
            result[tar_name] = result[fnmr_name] = Estimate(None, support=support, note=why)
            continue
        fnmr, threshold = curve.operating_point(trials, far)
        misses = figures.get(f"fnmr:{far}")
        hits = None if misses is None else 1 - misses
        result[tar_name] = Estimate(1 - fnmr, threshold, None, support, why, hits)
        result[fnmr_name] = Estimate(fnmr, threshold, None, support, why, misses)
    cost, threshold = curve.min_dcf(trials, options)
    result["mindcf"] = Estimate(cost, threshold, replicates=figures.get("mindcf"))
    return result


def _at_estimates(
    trials: Trials, at: tuple[float, ...], fmr: list[float], figures: dict[str, Floats]
) -> list[tuple[Estimate, Estimate]]:
    """Return (TAR, FMR) at the given thresholds."""
    support, why = both_support(len(trials.genuine), trials.impostors)
    if support == "none":
        blank = Estimate(None, support="none", note=why)
        return [(blank, blank)] * len(at)
    return [
        (
            Estimate(1 - curve.fnmr_at(trials, threshold), threshold, replicates=figures.get(f"tar@{place}")),
            Estimate(rate, threshold, replicates=figures.get(f"fmr@{place}")),
        )
        for place, (threshold, rate) in enumerate(zip(at, fmr, strict=True))
    ]


def _centred(figures: dict[str, Floats], trials: Trials, options: Options) -> dict[str, Floats]:
    """Shift values known on a grid so that the undisturbed one is the exact one, and keep them possible.

    The shift makes up for the grid; `group_figures` gives the undisturbed figure as row 'name!'.
    """
    if not figures:
        return {}
    exact = {"eer": curve.equal_error(trials)[0], "auc": curve.auc(trials), "mindcf": curve.min_dcf(trials, options)[0]}
    exact |= {f"fnmr:{far}": curve.operating_point(trials, far)[0] for far in options.far}
    result = dict(figures)
    for name, value in exact.items():
        result[name] = np.clip(figures[name] + (value - figures[f"{name}!"]), 0, 1)
    return result


def _search_estimates(
    protocol: Protocol, embeddings: Singles, options: Options, replicates: bool
) -> dict[str, Estimate]:
    """Return rank-k of every sample searched among all others, beside a list of comparisons."""
    (person,), people = number_people(protocol.persons)
    drawn = None
    if replicates and options.resamples and people >= FEWEST_PEOPLE:
        drawn = draw_people(people, options.resamples, options.seed)
    return _rank_estimates(identify(embeddings, protocol.persons).ranks, person, drawn, options)


def _rank_estimates(
    ranks: Ints, group: Ints, drawn: np.typing.NDArray[np.uint16] | None, options: Options
) -> dict[str, Estimate]:
    """Return rank-k of a leave-one-out search; the gallery stays whole while probing people are resampled."""
    found = from_ranks(ranks, 1)
    result: dict[str, Estimate] = {}
    for k in options.ranks:
        if not found.probes:
            result[f"rank-{k}"] = Estimate(None, support="none", note="no sample has another of its person")
            continue
        note = f"{found.unmated} samples without a mate were not searched for" if found.unmated else ""
        replicates = None
        if drawn is not None:
            width = drawn.shape[1]
            hits = np.bincount(group[(ranks > 0) & (ranks <= k)], minlength=width).astype(np.float64)
            tried = np.bincount(group[ranks > 0], minlength=width).astype(np.float64)
            total = drawn @ tried
            replicates = (drawn @ hits) / np.where(total > 0, total, np.nan)
        result[f"rank-{k}"] = Estimate(found.rank(k), note=note, replicates=replicates)
    return result
