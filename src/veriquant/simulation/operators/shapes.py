"""Arithmetic on shapes and truth values. It is done on the processor, wherever the network's values are."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from onnx import numpy_helper
from torch import Tensor, fx

from veriquant.simulation.operators.moving import Whole, numbers
from veriquant.simulation.operators.operator_table import OPERATORS, Build, Operator, importing
from veriquant.simulation.operators.site import Site, as_tensor


@importing("Shape", "silent")
def _shape(site: Site) -> fx.Node:
    return site.call(shape, site.value(), site.attribute("start", 0), site.attribute("end"))


def shape(x: Tensor, start: int, end: int | None) -> Tensor:
    """Return the lengths of the axes from `start` to before `end` (int64)."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@importing("Size", "silent")
def _size(site: Site) -> fx.Node:
    return site.call(size, site.value())


def size(x: Tensor) -> Tensor:
    """Return the number of values (int64, no axes)."""
    return torch.tensor(x.numel())


@importing("ConstantOfShape", "silent")
def _constant_of_shape(site: Site) -> fx.Node:
    given = site.attribute("value")
    value = torch.zeros(1) if given is None else as_tensor(numpy_helper.to_array(given))
    return site.call(filled, site.whole(0), value.item(), value.dtype)


def filled(lengths: Whole, number: float, kind: torch.dtype) -> Tensor:
    """Return a tensor of one number."""
    return torch.full(numbers(lengths), number, dtype=kind)


@importing("Range", "silent")
def _range(site: Site) -> fx.Node:
    return site.call(count, site.operand(0), site.operand(1), site.operand(2))


def count(start: Tensor | float, limit: Tensor | float, step: Tensor | float) -> Tensor:
    """Return the numbers from `start` to before `limit`."""
    first, last, by = (each.item() if isinstance(each, Tensor) else each for each in (start, limit, step))
    return torch.arange(first, last, by)


def _comparison(function: Callable[..., object]) -> Build:
    return lambda site: site.call(function, site.operand(0), site.operand(1))


for _name, _function in {
    "Equal": operator.eq,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "And": operator.and_,
    "Or": operator.or_,
    "Xor": operator.xor,
}.items():
    OPERATORS.add(_name, Operator("silent", _comparison(_function)))


@importing("Not", "silent")
def _not(site: Site) -> fx.Node:
    return site.call(torch.logical_not, site.value())
