"""FIT: sensitivity from Fisher information, an estimate from gradients in place of a measurement.

FIT = Σ over weights of Tr(Î)·E[δ²] + Σ over activations of Tr(Î)·E[δ²], with δ a tensor's quantization noise and Î
its Fisher information (Zandonati et al. 2022, 'FIT: A Metric for Model Sensitivity'; a rival of SQNR in Pandey et al.,
section 4.2.2). There Î comes from the gradients of a task loss on labelled images. Embeddings have no such loss, so
here the network's output counts as the mean of a Gaussian of unit variance around it: Î is then JᵀJ, with J the
derivative of the normalised embedding, and Tr(Î) is estimated without labels by random projections of the output
(Hutchinson). FIT is then a prediction of the noise-to-signal ratio that `sensitivity` measures.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from veriquant.allocation.responses import Candidates
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
from veriquant.simulation.quantizer_cache import QuantizerCache
from veriquant.simulation.simulation import as_images
from veriquant.simulation.steps import QuantizationConfig

_PIECE = 4


def fit_noise(
    fitted: QuantizerCache, images: Tensor, candidates: Candidates, *, seed: int = 0
) -> dict[str, dict[Precision, float]]:
    """Return FIT for every group and candidate: the noise-to-signal ratio that it predicts.

    `images`: standardised, float32, (n, …). One backward pass over them, with one random projection of each output.
    """
    groups = {name: fitted.simulation.groups[name] for name in candidates}
    tensors = {tensor for group in groups.values() for tensor in group.activations}
    weights = {operation for group in groups.values() for operation in group.weights}
    wanted = {
        (tensor, p.activation_bits)
        for name, group in groups.items()
        for tensor in group.activations
        for p in candidates[name]
        if p.activation_bits < FLOAT_BITS
    }
    traces, noises = _activations(fitted, as_images(images), tensors, weights, wanted, seed)
    found: dict[str, dict[Precision, float]] = {}
    for name, group in groups.items():
        found[name] = {}
        for precision in candidates[name]:
            total = 0.0
            if precision.activation_bits < FLOAT_BITS:
                total += sum(traces[t] * noises[t, precision.activation_bits] for t in group.activations)
            if precision.weight_bits < FLOAT_BITS:
                total += sum(
                    traces[operation] * _weight_noise(fitted, operation, precision.weight_bits)
                    for operation in group.weights
                )
            found[name][precision] = total
    return found


def _weight_noise(fitted: QuantizerCache, operation: str, bits: int) -> float:
    error = fitted.weight(operation, bits).weight - fitted.simulation.weighted(operation).weight.detach()
    return float(error.square().mean())


def _activations(
    fitted: QuantizerCache,
    images: Tensor,
    tensors: set[str],
    weights: set[str],
    wanted: set[tuple[str, int]],
    seed: int,
) -> tuple[Mapping[str, float], Mapping[tuple[str, int], float]]:
    """Return the Fisher trace of every tensor and weight, and the mean squared noise of every tensor and width."""
    steps = fitted.simulation.steps
    numbers = {steps.names[name]: name for name in tensors}
    draw = torch.Generator().manual_seed(seed)
    traces = dict.fromkeys([*tensors, *weights], 0.0)
    noises = dict.fromkeys(wanted, 0.0)
    order = steps.program(0).order
    parameters = {operation: fitted.simulation.weighted(operation).weight for operation in weights}
    pieces = range(0, len(images), _PIECE)
    for first in track(pieces, "Fisher information", total=len(pieces)):
        piece = images[first : first + _PIECE]
        env = steps.start(piece.clone().requires_grad_())
        kept: dict[str, Tensor] = {}
        for index in order:
            steps.advance(index, env, [QuantizationConfig()])
            if index in numbers:
                kept[numbers[index]] = env[index]
        output = torch.nn.functional.normalize(env[steps.output].flatten(1))
        projection = torch.randn(output.shape, generator=draw)
        names = [*kept, *parameters]
        gradients = torch.autograd.grad((output * projection).sum(), [*kept.values(), *parameters.values()])
        for name, gradient in zip(names, gradients, strict=True):
            traces[name] += float(gradient.double().square().sum()) / len(images)
        with torch.no_grad():
            for tensor, bits in wanted:
                values = kept[tensor].detach()
                error = fitted.activation(tensor, bits)(values) - values
                noises[tensor, bits] += float(error.double().square().mean()) * len(piece) / len(images)
    return traces, noises


class FitConfig(SensitivityConfig):
    """How FIT is estimated."""

    seed: int = Field(default=0, ge=0)
    """Of the random projections."""


def _measure(request: AllocationRequest, config: FitConfig) -> SensitivityList:
    model, images = request.model, images_of(request, config)
    found = request.measure(model.quantizers, images, recovery=model.rounding_key)
    harm = fit_noise(model.quantizers, images, all_candidates(model.quantizers), seed=config.seed)
    return with_harm(found, harm, "fit")


SENSITIVITIES.add(
    "fit",
    Sensitivity(
        "fit",
        "Fisher information times quantization noise: an estimate from one backward pass; no labels",
        "Zandonati et al. 2022; Pandey et al., section 4.2.2",
        FitConfig,
        _measure,
    ),
)
