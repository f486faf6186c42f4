"""Arithmetic element by element, of one tensor or several."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import torch
from torch import Tensor, fx

from veriquant.simulation.operators.operator_table import OPERATORS, Build, Operator, importing
from veriquant.simulation.operators.site import Site


def _unary(function: Callable[[Tensor], Tensor]) -> Build:
    return lambda site: site.call(function, site.value())


for _name, _function in {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sqrt": torch.sqrt,
}.items():
    OPERATORS.add(_name, Operator("computing", _unary(_function)))


def _binary(function: Callable[..., object]) -> Build:
    # Python's operators take a number on either side, which torch's functions do not.
    return lambda site: site.call(function, site.operand(0), site.operand(1))


for _name, _operator in {"Add": operator.add, "Mul": operator.mul, "Pow": operator.pow, "Sub": operator.sub}.items():
    OPERATORS.add(_name, Operator("joining", _binary(_operator)))


@importing("Div", "joining")
def _divide(site: Site) -> fx.Node:
    return site.call(divide if site.silent else operator.truediv, site.operand(0), site.operand(1))


def divide(a: Tensor | float, b: Tensor | float) -> Tensor:
    """Return a / b, of whole numbers the part before the point (ONNX, Div)."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() or b.is_floating_point() else "trunc")


@importing("Mod", "joining")
def _modulo(site: Site) -> fx.Node:
    return site.call(torch.fmod if site.attribute("fmod", 0) else torch.remainder, site.value(0), site.operand(1))


def _variadic(function: Callable[..., Tensor]) -> Build:
    return lambda site: site.call(function, *(site.value(position) for position in site.inputs()))


def total(*parts: Tensor) -> Tensor:
    """Return the sum of the parts, stretched to one shape."""
    return functools.reduce(torch.add, parts)


def average(*parts: Tensor) -> Tensor:
    """Return the mean of the parts, stretched to one shape."""
    return total(*parts) / len(parts)


def largest(*parts: Tensor) -> Tensor:
    """Return the greatest of the parts in every place."""
    return functools.reduce(torch.maximum, parts)


def least(*parts: Tensor) -> Tensor:
    """Return the least of the parts in every place."""
    return functools.reduce(torch.minimum, parts)


for _name, _several in {"Sum": total, "Mean": average, "Max": largest, "Min": least}.items():
    OPERATORS.add(_name, Operator("joining", _variadic(_several)))


@importing("Where", "joining")
def _where(site: Site) -> fx.Node:
    return site.call(torch.where, site.value(0), site.operand(1), site.operand(2))


@importing("Einsum", "joining")
def _einsum(site: Site) -> fx.Node:
    return site.call(torch.einsum, site.attribute("equation"), *(site.value(i) for i in site.inputs()))


@importing("Concat", "joining")
def _concat(site: Site) -> fx.Node:
    return site.call(torch.cat, [site.value(i) for i in site.inputs()], int(site.attribute("axis")))
