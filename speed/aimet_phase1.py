"""Phase 1 of AIMET's automatic mixed precision (aimet-onnx, BSD-3-Clause) on a network and samples given as files.

Run by `sensitivity.py` under an interpreter that has aimet-onnx, which brings its own PyTorch and is no dependency of
VeriQuant: ``aimet_phase1.py NETWORK.onnx SAMPLES.npy THREADS OUT.json``. Writes its seconds, and the list.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as the package does, which this interpreter need not have

import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx.amp.mixed_precision_algo import EvalCallbackFactory, GreedyMixedPrecisionAlgo
from aimet_onnx.common.defs import CallbackFunc, QuantizationDataType
from aimet_onnx.quantsim import QuantizationSimModel

BATCH = 8


def main(network: str, samples: str, threads: int, out: str) -> None:
    """Measure W8A8 and W4A8 of every quantizer group below W8A16, ranges by min-max, as phase 1 does by default."""
    pixels = np.load(samples)
    model = onnx.load(network)
    name = model.graph.input[0].name
    integer = QuantizationDataType.int
    candidates = [((16, integer), (8, integer)), ((8, integer), (8, integer)), ((8, integer), (4, integer))]
    sim = QuantizationSimModel(
        model,
        param_type="int8",
        activation_type="int16",
        quant_scheme="min_max",
        session_options_kwargs={"intra_op_num_threads": threads},
    )
    batches = [pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH)]

    class Loader:
        batch_size = BATCH

        def __len__(self) -> int:
            return len(batches)

        def __iter__(self) -> Iterator[np.ndarray]:
            return iter(batches)

    def forward(session: ort.InferenceSession, batch: np.ndarray) -> np.ndarray:
        output: np.ndarray = session.run(None, {name: batch})[0]
        return output

    def calibrate(session: ort.InferenceSession, _: object = None) -> None:
        for batch in batches:
            forward(session, batch)

    score = EvalCallbackFactory(Loader(), forward).sqnr(sim, num_samples=len(pixels))
    with tempfile.TemporaryDirectory() as folder:
        algorithm = GreedyMixedPrecisionAlgo(
            sim, candidates, score, score, folder, True, CallbackFunc(calibrate), use_all_amp_candidates=True
        )
        algorithm.set_baseline()
        start = time.perf_counter()
        found = algorithm._create_and_save_accuracy_list(algorithm.baseline_candidate)
        seconds = time.perf_counter() - start
    with open(out, "w", encoding="utf-8") as file:
        json.dump(
            {
                "seconds": seconds,
                "groups": len(algorithm.quantizer_groups),
                "entries": [[str(entry[0]), str(entry[1]), float(entry[2])] for entry in found],
            },
            file,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
