"""`Parts`: the standard operators that one operation of a network is written into, and the constants they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from veriquant.onnxgraph.graph import PART, Array, Graph

#: Constants above this many bytes are not looked up among the others: codes and scales hardly ever repeat.
_LARGEST_SHARED = 1 << 16


class Pool:
    """The constants of a packed graph, those with equal content stored once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._taken = {*graph.constants, *(name for node in graph.nodes for name in (node.name, *node.output))}

    def constant(self, value: Array, wanted: str) -> str:
        """Return the name of a constant equal to `value`: one added before, or now as `wanted`."""
        if value.nbytes > _LARGEST_SHARED:
            return self._add(value, wanted)
        key = (value.dtype.name, value.shape, value.tobytes())
        if key not in self._names:
            self._names[key] = self._add(value, wanted)
        return self._names[key]

    def free(self, wanted: str) -> str:
        """Return `wanted`, numbered if it is taken, and take it."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}{number}"
        self._taken.add(name)
        return name

    def _add(self, value: Array, wanted: str) -> str:
        name = self.free(wanted)
        self._graph.constants[name] = value
        return name


class Parts:
    """Nodes under construction in front of the operation called `operation`; each makes one tensor of the node's name.

    `nodes` holds them in topological order.
    """

    def __init__(self, operation: str, pool: Pool) -> None:
        self.nodes: list[NodeProto] = []
        self._operation = operation
        self._pool = pool

    def constant(self, value: Array, label: str) -> str:
        """Return the name of a constant tensor; `label` distinguishes it among the operation's parts."""
        return self._pool.constant(np.asarray(value, order="C"), f"{self._operation}{PART}{label}")

    def add(self, kind: str, inputs: Sequence[str], label: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node of operator `kind`; return the name of its output (`output` where given)."""
        name = self._pool.free(f"{self._operation}{PART}{label}")
        made = name if output is None else output
        self.nodes.append(helper.make_node(kind, list(inputs), [made], name, **attributes))
        return made
