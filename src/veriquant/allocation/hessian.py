"""Traces of the loss's Hessian, layer by layer, by Hutchinson's estimator, with their standard errors.

Liu et al., section IV (after Dong et al. 2020, 'HAWQ-V2'): a layer's harm is the average trace of its block of the
Hessian, Tr(H)/n over its n weights, times ‖W − Q(W)‖². Two losses:

- label-free: the distance 1 − cos of the embeddings to those of the full-precision network. At full precision its
  gradient is zero, so that its Hessian is exactly JᵀJ with J the derivative of the unit-length embedding, and
  Tr(JᵀJ) = E‖Jᵀu‖² for random signs u on the output: one backward pass gives an estimate for every layer at once.
- any other, such as a margin head's on known people: vᵀHv for random signs v on the weights, by two backward passes.

Both are means of independent draws, from which the standard error follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """A trace of a layer's block of the Hessian: its mean over draws, and the standard error of that mean."""

    value: float
    error: float
    draws: int


class Running:
    """Mean and standard error of figures by name, draw by draw (Welford 1962)."""

    def __init__(self) -> None:
        self.draws = 0
        self._mean: dict[str, float] = {}
        self._squares: dict[str, float] = {}

    def add(self, figures: Mapping[str, float]) -> None:
        """Take one draw of every figure."""
        self.draws += 1
        for name, figure in figures.items():
            mean = self._mean.get(name, 0.0)
            moved = mean + (figure - mean) / self.draws
            self._squares[name] = self._squares.get(name, 0.0) + (figure - mean) * (figure - moved)
            self._mean[name] = moved

    def traces(self) -> dict[str, Trace]:
        """Return what is known; the error is infinite after one draw."""
        count = self.draws
        return {
            name: Trace(mean, math.sqrt(self._squares[name] / (count - 1) / count) if count > 1 else math.inf, count)
            for name, mean in self._mean.items()
        }

    def settled(self, tolerance: float) -> bool:
        """Tell whether every standard error is at most `tolerance` of its trace; a trace of zero is."""
        return self.draws > 1 and all(trace.error <= tolerance * abs(trace.value) for trace in self.traces().values())


def output_draws(
    embed: Callable[[Tensor], Tensor],
    parameters: Mapping[str, Tensor],
    pieces: list[Tensor],
    generator: torch.Generator,
) -> Iterator[dict[str, float]]:
    """Yield draws of Tr(JᵀJ) a mean over images, by layer: the Hessian of the label-free loss.

    `embed(images)` returns embeddings (n, dim), differentiable in `parameters`; `pieces`: batches of images, each of
    which gives one draw. Signs are drawn for every image, so that images of a batch do not mix in the mean.
    """
    while True:
        for piece in pieces:
            output = torch.nn.functional.normalize(embed(piece).flatten(1))
            signs = torch.randint(0, 2, output.shape, generator=generator, dtype=output.dtype) * 2 - 1
            gradients = torch.autograd.grad((output * signs).sum(), list(parameters.values()), allow_unused=True)
            yield {
                name: 0.0 if each is None else float(each.double().square().sum()) / len(piece)
                for name, each in zip(parameters, gradients, strict=True)
            }


def weight_draws(
    losses: Iterator[Tensor], parameters: Mapping[str, Tensor], generator: torch.Generator
) -> Iterator[dict[str, float]]:
    """Yield draws of vᵀHv by layer for random signs v on the weights: the Hessian of any loss.

    `losses`: scalars, differentiable twice in `parameters`, each of a batch of its own. A layer's block is that of the
    whole product with v: what other layers' signs add has mean zero.
    """
    values = list(parameters.values())
    for loss in losses:
        gradients = torch.autograd.grad(loss, values, create_graph=True)
        signs = [torch.randint(0, 2, each.shape, generator=generator, dtype=each.dtype) * 2 - 1 for each in values]
        product = sum((gradient * sign).sum() for gradient, sign in zip(gradients, signs, strict=True))
        assert isinstance(product, Tensor)
        found = torch.autograd.grad(product, values, allow_unused=True)
        yield {
            name: 0.0 if each is None else float((each * sign).double().sum())
            for name, each, sign in zip(parameters, found, signs, strict=True)
        }


def estimate(draws: Iterator[dict[str, float]], *, tolerance: float, least: int, most: int) -> dict[str, Trace]:
    """Return traces by layer: draws are taken until every standard error is within `tolerance` of its trace.

    At least `least` and at most `most` draws are taken.
    """
    running = Running()
    while running.draws < most:
        running.add(next(draws))
        if running.draws >= least and running.settled(tolerance):
            break
    return running.traces()
