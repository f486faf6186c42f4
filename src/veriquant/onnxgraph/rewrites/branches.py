"""Putting the branch of an If that is always taken in the If's place."""

from __future__ import annotations

from onnx import GraphProto, NodeProto, helper, numpy_helper

from veriquant.onnxgraph.graph import Graph, attribute, constant_of
from veriquant.onnxgraph.walk import rename_reads


def take_certain_branches(graph: Graph) -> int:
    """Replace every If with a constant condition by its branch, in place; return how many."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "If"]:
        condition = graph.weight(node, 0)
        if condition is None or condition.size != 1:
            continue
        branch = attribute(node, "then_branch" if condition.reshape(-1)[0] else "else_branch")
        graph.replace(node, _in_place(graph, node, branch))
        found += 1
    return found


def _in_place(graph: Graph, node: NodeProto, branch: GraphProto) -> list[NodeProto]:
    """Return the nodes of a branch, what they make renamed after the If, its outputs called as the If's were."""
    made = [tensor.name for tensor in branch.initializer]
    made += [name for inner in branch.node for name in inner.output if name]
    names = {name: f"{node.name}/{name}" for name in made}
    last: list[NodeProto] = []
    for inner_output, output in zip(branch.output, node.output, strict=True):
        if output:
            source = names.get(inner_output.name, inner_output.name)
            last.append(helper.make_node("Identity", [source], [output], f"{node.name}/{output}"))
    parts = []
    for tensor in branch.initializer:
        graph.constants[names[tensor.name]] = numpy_helper.to_array(tensor)
    for number, inner in enumerate(branch.node):
        value = constant_of(inner)
        if value is not None:
            graph.constants[names[inner.output[0]]] = value
            continue
        part = NodeProto()
        part.CopyFrom(inner)
        part.name = f"{node.name}/{inner.name or number}"
        rename_reads(part, names)
        part.output[:] = [names.get(name, name) for name in part.output]
        parts.append(part)
    return [*parts, *last]
