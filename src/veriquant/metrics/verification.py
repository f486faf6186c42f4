"""`verify`: all figures of one network on one protocol."""

from __future__ import annotations

from veriquant.metrics.curve import thinned
from veriquant.metrics.measure import measure
from veriquant.metrics.protocol import Options, Protocol, Singles, Verification


def verify(
    protocol: Protocol, embeddings: Singles, options: Options | None = None, *, probes: Singles | None = None
) -> Verification:
    """Measure embeddings on a protocol.

    `embeddings`: float32 (n, d), not normalised, one row per sample; `probes`: those of another network, which then
    give the right side of every comparison (enrolled with one network, probed with the other). The figures are those
    named in `veriquant.metrics`: accuracy only with folds, rank-k only with `all_pairs` or `search`. Raises
    VeriQuantError for embeddings that do not fit the protocol, or naming one that is zero, NaN or infinite.
    """
    measured = measure(protocol, embeddings, probes, options or Options())
    metrics = {name: measured.metric(estimate) for name, estimate in measured.estimates.items()}
    return Verification(metrics, measured.genuine, measured.impostor, thinned(measured.trials))
