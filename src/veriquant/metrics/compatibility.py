"""May templates enrolled with the reference network be compared with probes of the variant?

Four cells, (enrolled, probed): both reference; reference, variant; variant, reference; both variant. The **old
threshold** is the reference's own at FMR = far, chosen on these comparisons and rounded up to four decimals, as one
would write it into a configuration: unrounded it touches a score, and the last bit of an equal network would cross it.
Every cell is measured there and at its own threshold at the same FMR. Cosine is symmetric, and every listed comparison
is scored both ways round (enrol left and probe right, and the reverse), so the two mixed cells hold the same
comparisons and the same figures. All four cells resample the same people, and the rules read paired differences. They
are tried in this order:

1. **enrol-again**: at its own threshold the mixed cell accepts fewer genuine comparisons than the variant alone at its
   own, by more than the margin, and the 95 % interval of that loss excludes 0: no threshold mends what the gallery
   loses.
2. **move-threshold**: the mixed cell's FMR at the old threshold exceeds the reference's there by more than
   ``(FMR_TOLERANCE − 1)·far`` with its whole interval, or its own interval lies above ``FMR_TOLERANCE·far``; or its TAR
   at the old threshold is lower than at its own by more than the margin, and the interval of that loss excludes 0.
3. **keep**: the whole interval of that excess of FMR is at most ``(FMR_TOLERANCE − 1)·far``, and the whole interval of
   the mixed cell's loss of TAR against the reference alone, both at the old threshold, is at most the margin.
4. **undecided** otherwise, or where the operating point or the interval is not supported.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from veriquant.errors import VeriQuantError
from veriquant.metrics.difference import MINUS, paired, point_text, share_text, signed
from veriquant.metrics.measure import Estimate, Measured, measure
from veriquant.metrics.protocol import Options, Protocol, Singles, rate_name
from veriquant.metrics.resampling import interval
from veriquant.metrics.scores import paired_cosines
from veriquant.metrics.support import operating_support
from veriquant.results import Compatibility, CompatibilityCell, Metric

FMR_TOLERANCE = 2.0
"""By what factor the FMR at the old threshold may exceed the operating point before the threshold must move."""

THRESHOLD_DECIMALS = 4

Verdict = Literal["keep", "move-threshold", "enrol-again", "undecided"]
Interval = tuple[float, float]


def compatibility(
    protocol: Protocol,
    reference: Singles,
    variant: Singles,
    options: Options | None = None,
    *,
    far: float = 1e-3,
    margin: float = 0.005,
    names: tuple[str, str] = ("FP32", "INT8"),
) -> Compatibility:
    """Fill the 2×2 table of two networks and decide by the rules above.

    `reference`, `variant`: float32 (n, d), of the same samples and the same width. `far`: operating point in (0, 1).
    `margin`: fraction of TAR that may be lost. `names`: what the cells and sentences call the networks. Raises
    VeriQuantError as `verify` does, for different widths and for settings out of range.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise VeriQuantError(f"margin: must be a fraction of 0 or more, found {margin}")
    if reference.shape != variant.shape:
        raise VeriQuantError(
            f"compatibility: both networks must give embeddings of one shape, found {reference.shape} and "
            f"{variant.shape}; templates of different widths can never be compared"
        )
    options = replace(options or Options(), far=(far,))
    cosines = paired_cosines(reference, variant)
    key = f"tar@far={rate_name(far)}"
    before = measure(protocol, reference, None, options, full=False, replicates=False)
    old = _written_down(before.estimates[key].threshold)
    at = () if old is None else (old,)
    both_old = measure(protocol, reference, None, options, at=at, full=False)
    mixed = measure(protocol, reference, variant, options, at=at, both_ways=True, full=False)
    both_new = measure(protocol, variant, None, options, at=at, full=False)
    pairs = ((names[0], names[0]), names, names[::-1], (names[1], names[1]))
    cells = [
        _cell(enrolled, probe, measured, key, far)
        for (enrolled, probe), measured in zip(pairs, (both_old, mixed, mixed, both_new), strict=True)
    ]
    verdict: Verdict
    if old is None:
        note = before.estimates[key].note
        verdict = "undecided"
        reasons = [f"There is no threshold at FMR {rate_name(far)} to keep: {note}."]
    else:
        verdict, reasons = _decide(both_old, mixed, both_new, key, far, margin, names)
    reasons.append(
        "Every comparison was scored with either side enrolled; cosine is symmetric, so the two mixed cells are one."
    )
    return Compatibility(
        far=far, old_threshold=old, new_threshold=_written_down(mixed.estimates[key].threshold), cells=cells,
        cosine_mean=float(cosines.mean(dtype=np.float64)), cosine_p01=float(np.quantile(cosines, 0.01)),
        verdict=verdict, reasons=reasons,
    )  # fmt: skip


def _cell(enrolled: str, probe: str, measured: Measured, key: str, far: float) -> CompatibilityCell:
    own = measured.estimates[key]
    if measured.at:
        tar, fmr = measured.at[0]
        support, note = operating_support(far, measured.genuine.count, _distinct(measured))
        if fmr.value is not None and support != "none":
            fmr, tar = replace(fmr, support=support, note=note), replace(tar, support=support, note=note)
    else:
        tar = fmr = Estimate(None, support="none", note=f"no old threshold: {own.note}")
    at_old: tuple[Metric, Metric] = measured.metric(tar), measured.metric(fmr)
    return CompatibilityCell(
        enrolled=enrolled, probe=probe, tar_at_old=at_old[0], fmr_at_old=at_old[1], own_threshold=own.threshold,
        tar_at_own=measured.metric(own),
    )  # fmt: skip


def _distinct(measured: Measured) -> int:
    return measured.impostor.count // measured.directions


def _decide(
    both_old: Measured, mixed: Measured, both_new: Measured, key: str, far: float, margin: float, names: tuple[str, str]
) -> tuple[Verdict, list[str]]:
    """Apply the rules; return the verdict and a sentence for each finding."""
    old_tar, old_fmr = both_old.at[0]
    mixed_tar, mixed_fmr = mixed.at[0]
    own, new_own = mixed.estimates[key], both_new.estimates[key]
    gallery_loss = _paired(new_own, own, mixed)
    threshold_loss = _paired(own, mixed_tar, mixed)
    loss = _paired(old_tar, mixed_tar, mixed)
    excess = _paired(mixed_fmr, old_fmr, mixed)
    fmr_interval, why = interval(mixed_fmr.replicates, mixed.people, mixed.resamples)
    reference, variant = names
    facts = [
        f"At the old threshold {reference} templates against {variant} probes have FMR {point_text(mixed_fmr)}"
        f"{_range(fmr_interval)}, {reference} alone {point_text(old_fmr)}; the operating point is {share_text(far)}.",
        f"At the old threshold their TAR is {point_text(mixed_tar)}, {reference} alone {point_text(old_tar)}"
        f"{_lost(loss)}.",
        f"At a threshold of their own their TAR is {point_text(own)}"
        f"{_lost(threshold_loss, 'lost by the old threshold')}; {variant} alone has {point_text(new_own)} at its own"
        f"{_lost(gallery_loss, 'lost by the old gallery')}.",
    ]
    weak = both_old.estimates[key]
    if weak.support == "weak":
        facts.append(f"{weak.note[0].upper()}{weak.note[1:]}.")
    if fmr_interval is None or None in (gallery_loss[1], threshold_loss[1], loss[1], excess[1]):
        return "undecided", [f"No decision without intervals: {why or 'a figure could not be resampled'}.", *facts]
    assert gallery_loss[1] is not None
    assert threshold_loss[1] is not None
    assert loss[1] is not None
    assert excess[1] is not None
    tolerated = (FMR_TOLERANCE - 1) * far
    if gallery_loss[0] > margin and gallery_loss[1][0] > 0:
        return "enrol-again", [
            f"Enrol again: at its best threshold the old gallery loses {gallery_loss[0] * 100:.2f} points of TAR "
            f"against enrolling with {variant}{_points(gallery_loss[1])}, more than the margin of {margin * 100:g}.",
            *facts,
        ]
    moved = []
    if excess[1][0] > tolerated or fmr_interval[0] > FMR_TOLERANCE * far:
        moved.append(
            f"Move the threshold to {own.threshold:.4f}: at the old one the FMR is above {FMR_TOLERANCE:g} × "
            f"{share_text(far)} with its whole interval."
        )
    if threshold_loss[0] > margin and threshold_loss[1][0] > 0:
        moved.append(
            f"Move the threshold to {own.threshold:.4f}: the old one loses {threshold_loss[0] * 100:.2f} points of TAR"
            f"{_points(threshold_loss[1])}, more than the margin of {margin * 100:g}."
        )
    if moved:
        return "move-threshold", [*moved, *facts]
    open_points = []
    if excess[1][1] > tolerated:
        open_points.append(
            f"Undecided: the FMR at the old threshold may exceed that of {reference} by up to "
            f"{share_text(excess[1][1])}, more than the {share_text(tolerated)} tolerated; more impostor comparisons "
            "are needed."
        )
    if loss[1][1] > margin:
        open_points.append(
            f"Undecided: at the old threshold up to {loss[1][1] * 100:.2f} points of TAR may be lost against "
            f"{reference}, more than the margin of {margin * 100:g}"
            + (f"; {variant} itself is no better, so enrolling again would not help." if loss[1][0] > margin else ".")
        )
    if open_points:
        return "undecided", [*open_points, *facts]
    return "keep", [
        f"Keep gallery and threshold: the FMR rises by at most {share_text(max(0.0, excess[1][1]))} and TAR falls by "
        f"at most {max(0.0, loss[1][1]) * 100:.2f} points, inside the tolerated {share_text(tolerated)} and "
        f"{margin * 100:g} points.",
        *facts,
    ]


def _written_down(threshold: float | None) -> float | None:
    """Round up to `THRESHOLD_DECIMALS`: the FMR stays at or below the operating point."""
    scale = 10**THRESHOLD_DECIMALS
    return None if threshold is None else math.ceil(threshold * scale) / scale


def _paired(one: Estimate, other: Estimate, measured: Measured) -> tuple[float, Interval | None]:
    """Return one − other and its paired interval."""
    value = math.nan if one.value is None or other.value is None else one.value - other.value
    return value, interval(paired(one.replicates, other.replicates), measured.people, measured.resamples)[0]


def _range(ci95: Interval | None) -> str:
    return "" if ci95 is None else f" (95 % interval {share_text(ci95[0])} … {share_text(ci95[1])})"


def _points(ci95: Interval) -> str:
    return f" (95 % interval {signed(ci95[0] * 100)} … {signed(ci95[1] * 100)})"


def _lost(loss: tuple[float, Interval | None], what: str = "lost") -> str:
    if math.isnan(loss[0]):
        return ""
    amount = f"{loss[0] * 100:.2f}".replace("-", MINUS)
    return f", {amount} points {what}" + ("" if loss[1] is None else _points(loss[1]))
