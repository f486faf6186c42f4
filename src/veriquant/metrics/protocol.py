"""What the metrics need of a benchmark, what may be set, and what a verification answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError
from veriquant.results import Curve, Metric, ScoreSummary

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Protocol:
    """Comparisons between n samples, as index arrays.

    `persons`: int64 (n,). `left` (enrolled), `right` (probe): int64 (m,), indices into the samples. `genuine`: bool
    (m,). `folds`: int64 (m,) from 0, or None. With `all_pairs` every sample meets every other and `left`, `right`,
    `genuine` are empty. With `search` every sample is also searched among all others, each left out of its own search
    (implied by `all_pairs`). Raises VeriQuantError where the arrays do not fit each other.
    """

    persons: Ints
    left: Ints
    right: Ints
    genuine: Bools
    folds: Ints | None = None
    all_pairs: bool = False
    search: bool = False

    def __post_init__(self) -> None:
        """Check the shapes and the range of the indices."""
        count = len(self.left)
        if len(self.right) != count or len(self.genuine) != count:
            raise VeriQuantError(
                f"protocol: left, right and genuine must be of one length, found {count}, {len(self.right)} and "
                f"{len(self.genuine)}"
            )
        if self.folds is not None and len(self.folds) != count:
            raise VeriQuantError(f"protocol: {count} comparisons but {len(self.folds)} fold numbers")
        if self.all_pairs:
            if count:
                raise VeriQuantError(f"protocol: all_pairs implies its comparisons, found {count} listed")
            return
        if not count:
            raise VeriQuantError("protocol: no comparisons; list some, or set all_pairs")
        samples = len(self.persons)
        for name, side in (("left", self.left), ("right", self.right)):
            if int(side.min()) < 0 or int(side.max()) >= samples:
                raise VeriQuantError(
                    f"protocol: {name} must index the {samples} samples, found {side.min()}…{side.max()}"
                )


@dataclass(frozen=True)
class Options:
    """What may be set.

    `far`: operating points in (0, 1). `resamples`: resamples of people, 0 for none. `seed`: of the resampling. `ranks`:
    which rank-k, in protocols that search. `p_target`, `c_miss`, `c_fa`: of minDCF. `histogram_bins`: equal-width
    bins over [-1, 1] in the score summaries. Raises VeriQuantError for a setting out of its range.
    """

    far: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    resamples: int = 1000
    seed: int = 0
    ranks: tuple[int, ...] = (1, 5)
    p_target: float = 0.01
    c_miss: float = 1.0
    c_fa: float = 1.0
    histogram_bins: int = 100

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not all(0 < f < 1 for f in self.far):
            raise VeriQuantError(f"far: every operating point must lie between 0 and 1, found {list(self.far)}")
        if self.resamples < 0:
            raise VeriQuantError(f"resamples: must be 0 or more, found {self.resamples}")
        if not all(k >= 1 for k in self.ranks):
            raise VeriQuantError(f"ranks: every rank must be 1 or more, found {list(self.ranks)}")
        if not (0 < self.p_target < 1 and self.c_miss > 0 and self.c_fa > 0):
            raise VeriQuantError(
                f"minDCF: p_target must lie between 0 and 1 and costs be positive, found p_target={self.p_target}, "
                f"c_miss={self.c_miss}, c_fa={self.c_fa}"
            )
        if self.histogram_bins < 0:
            raise VeriQuantError(f"histogram_bins: must be 0 or more, found {self.histogram_bins}")


@dataclass(frozen=True)
class Verification:
    """The figures by name, the two score distributions and the thinned error trade-off curve."""

    metrics: dict[str, Metric]
    genuine: ScoreSummary
    impostor: ScoreSummary
    curve: Curve


def rate_name(rate: float) -> str:
    """Return the operating point as names write it: 0.001 -> '1e-3', 0.0005 -> '5e-4', 0.025 -> '2.5e-2'."""
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
