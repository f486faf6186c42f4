"""Which operating points a number of comparisons can support (FORMATS.md, Metrics)."""

from __future__ import annotations

import math

from veriquant.metrics.protocol import rate_name
from veriquant.results import Support

NONE_BELOW = 3.0
"""Below 3/f impostor comparisons there is no figure at f: zero false matches would not even exclude an FMR of f
(the 'rule of three', ISO/IEC 19795-1)."""
WEAK_BELOW = 30.0
"""Below 30/f the figure is weak: about 30 errors make an estimate good to ±30 % (Doddington's 'rule of 30')."""


def operating_support(far: float, genuine: int, impostors: int) -> tuple[Support, str]:
    """Return the support of an operating point and the note that says why, '' where it is 'ok'."""
    if not genuine:
        return "none", "no genuine comparisons"
    name = rate_name(far)
    if impostors < NONE_BELOW / far * (1 - 1e-12):
        return "none", (
            f"{impostors} impostor comparisons cannot support FMR {name}: at least "
            f"{math.ceil(NONE_BELOW / far - 1e-6)} are needed"
        )
    if impostors < WEAK_BELOW / far * (1 - 1e-12):
        return "weak", (
            f"weak: {impostors} impostor comparisons, FMR {name} rests on {impostors * far:.3g} of them; "
            f"{math.ceil(WEAK_BELOW / far - 1e-6)} would be enough"
        )
    return "ok", ""


def both_support(genuine: int, impostors: int) -> tuple[Support, str]:
    """Return the support of a figure that needs only some comparisons of both kinds."""
    if genuine and impostors:
        return "ok", ""
    missing = " and ".join(n for n, c in (("genuine", genuine), ("impostor", impostors)) if not c)
    return "none", f"no {missing} comparisons"
