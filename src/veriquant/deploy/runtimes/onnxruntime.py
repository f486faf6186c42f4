"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from veriquant.deploy.embedder import Batch, Embedder, Embeddings, nothing
from veriquant.deploy.runtimes.runtime import RUNTIMES, Loaded, Runtime
from veriquant.errors import VeriQuantError


class OnnxRuntimeEmbedder(Embedder):
    """A session of ONNX Runtime's CPU provider; a fixed batch axis is met by padding."""

    runtime = "onnxruntime"

    def __init__(self, loaded: Loaded) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = loaded.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(loaded.onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen types of its own, all of them meaning this
            raise VeriQuantError(f"ONNX Runtime cannot load the network: {_first_line(error)}") from error
        entry = self._session.get_inputs()[0]
        self._input = entry.name
        fixed = entry.shape[0]
        self.max_batch = fixed if isinstance(fixed, int) else None
        self.spec = loaded.spec
        self.threads = loaded.threads
        stated = (self._session.get_outputs()[0].shape or [None])[-1]
        self.dim = stated if isinstance(stated, int) else self._embed(nothing(self)).shape[-1]

    def _embed(self, batch: Batch) -> Embeddings:
        try:
            output = self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # as above
            raise VeriQuantError(
                f"ONNX Runtime failed on a batch of shape {batch.shape}: {_first_line(error)}"
            ) from error
        embeddings: Embeddings = np.asarray(output, dtype=np.float32)
        return embeddings


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


RUNTIMES.add(
    "onnxruntime",
    Runtime("onnxruntime", "ONNX Runtime, CPU provider", OnnxRuntimeEmbedder, lambda loaded: ""),
)
