"""Paired differences of two networks on the same comparisons: the same people are resampled for both.

The rule: the variant is **no worse** than the reference by more than the margin where the whole 95 % interval of the
loss (the difference in the bad direction) lies at or below the margin; **worse** where it lies wholly above it;
**undecided** where it straddles the margin; **not supported** where the figure or its interval could not be had.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from veriquant.errors import VeriQuantError
from veriquant.metrics.measure import Estimate, Measured, measure
from veriquant.metrics.protocol import Floats, Options, Protocol, Singles
from veriquant.metrics.resampling import interval
from veriquant.results import Difference

DEFAULT_MARGIN = 0.005
"""The margin of a metric that `margins` does not name: half a percentage point."""
_LOWER_IS_BETTER = ("eer", "fnmr", "mindcf")
MINUS = "−"


def differences(
    protocol: Protocol,
    reference_embeddings: Singles,
    variant_embeddings: Singles,
    options: Options | None = None,
    margins: dict[str, float] | None = None,
    names: tuple[str, str] = ("FP32", "INT8"),
) -> list[Difference]:
    """Return variant − reference for every metric of the protocol, with paired intervals and verdicts.

    Embeddings: float32 (n, d), widths may differ. `margins`: fractions, not negative, by metric ('tar@far=1e-3'), by
    its family ('tar', 'rank') or by '*'; `DEFAULT_MARGIN` otherwise. `names`: what the sentences call the two networks.
    Raises VeriQuantError as `verify` does, and for a margin that is negative or no number.
    """
    margins = margins or {}
    for name, margin in margins.items():
        if not (math.isfinite(margin) and margin >= 0):
            raise VeriQuantError(f"margin of {name}: must be a fraction of 0 or more, found {margin}")
    options = options or Options()
    reference = measure(protocol, reference_embeddings, None, options)
    variant = measure(protocol, variant_embeddings, None, options)
    return [
        _difference(name, reference, variant, margin_of(name, margins), names[0])
        for name in reference.estimates
        if name in variant.estimates
    ]


def margin_of(metric: str, margins: dict[str, float]) -> float:
    """Return the margin of a metric: by its name, its family, '*', or the default."""
    family = metric.split("@")[0].split("-")[0]
    for key in (metric, family, "*"):
        if key in margins:
            return margins[key]
    return DEFAULT_MARGIN


def lower_is_better(metric: str) -> bool:
    """Return whether a metric counts errors."""
    return metric.startswith(_LOWER_IS_BETTER)


def paired(one: Floats | None, other: Floats | None) -> Floats | None:
    """Return one − other in every resample, None where either was not resampled."""
    return None if one is None or other is None else one - other


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign: '+0.15', '−0.40', '0.00'."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def _difference(metric: str, reference: Measured, variant: Measured, margin: float, name: str) -> Difference:
    old, new = reference.estimates[metric], variant.estimates[metric]
    if old.value is None or new.value is None:
        note = old.note or new.note
        return Difference(
            metric=metric, value=None, ci95=None, margin=margin, verdict="not supported",
            sentence=f"{metric}: no statement, {note}.",
        )  # fmt: skip
    value = new.value - old.value
    ci95, note = interval(paired(new.replicates, old.replicates), variant.people, variant.resamples)
    verdict: Literal["no worse", "worse", "undecided", "not supported"] = "not supported"
    if ci95 is not None:
        low, high = ci95 if lower_is_better(metric) else (-ci95[1], -ci95[0])
        verdict = "no worse" if high <= margin else "worse" if low > margin else "undecided"
    support = next((e.note for e in (old, new) if e.support == "weak"), "")
    sentence = _sentence(metric, value, ci95, note, margin, verdict, name)
    return Difference(
        metric=metric, value=value, ci95=ci95, margin=margin, verdict=verdict,
        sentence=f"{sentence} ({support[0].upper()}{support[1:]}.)" if support else sentence,
    )  # fmt: skip


def _sentence(
    metric: str, value: float, ci95: tuple[float, float] | None, note: str, margin: float, verdict: str, name: str
) -> str:
    plain = metric == "mindcf"
    scale, digits, unit = (1.0, 4, "") if plain else (100.0, 2, " points")
    if value == 0:
        moved = "did not change (difference exactly 0"
    else:
        size = f"{abs(value) * scale:.{digits}f}"
        if float(size) == 0:
            size = f"less than {10.0**-digits:.{digits}f}"
        moved = f"{'rose' if value > 0 else 'fell'} by {size}{unit} ("
    limit = f"{margin * scale:.{digits}f}".rstrip("0").rstrip(".") + unit
    joint = "; " if value == 0 else ""
    if ci95 is None:
        return f"{metric} {moved}{joint}{note}): no verdict against a margin of {limit}."
    low, high = (signed(v * scale, digits) for v in ci95)
    end = {
        "no worse": f"no worse than {name} by more than {limit}",
        "worse": f"worse than {name} by more than {limit}",
        "undecided": f"undecided, the interval straddles the margin of {limit} below {name}",
    }[verdict]
    if verdict == "undecided" and lower_is_better(metric):
        end = end.replace("below", "above")
    return f"{metric} {moved}{joint}95 % interval {low} … {high}): {end}."


def share_text(value: float) -> str:
    """Return a rate in percent for a sentence: two decimals, or more for three significant digits."""
    percent = value * 100
    digits = 2 if percent == 0 else int(np.clip(2 - math.floor(math.log10(abs(percent))), 2, 6))
    return f"{percent:.{digits}f} %"


def point_text(estimate: Estimate) -> str:
    """Return an estimate's value in percent, or 'unknown'."""
    return "unknown" if estimate.value is None else share_text(estimate.value)
