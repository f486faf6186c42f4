"""Computing beforehand what depends on no value of the input: constants, and whatever follows from its fixed sizes.

Exporters leave transposed and shared weights as nodes, positions counted up from ones, sizes read off and multiplied,
branches that are always taken. All of it is computed by ONNX Runtime itself, so that it is what a user's runtime gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from veriquant.onnxgraph.graph import Array, Graph
from veriquant.onnxgraph.rewrites.branches import take_certain_branches
from veriquant.onnxgraph.rewrites.sizes import fold_sizes
from veriquant.onnxgraph.walk import all_nodes, is_standard, reads

#: Results of other operators may differ from call to call, or mean something else than their value.
_DRAWN = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
_EXCEPT = (*_DRAWN, "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
#: A constant that a node makes of much fewer numbers stays a node: an Expand of one number need not fill a file.
_LARGEST_GROWTH, _SMALL = 4, 4096
#: More numbers than any network needs of its constants: what would make more of them is not computed at all.
_MOST = 1 << 26


def fold_constants(graph: Graph) -> int:
    """Replace what depends on no value of the input by what it comes to, in place; return how many nodes went."""
    before = len(graph.nodes)
    while _fold(graph) or take_certain_branches(graph) or fold_sizes(graph):
        graph.prune()
    return before - len(graph.nodes)


def _fold(graph: Graph) -> int:
    """Fold the nodes that depend on constants alone; return how many."""
    candidates = _candidates(graph)
    if not candidates:
        return 0
    known = _evaluated(graph, candidates)
    made = {id(node) for node in candidates if all(name in known for name in node.output if name)}
    wanted = {name for node in graph.nodes if id(node) not in made for name in reads(node)}
    kept: list[NodeProto] = []
    folded = 0
    for node in reversed(graph.nodes):
        outputs = [name for name in node.output if name]
        if id(node) in made and not (wanted.intersection(outputs) and _grows(graph, node, known)):
            graph.constants.update((name, known[name]) for name in outputs if name in wanted)
            folded += 1
        else:
            kept.append(node)
            wanted.update(reads(node))
    graph.nodes = kept[::-1]
    return folded


def _candidates(graph: Graph) -> list[NodeProto]:
    shapes = graph.shapes()
    there = set(graph.constants)
    found = []
    for node in graph.nodes:
        if graph.output in node.output or not there.issuperset(reads(node)):
            continue
        if any(each.op_type in _EXCEPT for each in all_nodes([node])):
            continue
        lengths = [shapes.get(name, ()) for name in node.output]
        if any(int(np.prod([length or 1 for length in shape], dtype=float)) > _MOST for shape in lengths):
            continue
        found.append(node)
        there.update(node.output)
    return found


def _grows(graph: Graph, node: NodeProto, known: dict[str, Array]) -> bool:
    given = sum((known[name] if name in known else graph.constants[name]).size for name in reads(node))
    return sum(known[name].size for name in node.output if name) > _LARGEST_GROWTH * given + _SMALL


def _evaluated(graph: Graph, nodes: Sequence[NodeProto]) -> dict[str, Array]:
    """Return what the nodes make, by name: all at once, or else those that can be computed one by one."""
    try:
        return _run(graph, nodes, graph.constants)
    except Exception:  # the runtime has no kernel for one of them, or no numpy type for what it gives
        known: dict[str, Array] = {}
        for node in nodes:
            constants = {**graph.constants, **known}
            if not all(name in constants for name in reads(node)):
                continue
            for run in (_run, _run_reference):
                try:
                    known.update(run(graph, [node], constants))
                    break
                except Exception:  # it stays a node
                    continue
        return known


def _model(graph: Graph, nodes: Sequence[NodeProto], constants: dict[str, Array]) -> tuple[ModelProto, list[str]]:
    made = [name for node in nodes for name in node.output if name]
    used = {name for node in nodes for name in reads(node)}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "constants",
            [],
            [helper.make_empty_tensor_value_info(name) for name in made],
            [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
        ),
        opset_imports=graph.opsets,
        ir_version=graph.ir_version,
    )
    return model, made


def _run(graph: Graph, nodes: Sequence[NodeProto], constants: dict[str, Array]) -> dict[str, Array]:
    model, made = _model(graph, nodes, constants)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _arrays(made, session.run(made, {}))


def _run_reference(graph: Graph, nodes: Sequence[NodeProto], constants: dict[str, Array]) -> dict[str, Array]:
    if not all(is_standard(node) for node in nodes):
        raise NotImplementedError
    model, made = _model(graph, nodes, constants)
    return _arrays(made, ReferenceEvaluator(model).run(None, {}))


def _arrays(names: Sequence[str], values: Sequence[object]) -> dict[str, Array]:
    """Return the results that are arrays of numbers: sequences and texts stay with the nodes that make them."""
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
    }
