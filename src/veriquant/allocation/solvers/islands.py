"""`islands`: everything in 8-bit integers, and the fewest of the most harmful operations in floating point.

If the embeddings of the file in its runtime are not faithful enough, each operation is quantized alone
(`operation_errors`), and the fewest of the worst are left in floating point that reach the cosine asked for: candidates
are W8A8 and floating point, and what is spent is the share of operations in floating point.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from veriquant.allocation.operation_errors import operation_errors
from veriquant.allocation.solver import SOLVERS, Measure, Solver
from veriquant.config import Config
from veriquant.exports.runtime_kernels import Built, RuntimeNetwork, build
from veriquant.results import StageRecord


class IslandsConfig(Config):
    """How faithful the file must be, and how much may stay in floating point."""

    target_cosine: float = Field(default=0.997, gt=0, lt=1)
    """Mean cosine to the full-precision embeddings, measured in the runtime on images that set no range."""
    most_in_float: float = Field(default=0.3, ge=0, le=1)
    """At most this share of the operations."""


def keep_in_float(
    work: RuntimeNetwork, built: Built, config: IslandsConfig, measure: Measure
) -> tuple[Built, dict[str, float]]:
    """Return the file that is faithful enough, or the best found, and the noise of each operation quantized alone."""
    if built.cosine >= config.target_cosine:
        return built, {}
    computing = {
        name: nodes for name, nodes in work.operations.items() if not work.edges.issuperset(node.name for node in nodes)
    }
    errors = operation_errors(
        work.network,
        work.graph,
        computing,
        work.fit,
        work.check,
        ranges=work.rule,
        measure=measure,
        fused=work.layout.fused,
    )
    return _fewest(work, built, errors, config), errors


def _fewest(work: RuntimeNetwork, built: Built, errors: Mapping[str, float], config: IslandsConfig) -> Built:
    """Leave the fewest of the worst operations in floating point that reach the target: by doubling, then by halves."""
    worst = sorted(errors, key=lambda name: -errors[name])
    limit = int(len(worst) * config.most_in_float)
    best, failing = built, 0
    passing: Built | None = None
    while passing is None and failing < limit:
        tried = build(work, built.kernels, worst[: min(2 * failing + 2, limit)])
        if tried.cosine >= config.target_cosine:
            passing = tried
        else:
            failing = len(tried.kept)
            best = max(best, tried, key=lambda one: one.cosine)
    if passing is None:
        work.records.append(
            StageRecord(
                stage="allocate",
                name="islands",
                template="the target cosine of {target} was not reached with {limit} of {operations} operations in "
                "floating point: {cosine:.4f} is the best found",
                figures={
                    "target": config.target_cosine,
                    "limit": limit,
                    "operations": len(worst),
                    "cosine": best.cosine,
                },
            )
        )
        return best
    while len(passing.kept) - failing > 1:
        tried = build(work, built.kernels, worst[: (failing + len(passing.kept)) // 2])
        if tried.cosine >= config.target_cosine:
            passing = tried
        else:
            failing = len(tried.kept)
    return passing


def why_kept(name: str, errors: Mapping[str, float]) -> str:
    """Say why an operation was left in floating point."""
    rank = sorted(errors, key=lambda other: -errors[other]).index(name) + 1
    return f"quantized alone it costs a noise-to-signal ratio of {errors[name]:.1e}, the {_ordinal(rank)} most harmful"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


SOLVERS.add(
    "islands",
    Solver(
        "islands",
        "8-bit integers, and the fewest of the most harmful operations in floating point; measured in the runtime",
        "",
        IslandsConfig,
        None,
        chooses_weights=False,
        chooses_activations=False,
    ),
)
