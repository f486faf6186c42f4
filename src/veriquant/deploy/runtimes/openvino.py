"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from veriquant.deploy.embedder import Batch, Embedder, Embeddings, filled
from veriquant.deploy.runtimes.runtime import RUNTIMES, Loaded, Runtime
from veriquant.errors import VeriQuantError


class OpenVinoEmbedder(Embedder):
    """A network compiled by OpenVINO's CPU plugin, in float32 where it is not quantized."""

    runtime = "openvino"

    def __init__(self, loaded: Loaded) -> None:
        core = _core()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": loaded.threads,
            "NUM_STREAMS": 1,
            # Left alone, the plugin computes in bfloat16 on processors that have it, and the embeddings change.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self._compiled = core.compile_model(core.read_model(loaded.onnx, b""), "CPU", settings)
        except Exception as error:  # the plugin raises plain RuntimeError for everything
            raise VeriQuantError(f"OpenVINO cannot load the network: {str(error).strip().splitlines()[-1]}") from error
        self._request = self._compiled.create_infer_request()
        shape = self._compiled.input(0).get_partial_shape()
        self.max_batch = shape[0].get_length() if shape[0].is_static else None
        self.spec = loaded.spec
        self.threads = loaded.threads
        self.dim = int(self._compiled.output(0).get_partial_shape()[-1].get_length())

    def __call__(self, batch: Batch) -> Embeddings:
        """Return the embeddings of `batch`, float32 (n, dim)."""
        count = len(batch)
        batch = filled(batch, self.max_batch)
        self._request.infer([batch], share_inputs=True)
        output = self._request.get_output_tensor(0).data
        embeddings: Embeddings = np.array(output[:count], dtype=np.float32)
        return embeddings


@cache
def _core() -> Any:
    """Return the one core of this process.

    Every core's CPU plugin gives the thread a stack for signal handlers and, when it goes, puts back the one that was
    there. Of two cores that go in the order in which they came, the second puts back the stack of the first, which is
    gone: the next signal with a handler, Ctrl-C or the end of a child, is a segmentation fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _missing(loaded: Loaded) -> str:
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed; install it with: pip install 'veriquant[openvino]'"
    return ""


RUNTIMES.add("openvino", Runtime("openvino", "OpenVINO, CPU plugin", OpenVinoEmbedder, _missing))
