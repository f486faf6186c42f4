"""Raising the opset of a model, with what the converter of the ONNX library loses or gets wrong put right.

The converter drops model-local functions, has no adapter for some operators whose meaning never changed, and turns the
first Resize into one that samples elsewhere.
"""

from __future__ import annotations

import re

import onnx
from onnx import NodeProto, helper, inliner, shape_inference, version_converter

from veriquant.errors import VeriQuantError
from veriquant.onnxgraph.walk import OWN_DOMAINS, all_graphs, all_nodes, is_standard

#: The format of files that first carried an opset, as ONNX's table of versions says.
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13}
#: Where operators stand whose meaning no opset changed, while the converter, which does not know them, goes by.
_ASIDE = "veriquant.aside"
_NO_ADAPTER = re.compile(r"No Adapter (?:From|To) Version \$\d+ for (\w+)")
_MOST_ASIDE = 16


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operator set that a model is written in."""
    return max((entry.version for entry in model.opset_import if entry.domain in OWN_DOMAINS), default=0)


def without_functions(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """Return a model of at least opset `least` in which every call of a model-local function is its body.

    The model itself comes back where there is nothing to do. Raises `VeriQuantError` where its opset cannot be raised.
    """
    own = {entry.version for f in model.functions for entry in f.opset_import if entry.domain in OWN_DOMAINS}
    present = opset_of(model)
    if own <= {present}:
        model = _inlined(model) if model.functions else model
        return _raised(model, least) if present < least else model
    # Of several opsets: the network's is raised to the latest, and the functions, which the converter drops, follow.
    functions = list(model.functions)
    raised = _raised(model, max(present, least, *own))
    raised.functions.extend(functions)
    return _inlined(raised)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        # The types of what the functions are given must be known to convert what is in them.
        return inliner.inline_local_functions(shape_inference.infer_shapes(model), convert_version=True)
    except Exception as error:  # the C++ side raises whatever it met
        raise VeriQuantError(
            f"its {len(model.functions)} functions, such as {model.functions[0].name!r}, cannot be put in place "
            f"({_line(error)}); export it without functions"
        ) from error


def _raised(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Return a copy in a later opset, without its functions."""
    present = opset_of(model)
    draft = onnx.ModelProto()
    draft.CopyFrom(model)
    del draft.functions[:]
    # Initializers that stand among the inputs, as older formats want it, come out neither here nor there.
    draft.ir_version = max(draft.ir_version, 4)
    _prepare(draft, present)
    raised = _converted(draft, present, version)
    for node in all_nodes(raised.graph.node):
        if node.domain == _ASIDE:
            node.domain = ""
        if present < 11 and is_standard(node) and node.op_type == "Resize":
            _sample_as_before(node)
    kept = [entry for entry in raised.opset_import if entry.domain != _ASIDE]
    del raised.opset_import[:]
    raised.opset_import.extend(kept)
    raised.ir_version = max(raised.ir_version, IR_VERSIONS.get(version, 8))
    return raised


def _converted(draft: onnx.ModelProto, present: int, version: int) -> onnx.ModelProto:
    aside: set[str] = set()
    while True:
        try:
            return version_converter.convert_version(draft, version)
        except Exception as error:  # the converter raises whatever its C++ side met
            found = _NO_ADAPTER.search(str(error))
            if found is None or found[1] in aside or len(aside) >= _MOST_ASIDE:
                raise VeriQuantError(
                    f"the network's opset {present} cannot be converted to {version}, which quantization needs "
                    f"({_line(error)}); export it again with opset {version} or later"
                ) from error
            aside.add(found[1])
            for node in all_nodes(draft.graph.node):
                if is_standard(node) and node.op_type in aside:
                    node.domain = _ASIDE
            if not any(entry.domain == _ASIDE for entry in draft.opset_import):
                draft.opset_import.append(helper.make_opsetid(_ASIDE, 1))


def _prepare(model: onnx.ModelProto, present: int) -> None:
    """Write what later opsets take for something else in a form that all of them understand alike."""
    for graph in all_graphs(model.graph):
        nodes = list(graph.node)
        if present < 13 and any(node.op_type == "Hardmax" and is_standard(node) for node in nodes):
            del graph.node[:]
            for node in nodes:
                graph.node.extend(_flat_hardmax(node) if node.op_type == "Hardmax" and is_standard(node) else [node])


def _flat_hardmax(node: NodeProto) -> list[NodeProto]:
    """Return a Hardmax over all axes from its own on, as it was before opset 13, on a matrix."""
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
    x, y = node.input[0], node.output[0]
    flat, hard, shape = (f"{y}/{part}" for part in ("flat", "hard", "shape"))
    return [
        helper.make_node("Shape", [x], [shape], f"{node.name}/shape"),
        helper.make_node("Flatten", [x], [flat], f"{node.name}/flat", axis=axis),
        helper.make_node("Hardmax", [flat], [hard], node.name, axis=1),
        helper.make_node("Reshape", [hard, shape], [y], f"{node.name}/back"),
    ]


def _sample_as_before(node: NodeProto) -> None:
    """Give a Resize the sampling that there was before opset 11: the coordinate over the scale, rounded down."""
    kept = [e for e in node.attribute if e.name not in ("coordinate_transformation_mode", "nearest_mode")]
    del node.attribute[:]
    node.attribute.extend(kept)
    told = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node.attribute.extend(helper.make_attribute(key, value) for key, value in told.items())


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
