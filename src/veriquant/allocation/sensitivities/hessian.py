"""`hessian`: average Hessian traces times the squared error of the weights (Liu et al., section IV).

With the label-free loss this is the weights' part of FIT, because its Hessian is the Fisher information: what differs
is that the trace comes with a standard error and is drawn until that is small.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from veriquant.allocation.hessian import Trace, estimate, output_draws
from veriquant.allocation.sensitivities.base import (
    SENSITIVITIES,
    Sensitivity,
    SensitivityConfig,
    images_of,
    with_harm,
)
from veriquant.allocation.sensitivity import SensitivityList, all_candidates
from veriquant.allocation.solver import AllocationRequest
from veriquant.progress import track
from veriquant.simulation.precision import FLOAT_BITS, Precision
from veriquant.simulation.steps import QuantizationConfig

_PIECE = 4


class HessianConfig(SensitivityConfig):
    """How traces are estimated."""

    loss: Literal["teacher"] = "teacher"
    """The distance of the embeddings to full precision: no labels."""
    tolerance: float = Field(default=0.05, gt=0)
    """Draws stop when every layer's standard error is at most this share of its trace."""
    draws: int = Field(default=256, ge=2)
    """The most draws; each is one batch of 4 images."""
    seed: int = Field(default=0, ge=0)
    """Of the random signs."""


def hessian_traces(request: AllocationRequest, config: HessianConfig) -> dict[str, Trace]:
    """Return Tr(H) of every operation with weights, by name, for the mean over images of the label-free loss."""
    simulation = request.model.simulation
    images = images_of(request, config)
    parameters = {
        name: simulation.weighted(name).weight for group in simulation.groups.values() for name in group.weights
    }
    steps = simulation.steps

    def embed(piece: Tensor) -> Tensor:
        return steps.run(piece, QuantizationConfig())

    pieces = [images[first : first + _PIECE] for first in range(0, len(images), _PIECE)]
    draws = output_draws(embed, parameters, pieces, torch.Generator().manual_seed(config.seed))
    shown = track((next(draws) for _ in range(config.draws)), "Hessian traces", total=config.draws)
    with torch.enable_grad():
        return estimate(
            iter(shown), tolerance=config.tolerance, least=min(len(pieces), config.draws), most=config.draws
        )


def _measure(request: AllocationRequest, config: HessianConfig) -> SensitivityList:
    model = request.model
    found = request.measure(model.quantizers, images_of(request, config), recovery=model.rounding_key)
    traces = hessian_traces(request, config)
    harm: dict[str, dict[Precision, float]] = {}
    for name, widths in all_candidates(model.quantizers).items():
        operations = model.simulation.groups[name].weights
        harm[name] = {
            precision: sum(traces[each].value * _mean_error(request, each, precision) for each in operations)
            for precision in widths
        }
    relative = {name: trace.error / trace.value if trace.value else 0.0 for name, trace in traces.items()}
    return with_harm(
        found,
        harm,
        "hessian",
        traces={name: [trace.value, trace.error] for name, trace in traces.items()},
        draws=max((trace.draws for trace in traces.values()), default=0),
        largest_relative_error=max(relative.values(), default=0.0),
    )


def _mean_error(request: AllocationRequest, operation: str, precision: Precision) -> float:
    """Return ‖W − Q(W)‖²/n: the trace times it is the average trace times ‖W − Q(W)‖²."""
    if precision.weight_bits >= FLOAT_BITS:
        return 0.0
    quantizers = request.model.quantizers
    weight = request.model.simulation.weighted(operation).weight.detach()
    error = quantizers.weight(operation, precision.weight_bits).weight - weight
    return float(error.double().square().mean())


SENSITIVITIES.add(
    "hessian",
    Sensitivity(
        "hessian",
        "average Hessian traces (Hutchinson) times the squared error of the weights; no labels",
        "Liu et al., section IV; Dong et al. 2020, HAWQ-V2",
        HessianConfig,
        _measure,
        weights_only=True,
    ),
)
