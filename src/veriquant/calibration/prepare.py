"""What every method does to a network before it quantizes: constants, batch norms, equalised channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veriquant.calibration.equality import check_equal, precision_notes
from veriquant.calibration.input_batches import input_batches
from veriquant.data.calibration import Calibration
from veriquant.errors import VeriQuantError
from veriquant.networks.network import Network
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.quantized import refuse_quantized
from veriquant.onnxgraph.rewrites import fold_batchnorm, fold_constants, merge_clips, rewrite_prelu
from veriquant.progress import working

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class GraphStep:
    """A recovery that rewrites the float graph in place without changing its function, before it is simulated.

    `apply(graph, images)` returns how many tensors it changed; `what` says of which kind they are.
    """

    name: str
    variant: str
    what: str
    apply: Callable[[Graph, Images], int]


@dataclass(frozen=True)
class Prepared:
    """A network as it will be quantized: the same function in other operators, and what was done, in plain words."""

    graph: Graph
    notes: list[str]


def prepare(network: Network, fit: Images, *, steps: Sequence[GraphStep] = (), prelu: bool = False) -> Prepared:
    """Fold, merge and apply `steps`; the result is checked to be the same function.

    `fit`: calibration images, standardised. `prelu`: rewrite every PReLU as a convolution and an addition, for runtimes
    that have integer kernels for these alone.
    """
    refuse_quantized(network.onnx, network.source)
    graph = Graph.from_bytes(network.onnx)
    fold_constants(graph)
    counts = {"batch normalisations folded": fold_batchnorm(graph), "pairs of Clips merged": merge_clips(graph)}
    for step in steps:
        with working(step.name):
            counts[step.what] = step.apply(graph, fit)
    if prelu:
        counts["PReLUs rewritten as convolution and addition"] = rewrite_prelu(graph)
    check_equal(network, graph)
    done = [f"{count} {what}" for what, count in counts.items() if count]
    return Prepared(graph, [*precision_notes(graph), *done])


def fit_and_check(calibration: Calibration, network: Network, fit: int, check: int) -> tuple[Images, Images]:
    """Return standardised images to set ranges by and others to check the result on, in the proportion asked for.

    Raises `VeriQuantError` where there are fewer than two: one for each.
    """
    images = np.concatenate(list(input_batches(calibration, network, fit + check, 8)))
    if len(images) < 2:
        raise VeriQuantError(
            f"{calibration.source} gives {len(images)} calibration image{calibration.without}; at least 2 are "
            "needed: one to set ranges, one to check the result"
        )
    fitted = min(fit, max(1, min(len(images) - 1, round(len(images) * fit / (fit + check)))))
    return images[:fitted], images[fitted:]
