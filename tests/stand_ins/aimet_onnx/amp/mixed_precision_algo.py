from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aimet_onnx.common.defs import CallbackFunc
from aimet_onnx.quantsim import QuantizationSimModel

Score = Callable[[QuantizationSimModel], float]


class EvalCallbackFactory:
    def __init__(self, loader: Any, forward: Callable[..., np.ndarray]) -> None:
        self.loader, self.forward = loader, forward

    def sqnr(self, sim: QuantizationSimModel, num_samples: int) -> Score:
        assert num_samples <= len(self.loader) * self.loader.batch_size
        return lambda model: float(np.mean([self.forward(model.session, batch).std() for batch in self.loader]))


class GreedyMixedPrecisionAlgo:
    def __init__(
        self,
        sim: QuantizationSimModel,
        candidates: list[Any],
        phase1: Score,
        phase2: Score,
        results: str,
        clean_start: bool,
        calibrate: CallbackFunc,
        *,
        use_all_amp_candidates: bool,
    ) -> None:
        self.sim, self.candidates, self.score, self.calibrate = sim, candidates, phase1, calibrate
        self.quantizer_groups = ["the only one"]

    def set_baseline(self) -> None:
        self.baseline_candidate = self.candidates[0]

    def _create_and_save_accuracy_list(self, baseline: Any) -> list[Any]:
        entries = []
        for candidate in self.candidates:
            if candidate != baseline:
                self.calibrate.func(self.sim.session)
                entries.append((self.quantizer_groups[0], candidate, self.score(self.sim), None))
        return entries
