"""`import_onnx`: an ONNX network becomes a PyTorch module whose graph can be taken apart, quantized and trained.

Every operator is one node of PyTorch's graph form wherever that is possible, so that tensors and operations keep the
names that the user's file gives them. Full precision is float32: constants of other floating types are converted.
"""

from __future__ import annotations

import operator

from onnx import NodeProto
from torch import fx

from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.quantized import already_quantized, first_of_codes
from veriquant.simulation.operators import OPERATORS, Kind, carriers, kind_of
from veriquant.simulation.operators.site import Assembly, Site


def import_onnx(graph: Graph) -> fx.GraphModule:
    """Return `graph` as a module of float32 arithmetic, in evaluation mode; `graph` stays as it is.

    The module takes the network's input, float32 (n, …), and returns its output, for any n. What leads to no output is
    left out. The module's nodes carry in `meta`:

    - `operation`: the name of the ONNX node that they stand for, and `operator`, its type;
    - `kind`: what it is to quantization (`veriquant.simulation.operators.Kind`); the input has none, nor have the parts
      that arithmetic with several outputs is taken into: nothing is computed there;
    - `tensor`: the ONNX tensor that the node computes; the input carries it as well.

    Weights are `Convolution`s and `Product`s, named after their ONNX nodes; slopes, scales and shifts are parameters.

    Raises `VeriQuantError` where the network is quantized already, for operators that cannot be simulated (all of them
    at once), and for attributes that cannot.
    """
    graph = graph.copy()
    graph.prune()
    _check(graph.nodes)
    values = carriers(graph)
    assembly = Assembly(graph)
    placeholder = assembly.fx.placeholder("input")
    placeholder.meta["tensor"] = graph.input
    assembly.made[graph.input] = placeholder
    for node in graph.nodes:
        kind = kind_of(node, graph, values)
        site = Site(node, assembly, silent=not any(name in values for name in node.input))
        built = OPERATORS.get(node.op_type).build(site)
        outputs = [built] if isinstance(built, fx.Node) else list(built)
        for made in site.nodes:
            made.meta |= {"operation": node.name, "operator": node.op_type, **_kind(made, kind)}
        for name, made in zip(node.output, outputs, strict=False):
            if name:
                made.meta["tensor"] = name
                assembly.made[name] = made
        if kind == "weighted" or any(name in assembly.learned for name in node.input):
            assembly.learned.update(node.output)
    if graph.output not in assembly.made:
        raise VeriQuantError(f"the network's output {graph.output!r} does not depend on its input; export it again")
    assembly.fx.output(assembly.made[graph.output])
    return fx.GraphModule(assembly.root, assembly.fx, "Imported").eval()


def _kind(made: fx.Node, kind: Kind) -> dict[str, Kind]:
    """Return the kind of one fx node of an operator of `kind`, as an entry of its `meta` or none."""
    if made.op == "get_attr":
        return {"kind": "silent"}
    taken = made.target is operator.getitem and kind not in ("passing", "silent")
    return {} if taken else {"kind": kind}


def _check(nodes: list[NodeProto]) -> None:
    """Raise `VeriQuantError` naming everything among `nodes` that cannot be simulated."""
    if operator := first_of_codes(nodes):
        raise already_quantized(operator, "it cannot be simulated")
    unknown: dict[str, str] = {}
    for node in nodes:
        ours = node.domain in ("", "ai.onnx")
        if not ours or node.op_type not in OPERATORS:
            unknown.setdefault(node.op_type if ours else f"{node.domain}.{node.op_type}", node.name)
    if unknown:
        several = len(unknown) > 1
        listed = ", ".join(f"{kind!r} (node {name!r})" for kind, name in unknown.items())
        raise VeriQuantError(
            f"the network uses ONNX operator{'s' * several} {listed}, which cannot be simulated; replace "
            f"{'them' if several else 'it'} or export the network without; known are: {', '.join(OPERATORS)}"
        )
