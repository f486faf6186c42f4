"""`OPERATORS`: what each ONNX operator is to quantization, and how it is built in PyTorch.

A file of this folder registers its operators with `importing`; nothing else need be touched to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import NodeProto
from torch import fx

from veriquant.onnxgraph.graph import Graph
from veriquant.registry import Registry
from veriquant.simulation.operators.site import Site

Kind = Literal["weighted", "joining", "activation", "passing", "computing", "silent"]
"""weighted: multiplies by a constant weight; joining: two or more computed tensors meet; activation: a function of each
value, which a kernel before it may carry along; passing: values move and keep their precision; computing: any other
arithmetic; silent: shapes, indices and constants, which take no part in the arithmetic."""

Build = Callable[[Site], fx.Node | Sequence[fx.Node]]
"""Returns the fx node that computes the operator's output, or one for each output."""


@dataclass(frozen=True)
class Operator:
    """An ONNX operator: its kind where values run through it, and how it is built.

    `exception` returns the kind of a node that is not of the operator's usual one, and None for one that is.
    """

    kind: Kind
    build: Build
    exception: Callable[[NodeProto, Graph], Kind | None] | None = None


OPERATORS: Registry[Operator] = Registry("ONNX operator")


def importing(
    name: str, kind: Kind, exception: Callable[[NodeProto, Graph], Kind | None] | None = None
) -> Callable[[Build], Build]:
    """Register the decorated function as the way to build the ONNX operator `name`."""

    def register(build: Build) -> Build:
        OPERATORS.add(name, Operator(kind, build, exception))
        return build

    return register


def kind_of(node: NodeProto, graph: Graph, values: Collection[str] | None = None) -> Kind:
    """Return what `node` is to quantization in `graph`.

    `values`: the tensors that carry values, as `carriers` tells; found anew where they are not given. A node that reads
    none is silent, and an operator that joins tensors merely computes where all but one are constants or shapes.
    """
    values = carriers(graph) if values is None else values
    count = sum(name in values for name in node.input)
    if count == 0:
        return "silent"
    operator = OPERATORS.get(node.op_type)
    kind = (operator.exception and operator.exception(node, graph)) or operator.kind
    return "computing" if kind == "joining" and count < 2 else kind


def carriers(graph: Graph) -> set[str]:
    """Return the tensors that are computed from the input's values, rather than from its shape or from constants."""
    found = {graph.input}
    for node in graph.nodes:
        if kind_of(node, graph, found) != "silent":
            found.update(node.output)
    return found
