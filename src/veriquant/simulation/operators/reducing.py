"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from veriquant.simulation.operators.moving import same
from veriquant.simulation.operators.operator_table import OPERATORS, Build, Operator, importing
from veriquant.simulation.operators.site import Site


def _axes(x: Tensor, axes: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axes is None else tuple(axes)


def reduce_mean(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the mean along `axes`, or along all."""
    return x.mean(_axes(x, axes), keepdim=kept)


def reduce_sum(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the sum along `axes`, or along all."""
    return x.sum(_axes(x, axes), keepdim=kept)


def reduce_max(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the greatest along `axes`, or along all."""
    return x.amax(_axes(x, axes), keepdim=kept)


def reduce_min(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the least along `axes`, or along all."""
    return x.amin(_axes(x, axes), keepdim=kept)


def reduce_product(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the product along `axes`, or along all."""
    for axis in sorted((axis % x.ndim for axis in _axes(x, axes)), reverse=True):
        x = x.prod(axis, keepdim=kept)
    return x


def reduce_l1(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the sum of magnitudes along `axes`, or along all."""
    return x.abs().sum(_axes(x, axes), keepdim=kept)


def reduce_l2(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the Euclidean length along `axes`, or along all."""
    length: Tensor = torch.linalg.vector_norm(x, 2, _axes(x, axes), keepdim=kept)
    return length


def reduce_squares(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return the sum of squares along `axes`, or along all."""
    return x.square().sum(_axes(x, axes), keepdim=kept)


def reduce_log_sum_exp(x: Tensor, axes: Sequence[int] | None, kept: bool) -> Tensor:
    """Return log Σ eˣ along `axes`, or along all."""
    return x.logsumexp(_axes(x, axes), keepdim=kept)


def _reduction(function: Callable[..., Tensor], along_none: Callable[[Tensor], Tensor]) -> Build:
    """Return how a reduction is built; `along_none` is what it leaves of each value where it reduces no axis."""

    def build(site: Site) -> fx.Node:
        axes = site.axes()
        if not axes and site.attribute("noop_with_empty_axes", 0):
            return site.call(along_none, site.value())
        return site.call(function, site.value(), axes or None, bool(site.attribute("keepdims", 1)))

    return build


for _name, _function, _along_none in (
    ("ReduceMean", reduce_mean, same),
    ("ReduceSum", reduce_sum, same),
    ("ReduceMax", reduce_max, same),
    ("ReduceMin", reduce_min, same),
    ("ReduceProd", reduce_product, same),
    ("ReduceL1", reduce_l1, torch.abs),
    ("ReduceL2", reduce_l2, torch.abs),
    ("ReduceSumSquare", reduce_squares, torch.square),
    ("ReduceLogSumExp", reduce_log_sum_exp, same),
):
    OPERATORS.add(_name, Operator("computing", _reduction(_function, _along_none)))


@importing("Softmax", "computing")
def _softmax(site: Site) -> fx.Node:
    return site.call(torch.softmax, site.value(), int(site.attribute("axis", -1)))


@importing("LogSoftmax", "computing")
def _log_softmax(site: Site) -> fx.Node:
    return site.call(torch.log_softmax, site.value(), int(site.attribute("axis", -1)))


@importing("ArgMax", "silent")
def _arg_max(site: Site) -> fx.Node:
    site.choice("select_last_index", 0, 0)
    return site.call(torch.argmax, site.value(), int(site.attribute("axis", 0)), bool(site.attribute("keepdims", 1)))
