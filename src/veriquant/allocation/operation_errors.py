"""Which operation is to blame: the error at the network's output when its quantizer groups alone are quantized.

The measurement is the project's one sensitivity list (`veriquant.allocation.sensitivity`), here at 8 bits on the
operations of a network rewritten for integer kernels, and told by operation: of the user's network, with the parts it
was rewritten into and with the ReLU or Clip that its kernel applies on the way out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from veriquant.allocation.solver import Measure
from veriquant.exports.operations import FUSED
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Graph
from veriquant.simulation import KernelTable, Precision, QuantizerCache, observe, simulate_graph
from veriquant.simulation.simulation import as_images

Images = npt.NDArray[np.float32]


def operation_errors(
    network: Network,
    graph: Graph,
    operations: Mapping[str, Sequence[NodeProto]],
    fit: Images,
    inputs: Images,
    *,
    ranges: str,
    measure: Measure,
    fused: Collection[str] = FUSED,
) -> dict[str, float]:
    """Return the noise-to-signal ratio at the output for each of `operations` quantized to 8 bits alone.

    `graph` is the network as it will be quantized. `fit`: images that set ranges by the rule `ranges`; `inputs`: those
    that the error is measured on. An operation that belongs to several quantizer groups counts as its worst one; one
    that belongs to none is left out.
    """
    table = KernelTable("integer kernels", "8-bit integers", (Precision(8, 8),), tuple(fused))
    simulation = simulate_graph(graph, network, table)
    fitted = QuantizerCache(simulation, observe(simulation, as_images(fit)), ranges=ranges)
    found = measure(fitted, as_images(inputs))
    noise = {entry.group: entry.noise for entry in found.entries}
    owner = {node.name: name for name, nodes in operations.items() for node in nodes}
    errors: dict[str, float] = {}
    for name, group in simulation.groups.items():
        for member in group.operations:
            if member in owner:
                errors[owner[member]] = max(errors.get(owner[member], 0.0), noise[name])
    return errors
