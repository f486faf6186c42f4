"""Quantizer groups: where quantizers stand, and which of them share a precision, found from the network's structure.

A quantizer stands on every tensor that a kernel reads, after the activation functions that the kernel before carries
along, and on every weight. Operations that only move values (a reshape, a max-pool) pass precision through: the tensor
is quantized once, where it is made. The inputs of one kernel share a precision, because it computes in one
(Pandey et al., section 3.4): the weight and the input of a convolution, the two sides of an addition, all parts of a
concatenation; and a tensor that two kernels read ties both to it.

What comes before the first operation with weights or after the last (normalising pixels and embeddings) stays in
floating point.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from veriquant.simulation.precision import Precision
from veriquant.simulation.targets import KernelTable

_KERNELS = ("weighted", "joining", "computing", "activation")


@dataclass(frozen=True)
class Group:
    """Quantizers that share a precision.

    `name`: that of the first operation that reads it. `weights`: operations whose weights belong to it. `activations`:
    tensors by their ONNX names. `operations`: every operation whose kernel reads it. `candidates`: the widths that all
    of these have a kernel for, the highest first.
    """

    name: str
    operations: tuple[str, ...]
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    candidates: tuple[Precision, ...]


def find_groups(module: fx.GraphModule, table: KernelTable) -> dict[str, Group]:
    """Return the groups of an imported network in the order of its operations, by name."""
    kernels = _kernels(module, table)
    sets = _Sets()
    for kernel in kernels:
        # A node is both an operation and the tensor that it makes, which belongs to whoever reads it.
        sets.join([f"operation {kernel.name}", *(f"tensor {origin.name}" for origin in _origins(kernel))])
    members: dict[str, list[fx.Node]] = {}
    for kernel in kernels:
        members.setdefault(sets.root(f"operation {kernel.name}"), []).append(kernel)
    groups = (_group(nodes, table) for nodes in members.values())
    return {group.name: group for group in groups}


def tensors_read(module: fx.GraphModule) -> dict[str, str]:
    """Return the tensor that each operation with weights reads, looked for through what only moves values."""
    weighted = (node for node in module.graph.nodes if node.meta.get("kind") == "weighted")
    return {node.meta["operation"]: origin.meta["tensor"] for node in weighted for origin in _origins(node)[:1]}


def _group(kernels: list[fx.Node], table: KernelTable) -> Group:
    tensors = {origin.meta["tensor"]: None for kernel in kernels for origin in _origins(kernel)}
    widths = [table.widths(kernel.meta["operator"]) for kernel in kernels]
    return Group(
        name=kernels[0].meta["operation"],
        operations=tuple(kernel.meta["operation"] for kernel in kernels),
        weights=tuple(kernel.meta["operation"] for kernel in kernels if kernel.meta["kind"] == "weighted"),
        activations=tuple(tensors),
        candidates=tuple(each for each in table.candidates if all(each in own for own in widths)),
    )


def _kernels(module: fx.GraphModule, table: KernelTable) -> list[fx.Node]:
    """Return the operations that read quantized tensors, in order."""
    between = _between_weights(module)
    found = []
    for node in module.graph.nodes:
        if node in between and node.meta.get("kind") in _KERNELS and not _is_fused(node, table):
            found.append(node)
    return found


def _between_weights(module: fx.GraphModule) -> set[fx.Node]:
    nodes = list(module.graph.nodes)
    after: set[fx.Node] = set()
    for node in nodes:
        if node.meta.get("kind") == "weighted" or any(source in after for source in node.all_input_nodes):
            after.add(node)
    before: set[fx.Node] = set()
    for node in reversed(nodes):
        if node.meta.get("kind") == "weighted" or any(user in before for user in node.users):
            before.add(node)
    return after & before


def _is_fused(node: fx.Node, table: KernelTable) -> bool:
    """Tell whether the kernel before carries `node` along: it is that kernel's only user."""
    if node.meta["kind"] != "activation" or node.meta["operator"] not in table.fused:
        return False
    source = node.all_input_nodes[0]
    return len(source.users) == 1 and source.meta.get("kind") in _KERNELS


def _origins(kernel: fx.Node) -> list[fx.Node]:
    """Return the nodes that make the tensors which `kernel` reads, looked for through what only moves values."""
    found: dict[fx.Node, None] = {}
    for source in kernel.all_input_nodes:
        while source.meta.get("kind") == "passing":
            source = source.all_input_nodes[0]
        if "tensor" in source.meta and source.meta.get("kind") != "silent":
            found[source] = None
    return list(found)


class _Sets:
    """Disjoint sets of names."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def root(self, name: str) -> str:
        while (above := self._above.setdefault(name, name)) != name:
            name = above
        return name

    def join(self, names: list[str]) -> None:
        first = self.root(names[0])
        for name in names[1:]:
            self._above[self.root(name)] = first
