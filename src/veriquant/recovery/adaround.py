"""AdaRound: learn for every weight whether it is rounded up or down.

Nagel et al. 2020, 'Up or Down? Adaptive Rounding for Post-Training Quantization'; used in Pandey et al., section 3.5.
Layer by layer, from full-precision inputs, so that rounded layers of any widths can be stitched together. The error
at a layer's output is a quadratic form in the Gram matrix of its inputs (`moments`), so nothing but that matrix is
needed: a step of the optimisation is one product of matrices, with the gradient of the whole calibration set.

Lengths are in steps of the quantizer and the Gram matrix is divided by the mean of its diagonal, which makes one
learning rate and one strength of regularisation right for every layer and width.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from veriquant.recovery.descent import descend, output_error
from veriquant.recovery.moments import InputMoments
from veriquant.schemes import AffineQuantizer, Quantizer
from veriquant.schemes.straight_through import along
from veriquant.simulation.pool import one_thread_each

#: The rectified sigmoid is stretched to (γ, ζ) and clipped to [0, 1] (equation 23).
_GAMMA, _ZETA = -0.1, 1.1
#: β of the regulariser 1 − |2h − 1|^β, at first and in the end.
_BETA = (20.0, 2.0)
#: Share of the iterations before the regulariser acts.
_WARM = 0.2
#: A Gram matrix from few samples is drawn towards its diagonal, by the share inputs/(inputs + 3·samples). The 3 gave
#: the least error on unseen images, for the layers of a face network that see one input an image.
_TRUST = 3
#: Weights that one thread learns at a time: as many as stay in a processor's caches.
_LEARNT = 2**15
#: Weights that one thread descends at a time: many, because it goes column by column.
_DESCENDED = 2**18

_Place = tuple[slice, slice]


@dataclass(frozen=True)
class AdaRound:
    """Rounds the weights of operations whose input moments are known.

    `iterations`: steps of Adam, each on the whole calibration set (the authors take 10,000 on batches); `rate`: its
    learning rate. `strength`: λ, of the regulariser that drives every weight to one of its two levels. `corrected`: the
    operations whose biases will be corrected for the rounded weight, so that only the variance of the error counts.
    """

    moments: Mapping[str, InputMoments]
    iterations: int = 300
    rate: float = 0.1
    strength: float = 0.3
    corrected: Collection[str] = ()

    def __call__(self, operation: str, quantizer: Quantizer, weight: Tensor) -> Tensor:
        """Return `weight`, (outputs, …), on the quantizer's levels, each up or down from where it is.

        A weight beyond the outermost level goes to that level. No output channel's squared error on the calibration
        inputs (its variance, where the bias will be corrected) is greater than with its weights rounded to the nearest
        level. Equal calls return equal weights.
        """
        assert isinstance(quantizer, AffineQuantizer), "only uniform levels have an up and a down"
        moments = self.moments[operation]
        with torch.no_grad():
            scale = along(quantizer.scale, quantizer.axis, weight.ndim)
            zero = along(quantizer.zero_point, quantizer.axis, weight.ndim).float()
            steps = weight.float() / scale
            lowest, highest = -zero, (2**quantizer.bits - 1) - zero
            down, up, near = (
                moments.blocks(level.clamp(lowest, highest) - steps)
                for level in (steps.floor(), steps.ceil(), steps.round())
            )
            gram = moments.centred() if operation in self.corrected else moments.gram
            best = self._best(down, up, near, _in_units(gram), moments.samples)
            rounded: Tensor = quantizer((moments.whole(best, weight.shape) + steps).round() * scale)
        return rounded.to(weight.dtype)

    def _best(self, down: Tensor, up: Tensor, near: Tensor, gram: Tensor, samples: int) -> Tensor:
        """Return the errors of the rounding chosen, in steps, (blocks, rows, inputs); rows are independent."""
        inputs = near.shape[2]
        trusted = _drawn_to_diagonal(gram, inputs / (inputs + _TRUST * samples))
        best = near.clone()

        def learn(place: _Place) -> None:
            here = down[place], up[place], trusted[place[0]]
            best[place] = learn_rounding(*here, self.iterations, self.rate, self.strength)

        def settle(place: _Place) -> None:
            learned = best[place]
            learned = descend(learned, (down + up)[place] - learned, trusted[place[0]])
            better = output_error(learned, gram[place[0]]) < output_error(near[place], gram[place[0]])
            best[place] = torch.where(better.unsqueeze(2), learned, near[place])

        with one_thread_each(os.cpu_count() or 1) as pool:
            list(pool.map(learn, _places(near, _LEARNT)))
            list(pool.map(settle, _places(near, _DESCENDED)))
        return best


def _places(weights: Tensor, size: int) -> list[_Place]:
    """Return slices of blocks and rows that cover `weights`, (blocks, rows, inputs), each with `size` of them or so."""
    blocks, rows, inputs = weights.shape
    tall = max(1, min(rows, size // inputs))
    deep = max(1, size // (tall * inputs))
    return [
        (slice(block, block + deep), slice(row, row + tall))
        for block in range(0, blocks, deep)
        for row in range(0, rows, tall)
    ]


def _in_units(gram: Tensor) -> Tensor:
    """Return Gram matrices divided by the mean of their diagonals."""
    return gram / gram.diagonal(dim1=1, dim2=2).mean().clamp(min=torch.finfo(torch.float32).tiny)


def _drawn_to_diagonal(gram: Tensor, share: float) -> Tensor:
    """Return Gram matrices whose entries off the diagonal have lost a share."""
    drawn = gram * (1 - share)
    drawn.diagonal(dim1=1, dim2=2).copy_(gram.diagonal(dim1=1, dim2=2))
    return drawn


def learn_rounding(down: Tensor, up: Tensor, gram: Tensor, iterations: int, rate: float, strength: float) -> Tensor:
    """Return errors, each of one of two roundings, chosen by gradient descent on a relaxation to make e·G·eᵀ small.

    `down`, `up`: the errors of either, (blocks, rows, inputs); `gram`: (blocks, inputs, inputs). The relaxed choice is
    h(V) = clip(sigmoid(V)·(ζ−γ) + γ, 0, 1) (equation 23), V moved by Adam; the loss is the sum over rows of e·G·eᵀ plus
    λ·Σ G_jj·(1 − |2h−1|^β) (equations 21 and 24): weighted by G_jj, both terms grow alike with an input.
    """
    span = up - down
    begin = torch.where(span > 0, -down / span.clamp(min=1e-12), 0.0).clamp(0.0, 1.0)
    values = torch.logit((begin - _GAMMA) / (_ZETA - _GAMMA))
    weights = strength * gram.diagonal(dim1=1, dim2=2).unsqueeze(1)
    adam = _Adam(values, rate)
    for iteration in range(iterations):
        sigmoid = torch.sigmoid(values)
        stretched = sigmoid * (_ZETA - _GAMMA) + _GAMMA
        h = stretched.clamp(0.0, 1.0)
        gradient = 2 * ((down + h * span) @ gram) * span
        progress = (iteration / iterations - _WARM) / (1 - _WARM)
        if progress > 0:
            beta = _BETA[1] + (_BETA[0] - _BETA[1]) * 0.5 * (1 + math.cos(progress * math.pi))
            side = 2 * h - 1
            gradient -= weights * 2 * beta * side.sign() * side.abs().pow(beta - 1)
        gradient *= (stretched == h) * sigmoid * (1 - sigmoid) * (_ZETA - _GAMMA)
        adam.step(gradient)
    return torch.where(torch.sigmoid(values) >= 0.5, up, down)


class _Adam:
    """Adam (Kingma and Ba 2015) on one tensor, in place."""

    def __init__(self, values: Tensor, rate: float) -> None:
        self._values = values
        self._rate = rate
        self._first = torch.zeros_like(values)
        self._second = torch.zeros_like(values)
        self._count = 0

    def step(self, gradient: Tensor) -> None:
        self._count += 1
        self._first.lerp_(gradient, 0.1)
        self._second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        correction = math.sqrt(1 - 0.999**self._count) / (1 - 0.9**self._count)
        self._values.addcdiv_(self._first, self._second.sqrt().add_(1e-10), value=-self._rate * correction)
