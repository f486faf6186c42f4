"""Making what is not codes small: numbers that float16 holds stored as float16, tensors with short names."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, TensorProto, helper

from veriquant.deploy.pack.parts import Pool
from veriquant.onnxgraph.graph import PART, Array, Graph

#: From so many values on, two bytes a value are more than the Cast that makes float32 of them.
_SMALLEST = 48
#: Largest relative error of rounding to float16, and the part of a tensor's largest value that counts as zero.
_ROUNDING, _NOTHING = 2.0**-11, 1e-7
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def store_halves(graph: Graph, pool: Pool, rounded: bool) -> None:
    """Store the float32 constants of `graph` that float16 holds exactly as float16, each behind a Cast.

    `rounded`: also those that lose no more than the rounding of float16, a relative 2**-11; numbers too small for that,
    or too large, keep their constant in float32.
    """
    casts = []
    used = {name for node in graph.nodes for name in node.input}
    for name, value in list(graph.constants.items()):
        if name in used and value.dtype == np.float32 and value.size >= _SMALLEST and _fits(value, rounded):
            half = pool.free(f"{name}{PART}half")
            graph.constants[half] = value.astype(np.float16)
            del graph.constants[name]
            casts.append(helper.make_node("Cast", [half], [name], half, to=TensorProto.FLOAT))
    graph.nodes[:0] = casts


def shorten_names(model: ModelProto) -> None:
    """Rename every tensor of `model` but its input and output to a short number, in place; nodes keep their names."""
    graph = model.graph
    kept = {entry.name for entry in (*graph.input, *graph.output)}
    made = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    numbers = (_number(index) for index in range(len(made) + len(kept)))
    free = (number for number in numbers if number not in kept)
    short = {name: next(free) for name in made if name and name not in kept}
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]


def take_names(model: ModelProto, keep: Collection[str]) -> None:
    """Take the names of all nodes but those in `keep`, in place: in a small file they are a tenth of it."""
    for node in model.graph.node:
        if node.name not in keep:
            node.name = ""


def _fits(value: Array, rounded: bool) -> bool:
    with np.errstate(over="ignore"):
        error = np.abs(value.astype(np.float16).astype(np.float32) - value)
    bound = _ROUNDING * np.abs(value) + _NOTHING * np.abs(value).max() if rounded else 0.0
    return bool((error <= bound).all())


def _number(index: int) -> str:
    digits = _DIGITS[index % len(_DIGITS)]
    return digits if index < len(_DIGITS) else _number(index // len(_DIGITS)) + digits
