"""A rewritten network must be the network that it was: checked on random images before anything is built on it."""

from __future__ import annotations

import numpy as np

from veriquant.deploy.sessions import embeddings_of
from veriquant.errors import VeriQuantError
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Array, Graph

#: How far the rewritten network's embeddings may lie from the original's, relative to their length; and where the
#: original computes with 8 or 11 bits of precision, which the rewritten one does not.
_TOLERANCE, _TOLERANCE_OF_HALVES = 1e-4, 3e-2


def precision_notes(graph: Graph) -> list[str]:
    """Return a note on the floating-point types of the file that the graph does not compute in, none where it does."""
    return [f"{' and '.join(graph.widened)} of the file computed in float32"] if graph.widened else []


def check_equal(network: Network, graph: Graph) -> None:
    """Raise `VeriQuantError` unless `graph` gives the network's own embeddings of random images."""
    pixels = np.random.default_rng(0).integers(0, 256, network.spec.batch_shape(2)).astype(np.float32)
    inputs = ((pixels - 127.5) / 127.5).astype(np.float32) if max(network.spec.std) > 1 else pixels
    before = embeddings_of(network.onnx, inputs)
    after = embeddings_of(graph.to_bytes(), inputs)
    distance = _distance(before, after)
    tolerance = _TOLERANCE if set(graph.widened) <= {"float64"} else _TOLERANCE_OF_HALVES
    if not distance <= tolerance:
        raise VeriQuantError(
            f"{network.source}: rewriting changed the embeddings by {distance:.1e} of their length, more than "
            f"{tolerance:.0e}; quantize it with int8-static, which does not rewrite, and please report this network"
        )


def _distance(before: Array, after: Array) -> float:
    """Return the greatest difference between embeddings, (n, d) each, relative to their length.

    An embedding of zeros has no length: its difference is relative to the longest of the others. Where one holds NaN or
    infinity, so must the rewritten one; else the difference is infinite.
    """
    finite = np.isfinite(before).all(axis=1)
    if not np.array_equal(finite, np.isfinite(after).all(axis=1)):
        return np.inf
    wide = before[finite].astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    lengths = np.where(lengths > 0, lengths, lengths.max(initial=0.0) or 1.0)
    return float((np.linalg.norm(wide - after[finite], axis=1) / lengths).max(initial=0.0))
