"""Folding what follows from the sizes of the input alone: shapes read off, positions counted, patterns of a Reshape.

Which numbers these are is found out by running the network on one, two and three images: what comes out the same every
time is a constant; a length that is the number of images is written as ``-1``; rows that are the same for every image
are one row. The result is run beside the original, and taken only if both give the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, helper

from veriquant.onnxgraph.graph import PART, Array, Graph
from veriquant.onnxgraph.walk import is_standard, reads

#: Operators that read the lengths of a tensor's axes, and not its values.
_OF_SHAPES = ("Shape", "Size")
#: Operators that stretch one row to as many as the other side has.
_STRETCHING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Sum", "Mean", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "And", "Or", "Xor", "Mod",
)  # fmt: skip
_COUNTS = (1, 2, 3)
#: Relative difference of embeddings that two orders of adding explain.
_SAME = 1e-4

Values = list[Array]
"""What one tensor holds for each number of images."""


def fold_sizes(graph: Graph) -> int:
    """Fold what depends on the input's sizes alone, in place; return how many inputs of nodes became constants.

    Nothing is done where the sizes of an image are open in the file, or where it does not run.
    """
    shape = graph.shapes().get(graph.input, ())
    carriers = _carriers(graph)
    edge = _edge(graph, carriers)
    if not edge or len(shape) < 2 or None in shape[1:]:
        return 0
    counts = _COUNTS if shape[0] is None else (shape[0],)
    lengths = [int(length or 0) for length in shape[1:]]
    reshaped = [node.output[0] for node in graph.nodes if _reshapes(node) and node.input[1] in edge]
    runs = _runs(graph, [*edge, *reshaped], counts, lengths)
    if runs is None:
        return 0
    trial = graph.copy()
    changed = 0
    for node in trial.nodes:
        if not carriers.intersection(node.output):
            continue
        for position, name in enumerate(node.input):
            if name not in edge or name not in runs.inside:
                continue
            values = runs.inside[name]
            if position == 1 and _reshapes(node) and node.output[0] in runs.inside:
                # What came out, instead of what was asked for: lengths that were left to be worked out are there.
                values = [np.array(value.shape, np.int64) for value in runs.inside[node.output[0]]]
            changed += _replace(trial, node, position, values, counts)
    if not changed:
        return 0
    after = _runs(trial, [], counts, lengths)
    if after is None or not _alike(runs.outputs, after.outputs):
        return 0
    graph.constants, graph.nodes = trial.constants, trial.nodes
    return changed


def _carriers(graph: Graph) -> set[str]:
    """Return the tensors that depend on the input's values."""
    found = {graph.input}
    for node in graph.nodes:
        if not (node.op_type in _OF_SHAPES and is_standard(node)) and found.intersection(reads(node)):
            found.update(node.output)
    return found


def _edge(graph: Graph, carriers: set[str]) -> list[str]:
    """Return the tensors that depend on sizes alone and are read by what depends on values."""
    found: dict[str, None] = {}
    for node in graph.nodes:
        if carriers.intersection(node.output):
            found.update((n, None) for n in node.input if n and n not in carriers and n not in graph.constants)
    return list(found)


def _reshapes(node: NodeProto) -> bool:
    return node.op_type == "Reshape" and is_standard(node)


class _Runs:
    """What a graph gave for each number of images: its outputs, and the tensors asked for."""

    def __init__(self, outputs: Values, inside: Mapping[str, Values]) -> None:
        self.outputs = outputs
        self.inside = inside


def _runs(graph: Graph, tensors: list[str], counts: tuple[int, ...], lengths: list[int]) -> _Runs | None:
    """Run the graph on random images; None where it does not run."""
    model = graph.to_model()
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    draw = np.random.default_rng(0)
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        batches = [draw.standard_normal((count, *lengths), dtype=np.float32) for count in counts]
        found = [session.run([graph.output, *tensors], {graph.input: batch}) for batch in batches]
    except Exception:  # it takes one image alone, or is not whole yet: nothing is folded
        return None
    arrays = {
        name: [run[1 + place] for run in found]
        for place, name in enumerate(tensors)
        if all(isinstance(run[1 + place], np.ndarray) for run in found)
    }
    return _Runs([run[0] for run in found], arrays)


def _replace(graph: Graph, node: NodeProto, position: int, values: Values, counts: tuple[int, ...]) -> bool:
    """Let an input of a node be a constant, where what was seen allows it."""
    value = _constant(node, position, values, counts)
    if value is None:
        return False
    name = f"{node.name}{PART}{position}"
    graph.constants[name] = value
    node.input[position] = name
    return True


def _constant(node: NodeProto, position: int, values: Values, counts: tuple[int, ...]) -> Array | None:
    first = values[0]
    if all(np.array_equal(first, other) for other in values[1:]):
        return first
    if not is_standard(node):
        return None
    if position == 1 and node.op_type in ("Reshape", "Expand") and all(v.shape == first.shape for v in values):
        return _pattern(node, values, counts)
    return _one_row(values, counts) if node.op_type in _STRETCHING else None


def _pattern(node: NodeProto, values: Values, counts: tuple[int, ...]) -> Array | None:
    """Return a shape of which one length goes with the number of images."""
    first = values[0]
    moving = np.flatnonzero((np.stack(values) != first).any(axis=0))
    if len(moving) != 1:
        return None
    place = int(moving[0])
    pattern = first.copy()
    if node.op_type == "Expand":
        if [int(value[place]) for value in values] != list(counts):
            return None
        pattern[place] = 1  # which leaves the length that is there
    else:
        pattern[place] = -1
    return pattern


def _one_row(values: Values, counts: tuple[int, ...]) -> Array | None:
    """Return one row of what repeats itself as often as there are images."""
    first = values[0]
    if any(value.ndim != first.ndim for value in values) or first.ndim == 0:
        return None
    moving = [axis for axis in range(first.ndim) if len({value.shape[axis] for value in values}) > 1]
    if len(moving) != 1 or [value.shape[moving[0]] for value in values] != list(counts):
        return None
    alike = all(np.array_equal(np.broadcast_to(first, value.shape), value, equal_nan=True) for value in values)
    return first if alike else None


def _alike(before: Values, after: Values) -> bool:
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            return False
        with np.errstate(all="ignore"):
            distance = np.linalg.norm(np.asarray(old, np.float64) - new)
        if not distance <= _SAME * np.linalg.norm(np.asarray(old, np.float64)):
            return False
    return True
