"""ONNX Runtime without an `Embedder` around it: the embeddings of any model, and the tensors inside one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from veriquant.onnxgraph.graph import Array, Graph

#: Images at a time: all activations of a large network stay within a few hundred megabytes.
CHUNK = 8


def open_session(model: bytes, *, optimised: bool = True, integers: bool = True) -> ort.InferenceSession:
    """Open a model in ONNX Runtime's CPU provider, on all cores.

    `optimised`: with graph optimisations, as it is deployed. `integers`: whether the optimiser may turn layers between
    quantizers into integer ones; without, quantizers round and everything between them is computed in floating point.
    """
    options = ort.SessionOptions()
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def embeddings_of(
    model: bytes, inputs: npt.NDArray[np.float32], *, optimised: bool = True, integers: bool = True
) -> Array:
    """Return a model's embeddings of `inputs`, float32 (n, d); a fixed batch axis of 1 is met image by image."""
    session = open_session(model, optimised=optimised, integers=integers)
    entry = session.get_inputs()[0]
    chunk = entry.shape[0] if isinstance(entry.shape[0], int) else 4 * CHUNK
    parts = [session.run(None, {entry.name: inputs[i : i + chunk]})[0] for i in range(0, len(inputs), chunk)]
    return np.concatenate(parts)


def watch(
    graph: Graph, tensors: Sequence[str], inputs: npt.NDArray[np.float32]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """Yield the values of `tensors` for one chunk of images after another."""
    session = open_session(graph.to_bytes(extra_outputs=tensors))
    entry = session.get_inputs()[0]
    chunk = entry.shape[0] if isinstance(entry.shape[0], int) else CHUNK
    for start in range(0, len(inputs), chunk):
        values = session.run(list(tensors), {entry.name: inputs[start : start + chunk]})
        yield dict(zip(tensors, values, strict=True))
