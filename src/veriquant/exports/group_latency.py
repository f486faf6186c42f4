"""Measured time of each quantizer group: where a runtime has a kernel for a width, its profiler tells what it takes.

Two files are run with the profiler on, the network in floating point and the network with every group at 8 bits, and
the kernels' times are added up by group. The integer kernels of ONNX Runtime on x86 compute in 8 bits whatever width a
weight is stored in, so that W4A8 takes the time of W8A8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from veriquant.calibration.context import QuantizationContext
from veriquant.calibration.model import CalibratedModel
from veriquant.deploy.latency import measure_latency
from veriquant.deploy.profiling import profile
from veriquant.deploy.runtimes import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.simulation.groups import Group
from veriquant.simulation.precision import Precision

_TARGET = "onnxruntime-x86"
_EIGHT = Precision(8, 8)
_RUNS = 30
_ROUNDS = 21


@dataclass(frozen=True)
class GroupTimes:
    """Milliseconds for one image: of each group at each of its candidates, and of all that belongs to no group.

    `reference`: the user's full-precision file as a whole, as latency is measured elsewhere.
    """

    groups: dict[str, dict[Precision, float]]
    rest: float
    reference: float
    note: str


def group_milliseconds(model: CalibratedModel, target: QuantizationContext) -> GroupTimes:
    """Measure every group in floating point and at 8 bits; raise `VeriQuantError` where no runtime can."""
    if model.simulation.table.name != _TARGET or target.runtime != "onnxruntime":
        raise VeriQuantError(
            f"a latency budget needs kernels that can be timed here: choose target {_TARGET} and runtime onnxruntime, "
            f"not target {model.simulation.table.name} and runtime {target.runtime}"
        )
    groups = model.simulation.groups
    float_file = model.simulation.graph.to_bytes()
    eight = {name: _EIGHT for name, group in groups.items() if _EIGHT in group.candidates}
    integer_file = model.file(model.plan(eight))
    owner = _owners(model)
    in_float, rest_float, unnamed = _times(float_file, owner, model, target)
    in_integers, rest_integer, _ = _times(integer_file, owner, model, target)
    found = {
        name: {p: in_integers[name] if p.activation_bits <= 8 else in_float[name] for p in group.candidates}
        for name, group in groups.items()
    }
    reference = _milliseconds(model, model.network.onnx, target)
    note = (
        f"measured in {target.runtime}, {target.threads} thread(s): {sum(in_float.values()):.2f} ms in the groups in "
        f"floating point, {sum(in_integers.values()):.2f} ms at 8 bits; {rest_integer:.2f} ms in {unnamed} operations "
        "of no group"
    )
    return GroupTimes(found, min(rest_float, rest_integer), reference, note)


def measured_ratio(model: CalibratedModel, content: bytes, target: QuantizationContext) -> float:
    """Return the time of a file as a share of the user's full-precision file, both run in turns, batch 1."""
    files = {"fp32": model.network.onnx, "file": content}
    embedders = {
        name: open_embedder(onnx, model.network.spec, runtime=target.runtime, threads=target.threads)
        for name, onnx in files.items()
    }
    found = measure_latency(embedders, reference="fp32", batches=(1,), rounds=_ROUNDS)
    ratio = found["file"][0].ratio_to_reference
    assert ratio is not None
    return ratio


def _milliseconds(model: CalibratedModel, content: bytes, target: QuantizationContext) -> float:
    embedder = open_embedder(content, model.network.spec, runtime=target.runtime, threads=target.threads)
    return measure_latency({"file": embedder}, reference="file", batches=(1,), rounds=_ROUNDS)["file"][0].median_ms


def _owners(model: CalibratedModel) -> dict[str, str]:
    """Return the group of every name that the runtime's profiler may use: operations, and the tensors they make."""
    graph = model.simulation.graph
    users = graph.consumers()
    groups: dict[str, Group] = {each: group for group in model.simulation.groups.values() for each in group.operations}
    owner: dict[str, str] = {}
    for node in graph.nodes:
        group = groups.get(node.name)
        while group is not None:
            owner[node.name] = owner[node.output[0]] = group.name
            # what the kernel carries along is timed with it, or by a name of its own
            following = users.get(node.output[0], [])
            if len(following) != 1 or following[0].name in groups:
                break
            node = following[0]
    return owner


def _times(
    content: bytes, owner: dict[str, str], model: CalibratedModel, target: QuantizationContext
) -> tuple[dict[str, float], float, int]:
    """Return milliseconds by group, of all the rest, and how many operations are the rest."""
    found = profile(content, model.network.spec, threads=target.threads, runs=_RUNS)
    by_group = dict.fromkeys(model.simulation.groups, 0.0)
    rest, unnamed = 0.0, 0
    for node in found.nodes:
        name = re.sub(r"(_token_\d+|_nchwc)$", "", node.name)
        if name in owner:
            by_group[owner[name]] += node.milliseconds
        else:
            rest += node.milliseconds
            unnamed += 1
    return by_group, rest, unnamed
