"""`task`: the equal error rate on images of the benchmark, each group quantized alone."""

from __future__ import annotations

import torch

from veriquant.allocation.sensitivities.base import SENSITIVITIES, Sensitivity, SensitivityConfig
from veriquant.allocation.sensitivity import SensitivityList
from veriquant.allocation.solver import AllocationRequest
from veriquant.errors import VeriQuantError
from veriquant.simulation.simulation import as_images


def _measure(request: AllocationRequest, config: SensitivityConfig) -> SensitivityList:
    model, judge = request.model, request.context.judge
    if judge is None:
        raise VeriQuantError("sensitivity 'task' needs images with labels: name a benchmark (--benchmark)")
    sampled = judge.sample(model.network.spec, config.images)
    images = torch.from_numpy(sampled.images)
    found = request.measure(
        model.quantizers, images, score=sampled.score, metric=sampled.metric, recovery=model.rounding_key
    )
    full = sampled.score(model.simulation.embed(as_images(sampled.images)))
    # What is lost adds up; what a group seems to gain on so few images is chance.
    entries = [
        entry.model_copy(update={"harm": max(full - entry.score, 0.0)})
        for entry in found.entries
        if entry.score is not None
    ]
    return found.model_copy(update={"entries": entries})


SENSITIVITIES.add(
    "task",
    Sensitivity(
        "task",
        "loss of the equal error rate on images of the benchmark, each group quantized alone; a rival of SQNR",
        "Pandey et al., section 4.2.2",
        SensitivityConfig,
        _measure,
        judged=True,
    ),
)
