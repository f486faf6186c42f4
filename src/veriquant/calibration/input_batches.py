"""Calibration images as the batches that a network takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from onnx import load_model_from_string

from veriquant.data.calibration import Calibration
from veriquant.frontends.images import image_batches
from veriquant.networks.network import Network


def input_batches(
    calibration: Calibration, network: Network, count: int, size: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the first `count` calibration images in batches of `size`, or of the network's own fixed size.

    A network of fixed batch size leaves out the images that do not fill its last batch.
    """
    fixed = fixed_batch(network.onnx)
    for batch in image_batches(calibration.samples[:count], network.spec, fixed or size):
        if fixed is None or len(batch) == fixed:
            yield batch


def fixed_batch(onnx: bytes) -> int | None:
    """Return the batch size that a model is bound to, or None where it takes any."""
    graph = load_model_from_string(onnx).graph
    constants = {entry.name for entry in graph.initializer}
    first = next(entry for entry in graph.input if entry.name not in constants)
    axis = first.type.tensor_type.shape.dim[0]
    return axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
