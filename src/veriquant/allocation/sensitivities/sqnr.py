"""`sqnr`: the signal to quantization noise ratio at the network's output, each group quantized alone."""

from __future__ import annotations

from veriquant.allocation.sensitivities.base import SENSITIVITIES, Sensitivity, SensitivityConfig, images_of
from veriquant.allocation.sensitivity import SensitivityList
from veriquant.allocation.solver import AllocationRequest


def _measure(request: AllocationRequest, config: SensitivityConfig) -> SensitivityList:
    return request.measure(request.model.quantizers, images_of(request, config), recovery=request.model.rounding_key)


SENSITIVITIES.add(
    "sqnr",
    Sensitivity(
        "sqnr",
        "signal to quantization noise ratio of the embeddings, each group quantized alone; no labels",
        "Pandey et al., equation 3",
        SensitivityConfig,
        _measure,
    ),
)
