"""Computing beforehand what depends on no input: exporters leave transposed and shared weights as nodes."""

from __future__ import annotations

from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator

from veriquant.onnxgraph.graph import OPSET, Array, Graph

#: Results of other operators may differ from call to call, or mean something else than their value.
_EXCEPT = ("RandomNormal", "RandomUniform", "QuantizeLinear", "DequantizeLinear")
#: A constant may not grow by more than this: an Expand of one number stays a node.
_LARGEST_GROWTH = 4


def fold_constants(graph: Graph) -> int:
    """Replace every node of which all inputs are constants by its result; return how many."""
    folded = 0
    for node in list(graph.nodes):
        given = [name for name in node.input if name]
        if not given or node.op_type in _EXCEPT or node.domain not in ("", "ai.onnx") or graph.output in node.output:
            continue
        if not all(name in graph.constants for name in given):
            continue
        results = _evaluated(node, {name: graph.constants[name] for name in given})
        if sum(r.size for r in results) > _LARGEST_GROWTH * max(1, sum(graph.constants[n].size for n in given)) + 64:
            continue
        graph.constants.update(zip(node.output, results, strict=True))
        graph.replace(node, [])
        folded += 1
    return folded


def _evaluated(node: NodeProto, values: dict[str, Array]) -> list[Array]:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in values.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    model = helper.make_model(
        helper.make_graph([node], "constant", inputs, outputs), opset_imports=[helper.make_opsetid("", OPSET)]
    )
    results: list[Array] = ReferenceEvaluator(model).run(None, values)
    return results
