"""Biometric metrics: pure functions on arrays, under one convention.

The convention, stated once
---------------------------
* Scores are **similarities** (cosines in [-1, 1], float32); a comparison is accepted if ``score >= threshold``.
* FMR (false match rate, here also FAR) is the share of impostor comparisons accepted, FNMR the share of genuine
  comparisons rejected, TAR = 1 − FNMR (ISO/IEC 19795-1). All are fractions, never percent.
* **Ties are safe**: equal scores are accepted or rejected together, so no figure depends on the order of the trials.
* ``fnmr@fmr=f`` and ``tar@far=f`` hold at the lowest threshold whose FMR is *at most* f: just above the
  (K+1)-th highest impostor score, K being the largest count with K/impostors <= f; so it exists for every f.
* ``eer`` is where the ROC polyline through all operating points (straight across a tie) meets FMR = FNMR; its threshold
  is the lowest genuine score at which FNMR >= FMR. ``auc`` is the area under that polyline: the probability that a
  genuine score exceeds an impostor one, ties counting half (Mann-Whitney).
* ``mindcf`` is min over thresholds of C_miss·P·FNMR + C_fa·(1−P)·FMR, divided by min(C_miss·P, C_fa·(1−P)).
* ``accuracy``: see `veriquant.metrics.folds`. ``rank-k``: see `veriquant.metrics.identification`.
* An operating point f with fewer than 3/f impostor comparisons has no value, below 30/f it is marked weak
  (`veriquant.metrics.support`).
* 95 % intervals resample **people**, not comparisons (`veriquant.metrics.resampling`); differences resample the same
  people for both networks.
"""

from veriquant.metrics.compatibility import compatibility
from veriquant.metrics.difference import differences
from veriquant.metrics.fold_summary import FoldFigure, fold_summary
from veriquant.metrics.identification import Identification, identify
from veriquant.metrics.protocol import Options, Protocol, Verification
from veriquant.metrics.verification import verify

__all__ = [
    "FoldFigure",
    "Identification",
    "Options",
    "Protocol",
    "Verification",
    "compatibility",
    "differences",
    "fold_summary",
    "identify",
    "verify",
]
