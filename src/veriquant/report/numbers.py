"""How figures are written, in tables, charts and sentences alike. Inputs are fractions, bytes and milliseconds."""

from __future__ import annotations

import math

MINUS = "−"
NONE = "–"
PERCENT_PREFIXES = ("accuracy", "tar@", "fnmr@", "fmr@", "eer", "rank-", "tpir@", "fnir@")
LOWER_IS_BETTER = ("eer", "fnmr@", "fmr@", "mindcf", "fnir@")
Interval = tuple[float, float]


def number(value: float | None, decimals: int = 2, signed: bool = False) -> str:
    """Write a number with thousands separated, a true minus sign and never a negative zero."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def count(value: int) -> str:
    """Write a count with thousands separated."""
    return f"{value:,}"


def percent(fraction: float | None, decimals: int = 2, signed: bool = False) -> str:
    """Write a fraction in percent, without the sign (the heading carries it)."""
    return number(None if fraction is None else 100 * fraction, decimals, signed)


def interval(ci: Interval | None, decimals: int, scale: float = 1.0, signed: bool = False) -> str:
    """Write an interval as [low, high]; an absent one as the empty string."""
    if ci is None:
        return ""
    low, high = (number(scale * end, decimals, signed) for end in ci)
    return f"[{low}, {high}]"


def percent_interval(ci: Interval | None, signed: bool = False) -> str:
    """Write an interval of fractions in percent: two decimals, but one where it is wider than a point."""
    if ci is None:
        return ""
    return interval(ci, 1 if 100 * (ci[1] - ci[0]) >= 1 else 2, 100, signed)


def rate(fraction: float | None) -> str:
    """Write a small error rate in percent with two significant digits: 0.012 %."""
    if fraction is None or not math.isfinite(fraction):
        return NONE
    return f"{number(100 * fraction, _decimals(100 * fraction, 2, 2))} %"


def rate_interval(ci: Interval | None) -> str:
    """Write an interval of small rates in percent, as many decimals as its upper end needs."""
    return "" if ci is None else interval(ci, _decimals(100 * ci[1], 2, 2), 100)


def _decimals(value: float, significant: int, least: int) -> int:
    """Return the decimals that show `value` with so many significant digits, at least `least`."""
    if value == 0 or not math.isfinite(value):
        return least
    return max(least, significant - 1 - math.floor(math.log10(abs(value))))


def one_in(fraction: float | None) -> str:
    """Write a rate as '1 in N', N with two significant digits; a rate of nought or a common one as it is."""
    if not fraction or fraction > 0.2:
        return rate(fraction)
    scale = 1 / fraction
    step = 10 ** max(0, math.floor(math.log10(scale)) - 1)
    return f"1 in {count(round(scale / step) * step)}"


def megabytes(size: int) -> str:
    """Write bytes in megabytes of 10^6 bytes."""
    return number(size / 1e6, 2 if size >= 1e5 else 4)


def milliseconds(value: float) -> str:
    """Write a time with three significant digits."""
    return number(value, max(0, _decimals(value, 3, 0)) if value < 100 else 0)


def ratio(value: float | None, ci: Interval | None = None) -> str:
    """Write a ratio with its interval: 0.53× [0.51, 0.55]."""
    if value is None:
        return NONE
    decimals = 2 if value >= 0.1 else 3
    return f"{number(value, decimals)}× {interval(ci, decimals)}".rstrip()


def threshold(value: float | None) -> str:
    """Write a similarity threshold."""
    return number(value, 4)


def error_ratio(value: float | None) -> str:
    """Write a noise-to-signal ratio."""
    return NONE if value is None else f"{value:.2e}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Write a span of time in its two largest units."""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(total, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(amount: int, noun: str) -> str:
    """Write a count with its noun: 1 thread, 32 threads."""
    return f"{count(amount)} {noun}{'' if amount == 1 else 's'}"


def operating_point(metric: str) -> float | None:
    """Return the FMR that a metric's name carries: 'tar@far=1e-3' -> 0.001; None where it carries none."""
    try:
        return float(metric.rpartition("=")[2])
    except ValueError:
        return None


def label(metric: str) -> str:
    """Return the name a reader knows: 'tar@far=1e-3' -> 'TAR@FAR=1e-3'."""
    known = {"accuracy": "Accuracy", "auc": "ROC AUC", "mindcf": "minDCF"}
    if metric in known:
        return known[metric]
    if metric.startswith("rank-"):
        return metric.capitalize()
    head, sign, point = metric.partition("=")
    return head.upper() + sign + point


def is_percent(metric: str) -> bool:
    """Tell whether a metric is written in percent (and its differences in percentage points)."""
    return metric.startswith(PERCENT_PREFIXES)


def higher_is_better(metric: str) -> bool:
    """Tell the direction of a metric."""
    return not metric.startswith(LOWER_IS_BETTER)


def unit(metric: str) -> str:
    """Return ' (%)' for metrics in percent, to be put behind a heading."""
    return " (%)" if is_percent(metric) else ""


def metric_value(metric: str, value: float | None) -> str:
    """Write a metric's value in the unit of its heading."""
    return percent(value) if is_percent(metric) else number(value, 4)


def metric_interval(metric: str, ci: Interval | None) -> str:
    """Write a metric's interval in the unit of its heading."""
    return percent_interval(ci) if is_percent(metric) else interval(ci, 4)


def difference(metric: str, value: float | None, ci: Interval | None = None) -> str:
    """Write a difference with its sign, unit and interval: −0.07 points [−0.20, +0.05]."""
    if value is None:
        return NONE
    if is_percent(metric):
        return f"{percent(value, signed=True)} points {difference_interval(metric, ci)}".rstrip()
    return f"{number(value, 4, signed=True)} {difference_interval(metric, ci)}".rstrip()


def difference_interval(metric: str, ci: Interval | None) -> str:
    """Write the interval of a difference with signs."""
    return percent_interval(ci, signed=True) if is_percent(metric) else interval(ci, 4, signed=True)


def margin(metric: str, value: float) -> str:
    """Write the margin of a verdict in the metric's unit."""
    return f"{percent(value)} points" if is_percent(metric) else number(value, 4)
